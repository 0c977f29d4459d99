"""Who asks: a till by its store's key, a back office by a user's key or a login."""

from dataclasses import dataclass
from typing import Any

from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from structlog.contextvars import bind_contextvars

from loyalty.api.problems import InvalidApiKey, InvalidStaffSession
from loyalty.models import Program, StaffMember, Store
from loyalty.services import keys

SCHEME = "Api-Key"


@dataclass(frozen=True)
class Till:
    """A device in a store, and the staff member who is signed in on it, if any."""

    store: Store
    program: Program | None
    staff_member: StaffMember | None
    label: str

    is_authenticated = True

    @property
    def actor(self) -> str:
        """Whom the ledger names: the person, or else the device."""
        return self.staff_member.display_name if self.staff_member else self.label


def _key(request: Request) -> str | None:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if scheme.lower() == SCHEME.lower() else None


class TillAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[Till, None] | None:
        key = _key(request)
        if key is None:
            return None
        token = request.headers.get("X-Staff-Session")
        found = keys.till_signed_in(key=key, session_token=token, at=timezone.now())
        if found is None:
            raise InvalidApiKey("This key is not valid. Ask your back office for a new one.")
        if found.is_token_refused:
            raise InvalidStaffSession("Your session is over. Please sign in with your PIN.")
        bind_contextvars(merchant_id=found.store.merchant_id, store_id=found.store.pk)
        return Till(found.store, found.program, found.staff_member, found.label), None

    def authenticate_header(self, request: Request) -> str:
        return SCHEME


class UserKeyAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[Any, None] | None:
        key = _key(request)
        if key is None:
            return None
        found = keys.user_signed_in(key=key, at=timezone.now())
        if found is None:
            raise InvalidApiKey("This key is not valid. Make a new one in the admin.")
        return found.user, None

    def authenticate_header(self, request: Request) -> str:
        return SCHEME
