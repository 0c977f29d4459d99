"""Fields that take exactly what the API description says: no number for a string, no unknown key."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail

LARGEST_ID = 10**18 - 1
LONGEST_REASON = 500
FIRST_YEAR, LAST_YEAR = 1980, 2199


class In(serializers.Serializer[Any]):
    """What an operation takes. Unknown keys are refused: a misspelt one would be lost in silence."""

    default_error_messages = {"invalid": "Send a JSON object."}

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping) and (unknown := [name for name in data if name not in self._writable_names]):
            sentence = "This operation knows no such field."
            raise serializers.ValidationError({name: [ErrorDetail(sentence, "unknown_field")] for name in unknown})
        return super().to_internal_value(data)

    @property
    def _writable_names(self) -> set[str]:
        return {name for name, field in self.fields.items() if not field.read_only}


class Text(serializers.CharField):
    """A string, and nothing that could be made one."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class Reason(Text):
    """Why something is done by hand."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"max_length": LONGEST_REASON, "help_text": "Why; it is kept with the change.", **options})


class Whole(serializers.IntegerField):
    """A whole number, and no string or float that looks like one."""

    def to_internal_value(self, data: Any) -> int:
        if not isinstance(data, int) or isinstance(data, bool):
            self.fail("invalid")
        return super().to_internal_value(data)


class Id(Whole):
    """The id of a thing."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"min_value": 1, "max_value": LARGEST_ID, **options})


class Flag(serializers.BooleanField):
    """True or false, and no word for it."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


@extend_schema_field({"type": "string", "pattern": r"^[0-9]{1,13}(\.[0-9]{1,4})?$", "example": "12.99"})
class Amount(serializers.Field[str, str, str, Any]):
    """An amount of money in the merchant's currency: a decimal string. Read into minor units where it is known."""

    default_error_messages = {
        "invalid": 'Send the amount as a string with a decimal point, such as "12.99", and not as a number.'
    }

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return data

    def to_representation(self, value: str) -> str:
        return value


class Moment(serializers.DateTimeField):
    """A moment with its zone, such as 2026-03-31T14:05:00+02:00."""

    default_error_messages = {
        "out_of_range": f"Years from {FIRST_YEAR} to {LAST_YEAR} are understood.",
        "no_zone": "Name the zone of the moment: end it with Z or an offset such as +02:00.",
    }

    def to_internal_value(self, value: Any) -> datetime:
        if not isinstance(value, str):
            self.fail("invalid", format="ISO 8601")
        moment = super().to_internal_value(value)
        if not FIRST_YEAR <= moment.year <= LAST_YEAR:
            self.fail("out_of_range")
        return moment.astimezone(UTC)

    def enforce_timezone(self, value: datetime) -> datetime:
        if value.tzinfo is None:
            self.fail("no_zone")
        return value


class Day(serializers.DateField):
    """A calendar day, such as 2026-03-31."""

    default_error_messages = {"out_of_range": f"Years from {FIRST_YEAR} to {LAST_YEAR} are understood."}

    def to_internal_value(self, value: Any) -> date:
        if not isinstance(value, str):
            self.fail("invalid", format="YYYY-MM-DD")
        day = super().to_internal_value(value)
        if not FIRST_YEAR <= day.year <= LAST_YEAR:
            self.fail("out_of_range")
        return day


class BirthDay(Day):
    """A date of birth."""

    default_error_messages = {"out_of_range": "This is not the date of birth of anybody alive."}

    def to_internal_value(self, value: Any) -> date:
        if not isinstance(value, str):
            self.fail("invalid", format="YYYY-MM-DD")
        day = serializers.DateField.to_internal_value(self, value)
        if day.year < 1900 or day > timezone.now().date():
            self.fail("out_of_range")
        return day


class Rate(serializers.DecimalField):
    """A rate: a decimal string, so that it is exactly what was sent."""

    default_error_messages = {
        "invalid": 'Send it as a string of digits with a decimal point, such as "1.5".',
        "too_long": "At most {whole} digits stand before the point, and {places} after it.",
    }

    def to_internal_value(self, data: Any) -> Decimal:
        if not isinstance(data, str) or not re.fullmatch(r"[0-9]+(\.[0-9]+)?", data, re.ASCII):
            self.fail("invalid")
        if not re.fullmatch(self.pattern, data):
            self.fail("too_long", whole=self.whole_digits, places=self.decimal_places)
        return super().to_internal_value(data)

    @property
    def whole_digits(self) -> int:
        return int(self.max_digits or 0) - int(self.decimal_places or 0)

    @property
    def pattern(self) -> str:
        return rf"^[0-9]{{1,{self.whole_digits}}}(\.[0-9]{{1,{self.decimal_places}}})?$"
