"""Settings of a merchant are saved only when every rule of their model agrees."""

from collections.abc import Mapping
from typing import Any, TypeVar

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import IntegrityError, models, transaction

from loyalty.errors import InvalidInput, NothingToChange

M = TypeVar("M", bound=models.Model)


def save_checked(instance: M, **values: Any) -> M:
    """Give a new or existing row these values and save it.

    Raises:
        InvalidInput: a value breaks a rule of the model, or somebody else has it; `field` names it.
        NothingToChange: an existing row has all of these values.
    """
    changed = {name: value for name, value in values.items() if getattr(instance, name) != value}
    if not changed and not instance._state.adding:
        raise NothingToChange("Nothing is different from what is there.")
    for name, value in changed.items():
        setattr(instance, name, value)
    _check(instance)
    try:
        with transaction.atomic():
            instance.save(update_fields=None if instance._state.adding else list(changed))
    except IntegrityError:
        # Somebody took the same name at the same moment: now the rules of the model see it.
        _check(instance)
        raise
    return instance


def _check(instance: models.Model) -> None:
    try:
        instance.full_clean()
    except ValidationError as error:
        raise _refusal(error.message_dict) from None


def _refusal(problems: Mapping[str, list[str]]) -> InvalidInput:
    """The first problem, with the name of its field."""
    name, sentences = next(iter(problems.items()))
    if name == NON_FIELD_ERRORS:
        return InvalidInput(" ".join(sentences))
    return InvalidInput(f"{name}: {' '.join(sentences)}", field=name)
