"""When points expire: changed only after its impact was shown and confirmed."""

from dataclasses import asdict, dataclass, fields, replace
from datetime import date, datetime
from typing import Any

import structlog
from django.db import transaction

from loyalty.errors import ConfirmationRequired, InvalidPolicy, NothingToChange
from loyalty.models import Merchant, PolicyChange, Program
from loyalty.models.program import LATEST_PAUSE, LONGEST_EXPIRATION_DAYS, LONGEST_WARNING_DAYS
from loyalty.services.adjustments import require_reason
from loyalty.services.policy_impact import PolicyImpact, forgotten_before, impact_of, outlived_promises, warned_cards
from loyalty.services.programs import require_version_seen

log = structlog.get_logger()
QUEBEC = "For customers in Quebec, the law asks for a notice 30 to 60 days before points expire."


@dataclass(frozen=True, kw_only=True)
class PolicyTerms:
    """The settings of a program that decide when points expire, under the names that they have there."""

    points_expiration_days: int | None
    expiration_warning_days: int
    require_expiration_notice: bool
    expiration_paused_until: date | None

    @classmethod
    def of(cls, program: Program) -> "PolicyTerms":
        return cls(
            points_expiration_days=program.points_expiration_days,
            expiration_warning_days=program.expiration_warning_days,
            require_expiration_notice=program.require_expiration_notice,
            expiration_paused_until=program.expiration_paused_until,
        )

    def as_json(self) -> dict[str, Any]:
        return {key: str(value) if isinstance(value, date) else value for key, value in asdict(self).items()}

    @property
    def sentence(self) -> str:
        if not self.points_expiration_days:
            return "Points never expire."
        warned = f"{_days(self.expiration_warning_days)} before" if self.expiration_warning_days else "on the last day"
        without = "" if self.require_expiration_notice else " Points also go without a warning."
        paused = self.expiration_paused_until
        return (
            f"Points expire after {_days(self.points_expiration_days)} without activity. "
            f"Customers are warned {warned}.{without}"
            f"{f' Nothing expires to the end of {paused:%d %B %Y}.' if paused else ''}"
        )

    def are_paused(self, today: date) -> bool:
        return self.expiration_paused_until is not None and today <= self.expiration_paused_until


POLICY_FIELDS = frozenset(field.name for field in fields(PolicyTerms))


@dataclass(frozen=True)
class PolicyInForce:
    """The terms of a program on one day. `hint` is what the law says about notices where the merchant sells."""

    terms: PolicyTerms
    version: int
    is_paused: bool
    hint: str


def policy_in_force(*, program: Program, at: datetime) -> PolicyInForce:
    """When the program's points expire, as it is at this moment."""
    is_paused = program.is_paused(program.policy.local_date(at))
    return PolicyInForce(PolicyTerms.of(program), program.version, is_paused, notice_hint(program.merchant))


def notice_hint(merchant: Merchant) -> str:
    """What the law where the merchant sells says about notices; empty where we know of nothing."""
    return QUEBEC if merchant.country == "CA" else ""


def validate_terms(terms: PolicyTerms) -> None:
    """Refuse a policy that contradicts itself.

    Raises:
        InvalidPolicy: the sentence names the numbers and the remedy.
    """
    days, warning = terms.points_expiration_days or 0, terms.expiration_warning_days
    if not 0 <= days <= LONGEST_EXPIRATION_DAYS or not 0 <= warning <= LONGEST_WARNING_DAYS:
        raise InvalidPolicy(
            f"Points expire after 1 to {LONGEST_EXPIRATION_DAYS} days, with a warning 0 to {LONGEST_WARNING_DAYS} "
            "days before; 0 days of expiry mean never."
        )
    if terms.expiration_paused_until and terms.expiration_paused_until > LATEST_PAUSE:
        raise InvalidPolicy(
            f"A pause ends on {LATEST_PAUSE:%d %B %Y} at the latest. If points shall never expire, choose 0 days."
        )
    if days and terms.require_expiration_notice and days <= warning:
        raise InvalidPolicy(
            f"Points cannot expire after {days} days when customers are warned {warning} days before. "
            f"Choose more than {warning} days, a shorter warning, or switch the required notice off."
        )


def preview_policy(*, program: Program, terms: PolicyTerms, at: datetime) -> PolicyImpact:
    """Tell what a policy would mean, and whether it needs a confirmation. Reads only.

    Raises:
        InvalidPolicy: the policy contradicts itself.
    """
    validate_terms(terms)
    proposed = _with_terms(program, terms)
    today = proposed.policy.local_date(at)
    takes_sooner = _takes_sooner(PolicyTerms.of(program), terms, today)
    if not proposed.expires:
        return PolicyImpact(0, 0, 0, None, needs_confirmation=False)
    return impact_of(program, proposed, today=today, needs_confirmation=takes_sooner)


