"""How the wallet does, for platform admins."""

from typing import Any

from django.urls import path
from rest_framework import serializers

from loyalty.api.operations import Access, operation
from loyalty.api.views import AdminView, AskedByUser
from wallet.api.admin.runs import SyncRunOut
from wallet.models import Breaker, Credential
from wallet.services.status import CredentialStatus, PlatformStatus, WalletStatus, wallet_status


class BreakerOut(serializers.Serializer[Breaker]):
    """Why calls with a credential rest."""

    identifier = serializers.CharField(help_text="The pass type or the issuer.")
    opened_at = serializers.DateTimeField(help_text="Since when.")
    code = serializers.CharField()
    reason = serializers.CharField()
    next_probe_at = serializers.DateTimeField(allow_null=True, help_text="When it is tried next whether it is over.")


class CredentialInUseOut(serializers.Serializer[CredentialStatus]):
    """A credential that is in use."""

    id = serializers.IntegerField(source="credential.pk")
    kind = serializers.ChoiceField(choices=Credential.Kind.choices, source="credential.kind")
    identifier = serializers.CharField(source="credential.identifier")
    version = serializers.IntegerField(source="credential.version")
    valid_until = serializers.DateTimeField(source="credential.valid_until", allow_null=True)
    days_left = serializers.IntegerField(allow_null=True, help_text="Null: it does not expire by itself.")
    days_old = serializers.IntegerField(help_text="Keys of Google should be changed every 90 days.")
    checked_at = serializers.DateTimeField(source="credential.checked_at", allow_null=True)
    check_error = serializers.CharField(source="credential.check_error")


class PlatformOut(serializers.Serializer[PlatformStatus]):
    """How one platform does."""

    passes_behind = serializers.IntegerField(help_text="They show something older than their card has.")
    passes_failing = serializers.IntegerField(help_text="Of these, the last run could not tell phones about so many.")
    passes_given_up = serializers.IntegerField(help_text="They wait for somebody to look and to sync them.")
    breakers = BreakerOut(many=True, help_text="Empty: calls go on.")
    credentials = CredentialInUseOut(many=True, help_text="Apple's intermediate certificates with the others.")


class WalletStatusOut(serializers.Serializer[WalletStatus]):
    """How both platforms do."""

    example: dict[str, Any] = {
        "at": "2026-03-31T12:05:30Z",
        "apple_configured": False,
        "google_configured": True,
        "apple": {
            "passes_behind": 0,
            "passes_failing": 0,
            "passes_given_up": 0,
            "breakers": [],
            "credentials": [],
        },
        "google": {
            "passes_behind": 42,
            "passes_failing": 0,
            "passes_given_up": 0,
            "breakers": [
                {
                    "identifier": "3388000000022244466",
                    "opened_at": "2026-03-31T11:58:12Z",
                    "code": "permission_denied",
                    "reason": "The account is no user of the issuer.",
                    "next_probe_at": "2026-03-31T12:06:00Z",
                }
            ],
            "credentials": [
                {
                    "id": 5,
                    "kind": "google",
                    "identifier": "3388000000022244466",
                    "version": 1,
                    "valid_until": None,
                    "days_left": None,
                    "days_old": 31,
                    "checked_at": "2026-03-31T12:00:00Z",
                    "check_error": "The account is no user of the issuer.",
                }
            ],
        },
        "last_run": SyncRunOut.example,
    }

    at = serializers.DateTimeField()
    apple_configured = serializers.BooleanField(source="apple.is_configured", help_text="Passes can be issued.")
    google_configured = serializers.BooleanField(source="google.is_configured", help_text="Passes can be issued.")
    apple = PlatformOut()
    google = PlatformOut()
    last_run = SyncRunOut(allow_null=True, help_text="The newest that was not left to another one.")


class Status(AdminView):
    @operation(
        name="admin_wallet_status",
        summary="See how the wallet does",
        answer=WalletStatusOut,
        access=Access.PLATFORM,
    )
    def get(self, asked: AskedByUser) -> WalletStatus:
        """What is switched on, how many passes are behind, whether calls rest and why, and how long credentials last.

        Nobody is called for it. With a million passes it takes a second: ask once in a minute, not in a loop.
        """
        return wallet_status(at=asked.at)


urlpatterns = [path("wallet-status", Status.as_view())]
