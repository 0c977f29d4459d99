"""Staff members: who works at the tills, their PINs and locks."""

from collections.abc import Sequence
from typing import Any

from django.db.models import QuerySet
from django.urls import path
from rest_framework import serializers

from loyalty import errors
from loyalty.api.admin.finding import find_staff_member, find_stores
from loyalty.api.fields import Flag, Id, In, Text
from loyalty.api.operations import Access, operation
from loyalty.api.pages import PageQuery
from loyalty.api.views import AdminView, AskedByUser
from loyalty.models import Merchant, StaffMember
from loyalty.services import keys, staff
from loyalty.services.staff import IssuedPin

MOST_STORES = 500
ROLE: dict[str, Any] = {
    "choices": StaffMember.Role.choices,
    "help_text": "A supervisor voids without a time limit; a manager also sees the reports.",
}
EVERYWHERE = "Where they work. Empty: in all stores of the merchant."


class StoreIds(serializers.ListField):
    """Ids of stores. Counted before they are looked at, so that a list without end costs nothing."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"child": Id(), "max_length": MOST_STORES, "help_text": EVERYWHERE, **options})

    def to_internal_value(self, data: Any) -> list[int]:
        if isinstance(data, Sequence) and len(data) > MOST_STORES:
            self.fail("max_length", max_length=MOST_STORES)
        return list(super().to_internal_value(data))


class StaffMemberOut(serializers.Serializer[StaffMember]):
    """A person at the till, known by a PIN."""

    example = {
        "id": 5,
        "merchant_id": 4,
        "display_name": "Kim",
        "role": "cashier",
        "store_ids": [3],
        "is_active": True,
        "failed_attempts": 0,
        "locked_until": None,
    }

    id = serializers.IntegerField()
    merchant_id = serializers.IntegerField()
    display_name = serializers.CharField()
    role = serializers.ChoiceField(**ROLE)
    store_ids = serializers.SerializerMethodField(help_text=EVERYWHERE)
    is_active = serializers.BooleanField()
    failed_attempts = serializers.IntegerField(help_text="Wrong PINs in a row.")
    locked_until = serializers.DateTimeField(allow_null=True, help_text="Until then no PIN is compared.")

    def get_store_ids(self, member: StaffMember) -> list[int]:
        return sorted(store.pk for store in member.stores.all())


class NewPinOut(StaffMemberOut):
    """A staff member with a new PIN."""

    example = {**StaffMemberOut.example, "pin": "204816"}

    pin = serializers.CharField(help_text="It is shown here and never again.")

    def to_representation(self, instance: Any) -> dict[str, Any]:
        issued: IssuedPin = instance
        return {**StaffMemberOut(issued.staff_member).data, "pin": issued.pin}


class StaffQuery(PageQuery):
    is_active = serializers.BooleanField(required=False)
    role = serializers.ChoiceField(choices=StaffMember.Role.choices, required=False)


class NewStaffMemberIn(In):
    example = {"display_name": "Kim", "role": "cashier", "store_ids": [3]}

    display_name = Text(max_length=keys.LONGEST_LABEL, help_text="As it stands on the till's screen and in the ledger.")
    role = serializers.ChoiceField(**ROLE)
    store_ids = StoreIds(required=False)


class StaffMemberIn(In):
    example = {"role": "supervisor", "is_active": True}

    display_name = Text(max_length=keys.LONGEST_LABEL, required=False)
    role = serializers.ChoiceField(**ROLE, required=False)
    store_ids = StoreIds(required=False)
    is_active = Flag(required=False, help_text="Who is switched off is signed out at every till.")


class Staff(AdminView):
    @operation(
        name="admin_staff_list",
        summary="List the staff of a merchant",
        query=StaffQuery,
        answer=StaffMemberOut,
        refusals=[errors.MerchantNotFound],
        pages=("-pk",),
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, merchant_id: int) -> "QuerySet[StaffMember]":
        """Newest first."""
        rows = StaffMember.objects.filter(merchant=asked.merchant(merchant_id)).prefetch_related("stores")
        filters = {name: asked.query[name] for name in ("is_active", "role") if name in asked.query}
        return rows.filter(**filters)

    @operation(
        name="admin_staff_add",
        summary="Add a staff member",
        body=NewStaffMemberIn,
        answer=NewPinOut,
        status=201,
        refusals=[errors.MerchantNotFound, errors.StoreNotFound, errors.InvalidInput],
        changes=True,
        secret=True,
    )
    def post(self, asked: AskedByUser, merchant_id: int) -> IssuedPin:
        """A PIN of six digits is drawn. The answer is the only place where it is ever shown."""
        merchant = asked.merchant(merchant_id)
        return staff.add_staff_member(
            merchant=merchant, **_with_stores({"store_ids": [], **asked.body}, merchant), actor=asked.actor, at=asked.at
        )


class OneStaffMember(AdminView):
    @operation(
        name="admin_staff_get",
        summary="See a staff member",
        answer=StaffMemberOut,
        refusals=[errors.StaffMemberNotFound],
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, staff_member_id: int) -> StaffMember:
        return find_staff_member(asked, staff_member_id)

    @operation(
        name="admin_staff_update",
        summary="Change a staff member",
        body=StaffMemberIn,
        answer=StaffMemberOut,
        refusals=[
            errors.StaffMemberNotFound,
            errors.StoreNotFound,
            errors.NothingToChange,
            errors.InvalidInput,
        ],
        changes=True,
    )
    def patch(self, asked: AskedByUser, staff_member_id: int) -> StaffMember:
        """What is not sent stays. Nobody is deleted, because the ledger names them: switch them off instead."""
        merchant = find_staff_member(asked, staff_member_id).merchant
        return staff.update_staff_member(
            merchant=merchant,
            staff_member_id=staff_member_id,
            **_with_stores(asked.body, merchant),
            actor=asked.actor,
            at=asked.at,
        )


class ResetPin(AdminView):
    @operation(
        name="admin_staff_reset_pin",
        summary="Give a staff member another PIN",
        answer=NewPinOut,
        refusals=[errors.StaffMemberNotFound],
        changes=True,
        secret=True,
    )
    def post(self, asked: AskedByUser, staff_member_id: int) -> IssuedPin:
        """Ends a lock too, and signs them out at every till. The answer is the only place where the PIN is shown."""
        merchant = find_staff_member(asked, staff_member_id).merchant
        return staff.reset_pin(merchant=merchant, staff_member_id=staff_member_id, actor=asked.actor, at=asked.at)


class Unlock(AdminView):
    @operation(
        name="admin_staff_unlock",
        summary="Let a staff member try the PIN again",
        answer=StaffMemberOut,
        refusals=[errors.StaffMemberNotFound, errors.NothingToChange],
        changes=True,
    )
    def post(self, asked: AskedByUser, staff_member_id: int) -> StaffMember:
        """Unlock only who is known to be the one who mistyped it. The PIN stays as it is."""
        merchant = find_staff_member(asked, staff_member_id).merchant
        return staff.unlock_staff_member(
            merchant=merchant, staff_member_id=staff_member_id, actor=asked.actor, at=asked.at
        )


def _with_stores(body: dict[str, Any], merchant: Merchant) -> dict[str, Any]:
    """The body as verbs take it."""
    values = {name: value for name, value in body.items() if name != "store_ids"}
    return {**values, "stores": find_stores(merchant, body["store_ids"])} if "store_ids" in body else values


urlpatterns = [
    path("merchants/<id:merchant_id>/staff", Staff.as_view()),
    path("staff/<id:staff_member_id>", OneStaffMember.as_view()),
    path("staff/<id:staff_member_id>/reset-pin", ResetPin.as_view()),
    path("staff/<id:staff_member_id>/unlock", Unlock.as_view()),
]