@transaction.atomic
def change_policy(
    *,
    program_id: int,
    terms: PolicyTerms,
    actor: str,
    at: datetime,
    confirmed_cards: int | None = None,
    reason: str = "",
    seen_version: int | None = None,
) -> Program:
    """Change when a program's points expire, and keep who confirmed what.

    A change that takes points sooner needs `confirmed_cards`: the number of cards past the limit that was shown;
    more than that asks again. Promises that were made are kept. Switching on, lengthening and ending a pause
    forget earlier warnings, so that customers are warned again in time. `seen_version` is the version of the program
    on which a person decided; None changes whatever there is.

    Raises:
        ProgramChanged: the program has another version than the one seen.
        InvalidPolicy: the policy contradicts itself.
        NothingToChange: the program has this policy already.
        ConfirmationRequired: the impact was not confirmed; details carry it.
    """
    program = _locked(program_id)
    require_version_seen(program, seen_version)
    old = PolicyTerms.of(program)
    if old == terms:
        raise NothingToChange("The program has this policy already.")
    impact = preview_policy(program=program, terms=terms, at=at)
    if impact.needs_confirmation and (confirmed_cards is None or impact.cards_past_limit > confirmed_cards):
        raise ConfirmationRequired(f"Please confirm: {impact.sentence}", impact=impact.as_json())
    _forget_warnings(program, _with_terms(program, terms), program.policy.local_date(at))
    program = _with_terms(program, terms)
    program.version += 1
    program.save(update_fields=[*asdict(terms), "version"])
    PolicyChange.objects.create(
        program=program,
        old_policy=old.as_json(),
        new_policy=terms.as_json(),
        impact=impact.as_json(),
        actor=actor,
        reason=reason,
        changed_at=at,
    )
    log.info("loyalty.policy_changed", merchant_id=program.merchant_id, program_id=program.pk)
    return program


@transaction.atomic
def pause_expiry(
    *, program_id: int, until: date, reason: str, actor: str, at: datetime, confirmed_cards: int | None = None
) -> Program:
    """Let nothing be warned about and nothing expire, up to and including this local day. Promises are kept.

    An earlier end of a pause takes points sooner, and so needs `confirmed_cards`, as `change_policy` says.

    Raises:
        InvalidPolicy: the day is over already, or too far away.
        NothingToChange: it is paused until that day.
        ConfirmationRequired: the impact was not confirmed; details carry it.
        ReasonRequired, InvalidInput: there is no usable reason.
    """
    reason = require_reason(reason)
    program = _locked(program_id)
    today = program.policy.local_date(at)
    if until < today:
        raise InvalidPolicy(f"A pause ends today, on {today:%d %B %Y}, or later.")
    terms = replace(PolicyTerms.of(program), expiration_paused_until=until)
    return change_policy(
        program_id=program_id,
        terms=terms,
        actor=actor,
        at=at,
        confirmed_cards=confirmed_cards,
        reason=reason,
    )


@transaction.atomic
def resume_expiry(
    *, program_id: int, reason: str, actor: str, at: datetime, confirmed_cards: int | None = None
) -> Program:
    """End a pause now. Customers are warned again, with a full notice, before anything expires.

    Raises:
        NothingToChange: there is no pause, or it is over.
        ConfirmationRequired: the impact was not confirmed; details carry it.
        ReasonRequired, InvalidInput: there is no usable reason.
    """
    reason = require_reason(reason)
    program = _locked(program_id)
    terms = PolicyTerms.of(program)
    if not terms.are_paused(program.policy.local_date(at)):
        raise NothingToChange("Expiry is not paused.")
    return change_policy(
        program_id=program_id,
        terms=replace(terms, expiration_paused_until=None),
        actor=actor,
        at=at,
        confirmed_cards=confirmed_cards,
        reason=reason,
    )


def _locked(program_id: int) -> Program:
    return Program.objects.select_for_update(of=("self",)).select_related("merchant").get(pk=program_id)


def _days(number: int) -> str:
    return "1 day" if number == 1 else f"{number} days"


def _with_terms(program: Program, terms: PolicyTerms) -> Program:
    proposed = Program(**{field.attname: getattr(program, field.attname) for field in Program._meta.concrete_fields})
    proposed._state.adding = False
    proposed.merchant = program.merchant
    for name, value in asdict(terms).items():
        setattr(proposed, name, value)
    return proposed


def _takes_sooner(old: PolicyTerms, new: PolicyTerms, today: date) -> bool:
    """Whether some card could lose its points earlier, or with a shorter notice, than before the change."""
    if not new.points_expiration_days:
        return False
    return (
        not old.points_expiration_days
        or new.points_expiration_days < old.points_expiration_days
        or new.expiration_warning_days < old.expiration_warning_days
        or (old.require_expiration_notice and not new.require_expiration_notice)
        or (old.are_paused(today) and (new.expiration_paused_until or today) < (old.expiration_paused_until or today))
    )


def _forget_warnings(old: Program, new: Program, today: date) -> None:
    """Let customers be warned again whose promised day is no longer the day on which their points go."""
    if moment := forgotten_before(old, new, today):
        warned_cards(new).filter(last_expiration_warning_at__lt=moment).update(last_expiration_warning_at=None)
    for promised, idle_since in outlived_promises(old, new).items():
        outlived = warned_cards(new).filter(expiration_warned_for=promised, last_activity_at__gte=idle_since)
        outlived.update(last_expiration_warning_at=None)
