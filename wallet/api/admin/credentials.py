"""Credentials: how long they last, and switching between their versions. No answer holds a secret."""

from typing import Any

from django.db.models import DateTimeField, QuerySet, Value
from django.urls import path
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from loyalty.api.operations import Access, operation
from loyalty.api.views import AdminView, AskedByUser
from loyalty.errors import NothingToChange
from wallet.errors import CredentialNotFound, CredentialNotUsable
from wallet.models import Credential
from wallet.services import credentials

TRIED_FIRST = [CredentialNotFound, CredentialNotUsable, NothingToChange]


class CredentialOut(serializers.Serializer[Credential]):
    """A version of a credential, without what is secret."""

    example: dict[str, Any] = {
        "id": 3,
        "kind": "apple",
        "identifier": "pass.com.example.loyalty",
        "version": 2,
        "status": "active",
        "subject": "UID=pass.com.example.loyalty,CN=Pass Type ID: pass.com.example.loyalty,OU=A1B2C3D4E5",
        "serial": "5e0c4f3a2b1d",
        "fingerprint": "9f2c1a0e6d7b48539f2c1a0e6d7b48539f2c1a0e6d7b48539f2c1a0e6d7b4853",
        "valid_from": "2026-01-12T09:00:00Z",
        "valid_until": "2027-02-11T09:00:00Z",
        "days_left": 317,
        "secret_in": "database",
        "imported_at": "2026-01-13T10:12:00Z",
        "imported_by": "ana",
        "activated_at": "2026-01-13T10:15:00Z",
        "activated_by": "ana",
        "checked_at": "2026-03-31T12:00:00Z",
        "check_error": "",
    }

    id = serializers.IntegerField()
    kind = serializers.ChoiceField(choices=Credential.Kind.choices)
    identifier = serializers.CharField(help_text="The pass type, the issuer, or the name of an intermediate.")
    version = serializers.IntegerField()
    status = serializers.ChoiceField(choices=Credential.Status.choices)
    subject = serializers.CharField(help_text="Whose it is: the certificate's subject or the account.")
    serial = serializers.CharField(help_text="The certificate's serial number, or the id of the key.")
    fingerprint = serializers.CharField(help_text="SHA-256 of the certificate, or of the public key.")
    valid_from = serializers.DateTimeField()
    valid_until = serializers.DateTimeField(allow_null=True, help_text="Null: it does not expire by itself.")
    days_left = serializers.SerializerMethodField(help_text="Negative after its end.")
    secret_in = serializers.SerializerMethodField(help_text="Where its secret is kept; an intermediate has none.")
    imported_at = serializers.DateTimeField()
    imported_by = serializers.CharField()
    activated_at = serializers.DateTimeField(allow_null=True)
    activated_by = serializers.CharField()
    checked_at = serializers.DateTimeField(allow_null=True, help_text="When it was last tried against the platform.")
    check_error = serializers.CharField(help_text="Why that failed, if it did.")

    def get_days_left(self, credential: Credential) -> int | None:
        return credential.days_left(credential.asked_at)  # type: ignore[attr-defined]

    @extend_schema_field(serializers.ChoiceField(choices=["database", "file", "nowhere"]))
    def get_secret_in(self, credential: Credential) -> str:
        if credential.kind == Credential.Kind.WWDR:
            return "nowhere"
        return "file" if credential.secret_file else "database"


class Credentials(AdminView):
    @operation(
        name="admin_wallet_credentials_list",
        summary="List credentials",
        answer=CredentialOut,
        many=True,
        access=Access.PLATFORM,
    )
    def get(self, asked: AskedByUser) -> "list[Credential]":
        """All versions of all credentials, the newest of each first. `manage.py wallet_credentials` brings in more."""
        return list(_shown(asked).order_by("kind", "identifier", "-version"))


class Activate(AdminView):
    @operation(
        name="admin_wallet_credentials_activate",
        summary="Use a version of a credential",
        answer=CredentialOut,
        refusals=TRIED_FIRST,
        changes=True,
        commits=True,
        access=Access.PLATFORM,
    )
    def post(self, asked: AskedByUser, credential_id: int) -> Credential:
        """On every host, from the next use on. The version that was active becomes the previous one.

        It is tried against the platform first, while the client waits; nothing changes if the platform does not take
        it. Calls that rested for a bad credential go on by themselves.
        """
        active = credentials.activate(credential_id=credential_id, actor=asked.actor, at=asked.at)
        return _shown(asked).get(pk=active.pk)


class Rollback(AdminView):
    @operation(
        name="admin_wallet_credentials_rollback",
        summary="Go back to the version before",
        answer=CredentialOut,
        refusals=TRIED_FIRST,
        changes=True,
        commits=True,
        access=Access.PLATFORM,
    )
    def post(self, asked: AskedByUser, credential_id: int) -> Credential:
        """Takes the active version that the path names out of use; answers the version that takes its place.

        The two change places. As with activating, the version is tried first.
        """
        credential = _shown(asked).filter(pk=credential_id).first()
        if credential is None:
            raise CredentialNotFound("This credential is not known here.")
        if credential.status != Credential.Status.ACTIVE:
            raise CredentialNotUsable("Only from the active version is there a way back. Activate another one instead.")
        active = credentials.rollback(
            kind=credential.kind, identifier=credential.identifier, actor=asked.actor, at=asked.at
        )
        return _shown(asked).get(pk=active.pk)


def _shown(asked: AskedByUser) -> "QuerySet[Credential]":
    """Credentials without what is secret, and with `asked_at`: the days that are left depend on it."""
    shown = Credential.objects.defer("certificate", "sealed_secret")
    return shown.annotate(asked_at=Value(asked.at, output_field=DateTimeField()))


urlpatterns = [
    path("wallet/credentials", Credentials.as_view()),
    path("wallet/credentials/<id:credential_id>/activate", Activate.as_view()),
    path("wallet/credentials/<id:credential_id>/rollback", Rollback.as_view()),
]
