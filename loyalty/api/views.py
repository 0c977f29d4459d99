"""What the operations of each API share: who may ask, and how a request is done once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar, cast

from django.contrib.auth.models import User
from django.db import models, transaction
from django.db.models import QuerySet
from django.utils import timezone
from rest_framework.authentication import SessionAuthentication
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from loyalty.api import throttling
from loyalty.api.addresses import client_address
from loyalty.api.authentication import Till, TillAuthentication, UserKeyAuthentication
from loyalty.api.idempotency import asked_once
from loyalty.api.operations import Access, Asked, Operation, kept
from loyalty.api.parsing import StrictJsonParser
from loyalty.api.problems import (
    NotAuthenticated,
    PermissionDenied,
    StaffSessionRequired,
    StoreNotActive,
)
from loyalty.errors import LoyaltyError, MerchantNotFound
from loyalty.models import Merchant, Program, StaffMember, Store
from loyalty.services import once
from loyalty.services.once import Client

M = TypeVar("M", bound=models.Model)
STORE_TAG, ADMIN_TAG = "Loyalty - Store", "Loyalty - Admin"
RANKS = [StaffMember.Role.CASHIER, StaffMember.Role.SUPERVISOR, StaffMember.Role.MANAGER]


class ApiView(APIView):
    """A place of the API. Each of its methods is an `operation`."""

    renderer_classes: Sequence[type[BaseRenderer]] = (JSONRenderer,)
    parser_classes: Sequence[type[BaseParser]] = (StrictJsonParser,)
    permission_classes = ()
    throttle_classes = ()
    metadata_class = None
    tag: ClassVar[str]

    def permission_denied(self, request: Request, message: str | None = None, code: str | None = None) -> Any:
        raise PermissionDenied


@dataclass(frozen=True, kw_only=True)
class AskedAtStore(Asked):
    """What a till asks."""

    store: Store
    merchant: Merchant
    staff_member: StaffMember | None
    actor: str
    session_token: str
    client: Client


class StoreView(ApiView):
    """An operation at the till. The store comes with the key."""

    authentication_classes = (TillAuthentication,)
    tag = STORE_TAG

    def asked(self, request: Request, declared: Operation, *, body: Any, query: Any) -> AskedAtStore:
        till = cast(Till, request.user)
        store = till.store
        throttling.take(declared.throttle, f"store:{store.pk}", factor=store.throttle_factor)
        return AskedAtStore(
            at=timezone.now(),
            body=body,
            query=query,
            request=asked_once(request, required=True, status=declared.status, merchant_id=store.merchant_id)
            if declared.keyed
            else None,
            store=store,
            merchant=store.merchant,
            staff_member=till.staff_member,
            actor=till.actor,
            session_token=request.headers.get("X-Staff-Session", ""),
            client=Client(client_address(request), request.headers.get("User-Agent", "")),
        )

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if not isinstance(request.user, Till):
            raise NotAuthenticated("Send the key of your store: Authorization: Api-Key <key>.")
        method = getattr(self, (request.method or "").lower(), None)
        if declared := getattr(method, "operation", None):
            _require_till(request.user, declared)

    def perform(self, declared: Operation, asked: Asked, act: Callable[[Any], Any]) -> Any:
        return act(asked)


def _require_till(till: Till, declared: Operation) -> None:
    """Refuse a till that is switched off, and what wants a person who has signed in.

    Raises:
        StoreNotActive, StaffSessionRequired, PermissionDenied.
    """
    if not till.store.is_active or not till.store.merchant.is_active:
        raise StoreNotActive("This store is switched off. Ask your back office.")
    member = till.staff_member
    wants_person = declared.changes and till.program and till.program.staff_pin_policy == Program.PinPolicy.REQUIRED
    if member is None and (declared.staff_role or wants_person):
        raise StaffSessionRequired("Please sign in with your PIN first.")
    if declared.staff_role and member and RANKS.index(_role(member)) < RANKS.index(_rank(declared.staff_role)):
        raise PermissionDenied(f"This needs a {declared.staff_role}.")


def _role(member: StaffMember) -> StaffMember.Role:
    return StaffMember.Role(member.role)


def _rank(name: str) -> StaffMember.Role:
    return StaffMember.Role(name)


@dataclass(frozen=True, kw_only=True)
class AskedByUser(Asked):
    """What a back office asks. What it names is found through `find`, which also asks whether the user may."""

    user: User
    access: Access

    @property
    def actor(self) -> str:
        return self.user.get_username()

    def request_about(self, merchant: Merchant) -> once.Request | None:
        """The request's key for a verb that moves a balance of this merchant."""
        return replace(self.request, merchant_id=merchant.pk) if self.request else None

    @property
    def merchants(self) -> "QuerySet[Merchant]":
        """Those whose data the user may see."""
        return Merchant.objects.readable_by(self.user)

    def manages(self, merchant: Merchant) -> bool:
        """Whether the user may do more for the merchant than read and give back."""
        return Merchant.objects.managed_by(self.user).filter(pk=merchant.pk).exists()

    def merchant(self, merchant_id: int) -> Merchant:
        """The merchant, if the user may do this for it.

        Raises:
            MerchantNotFound: it is unknown or not the user's. PermissionDenied: the role is not enough.
        """
        return self.find(
            Merchant.objects.all(), merchant_id, "pk", MerchantNotFound("This merchant is not known here.")
        )

    def find(self, rows: "QuerySet[M]", pk: int, merchant_path: str, unknown: LoyaltyError) -> M:
        """The row, if it belongs to a merchant for which the user may do this. The path leads to the merchant.

        Raises:
            PermissionDenied: the user may see it, but not do this. The error `unknown`: anything else.
        """
        found = rows.filter(**{f"{merchant_path}__in": self.merchants}).filter(pk=pk).first()
        if found is None:
            raise unknown
        if self.access is Access.MANAGE:
            managed = rows.filter(**{f"{merchant_path}__in": Merchant.objects.managed_by(self.user)})
            if not managed.filter(pk=pk).exists():
                raise PermissionDenied("Your role for this merchant does not allow this.")
        return found


