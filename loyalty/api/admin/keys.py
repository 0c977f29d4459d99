"""Keys, as back offices ask for them and see them: those of tills and their own."""

from typing import Any

from rest_framework import serializers

from loyalty.api.fields import In, Moment, Text
from loyalty.models import StoreApiKey, UserApiKey
from loyalty.services.keys import LONGEST_LABEL, IssuedKey

SHOWN_ONCE = "The key in full. It is shown here and never again."
EXPIRES = "null: it is good until it is revoked."


class KeyIn(In):
    example = {"label": "Till 1", "expires_at": "2027-01-31T23:00:00+01:00"}

    label = Text(max_length=LONGEST_LABEL, help_text="Tells this key from others.")  # type: ignore[assignment]
    expires_at = Moment(required=False, allow_null=True, default=None, help_text=EXPIRES)


class UserKeyOut(serializers.Serializer[StoreApiKey | UserApiKey]):
    """A key of yours. It may do what you may."""

    example: dict[str, Any] = {
        "id": 12,
        "label": "Accounting",
        "prefix": "user_8Jm2xQr",
        "created_at": "2026-03-02T12:00:00Z",
        "last_used_at": "2026-03-31T06:55:00Z",
        "expires_at": None,
        "revoked_at": None,
    }

    id = serializers.IntegerField()
    label = serializers.CharField()  # type: ignore[assignment]
    prefix = serializers.CharField(help_text="The visible beginning of the key.")
    created_at = serializers.DateTimeField()
    last_used_at = serializers.DateTimeField(allow_null=True, help_text="Noted at most every five minutes.")
    expires_at = serializers.DateTimeField(allow_null=True, help_text=EXPIRES)
    revoked_at = serializers.DateTimeField(allow_null=True)


class NewUserKeyOut(UserKeyOut):
    """A new key of yours."""

    example = {
        **UserKeyOut.example,
        "last_used_at": None,
        "key": "user_8Jm2xQrWcF0pZt5nVb1LkYdGh3sAe7uRiTo9qPjMz4w",
    }

    key = serializers.CharField(help_text=SHOWN_ONCE)

    def to_representation(self, instance: Any) -> dict[str, Any]:
        return _in_full(instance, UserKeyOut)


class StoreKeyOut(UserKeyOut):
    """A key that a till signs in with."""

    example = {"store_id": 3, **UserKeyOut.example, "label": "Till 1", "prefix": "till_Zp4mWq8"}

    store_id = serializers.IntegerField()


class NewStoreKeyOut(StoreKeyOut):
    """A new key for a till."""

    example = {
        **StoreKeyOut.example,
        "last_used_at": None,
        "key": "till_Zp4mWq8yTn2cRx6vKb0JsLdFh5gAe3uRiTo9qPjMz1w",
    }

    key = serializers.CharField(help_text=SHOWN_ONCE)

    def to_representation(self, instance: Any) -> dict[str, Any]:
        return _in_full(instance, StoreKeyOut)


def _in_full(issued: IssuedKey[Any], answer: type[UserKeyOut]) -> dict[str, Any]:
    return {**answer(issued.record).data, "key": issued.key}