class AdminView(ApiView):
    """An operation of a back office."""

    authentication_classes = (UserKeyAuthentication, SessionAuthentication)
    tag = ADMIN_TAG

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if not isinstance(request.user, User):
            raise NotAuthenticated("Send your key, Authorization: Api-Key <key>, or log in.")
        method = getattr(self, (request.method or "").lower(), None)
        declared = getattr(method, "operation", None)
        if declared and declared.access is Access.PLATFORM and not request.user.is_superuser:
            raise PermissionDenied("Only platform admins may do this.")

    def asked(self, request: Request, declared: Operation, *, body: Any, query: Any) -> AskedByUser:
        user = cast(User, request.user)
        throttling.take("admin", f"user:{user.pk}")
        key = None
        if declared.changes:
            key = asked_once(request, required=False, status=declared.status, merchant_id=None, user_id=user.pk)
        return AskedByUser(at=timezone.now(), body=body, query=query, request=key, user=user, access=declared.access)

    def perform(self, declared: Operation, asked: Asked, act: Callable[[Any], Any]) -> Any:
        """Do it once. What moves a balance keeps its key by itself; the rest keeps the answer beside its change."""
        if asked.request is None or declared.keyed:
            return act(asked)
        if declared.commits:
            once.look(asked.request)
            result = act(asked)
            with once.once(asked.request):  # a twin that was faster has answered for both
                once.record(asked.request, answer=kept(declared, result), at=asked.at)
            return result
        with once.once(asked.request), transaction.atomic():
            once.look(asked.request)
            result = act(asked)
            once.record(asked.request, answer=kept(declared, result), card_id=declared.card_of(result), at=asked.at)
        return result
