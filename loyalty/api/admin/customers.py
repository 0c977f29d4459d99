"""Customers: found, put right, given their data, erased."""

from typing import Any, cast

from django.db.models import QuerySet
from django.urls import path
from rest_framework import serializers

from loyalty import errors
from loyalty.api.admin.finding import customers_shown, find_customer, in_sight
from loyalty.api.admin.restoring import ONCE
from loyalty.api.fields import LARGEST_ID, BirthDay, Flag, In, Reason, Text
from loyalty.api.operations import Access, operation
from loyalty.api.pages import PageQuery
from loyalty.api.views import AdminView, AskedByUser
from loyalty.models import Customer
from loyalty.services import privacy
from loyalty.services.customers import CustomerChanges, update_customer
from loyalty.services.privacy import ErasureReport
from loyalty.services.searching import customer_ids


class CustomerOut(serializers.Serializer[Customer]):
    """A person who has, or had, a card of a merchant. Missing values are empty."""

    example = {
        "id": 12,
        "merchant_id": 4,
        "first_name": "Ana",
        "last_name": "Muller",
        "email": "ana@example.com",
        "phone": "+352621123456",
        "birth_date": "1990-05-17",
        "locale": "fr",
        "external_id": "C-0017",
        "terms_accepted_at": "2025-11-02T09:30:00Z",
        "marketing_consent_at": None,
        "created_at": "2025-11-02T09:30:00Z",
        "erased_at": None,
        "card_ids": [17],
    }

    id = serializers.IntegerField()
    merchant_id = serializers.IntegerField()
    first_name = serializers.CharField()
    last_name = serializers.CharField()
    email = serializers.CharField()
    phone = serializers.CharField(help_text="E.164, such as +352621123456.")
    birth_date = serializers.DateField(allow_null=True)
    locale = serializers.CharField(help_text="Empty: the merchant's.")
    external_id = serializers.CharField(help_text="The customer's name in another system.")
    terms_accepted_at = serializers.DateTimeField(allow_null=True)
    marketing_consent_at = serializers.DateTimeField(allow_null=True, help_text="Null: no consent.")
    created_at = serializers.DateTimeField()
    erased_at = serializers.DateTimeField(allow_null=True, help_text="Since when the personal data is gone.")
    card_ids = serializers.ListField(child=serializers.IntegerField(), help_text="Also of closed and merged cards.")


class CustomersQuery(PageQuery):
    merchant_id = serializers.IntegerField(required=False, min_value=1, max_value=LARGEST_ID)
    q = serializers.CharField(
        required=False, max_length=254, help_text="Exactly: an e-mail address, phone number (+352...) or external id."
    )


class CustomerIn(In):
    example = {"first_name": "Ana", "email": "ana@example.com", "accepts_marketing": False}

    first_name = Text(max_length=80, required=False, allow_blank=True)
    last_name = Text(max_length=80, required=False, allow_blank=True)
    email = Text(max_length=254, required=False, allow_blank=True)
    phone = Text(
        max_length=32,
        required=False,
        allow_blank=True,
        help_text="International, or as numbers are written in the merchant's country.",
    )
    birth_date = BirthDay(required=False, allow_null=True)
    locale = serializers.ChoiceField(
        choices=["", "en", "fr", "de", "lb"], required=False, help_text="Empty: the merchant's."
    )
    external_id = Text(max_length=80, required=False, allow_blank=True)
    accepts_marketing = Flag(required=False, help_text="Whether the customer consents to mails that advertise.")


class Customers(AdminView):
    @operation(
        name="admin_customers_list",
        summary="List and find customers",
        query=CustomersQuery,
        answer=CustomerOut,
        refusals=[errors.MerchantNotFound],
        pages=("-pk",),
        access=Access.READ,
    )
    def get(self, asked: AskedByUser) -> "QuerySet[Customer]":
        """Of all merchants that the user looks after, or of one of them; the newest first."""
        merchant_id = asked.query.get("merchant_id")
        customers = customers_shown().filter(in_sight(asked, "merchant", merchant_id))
        if "q" not in asked.query:
            return customers
        searched = asked.merchants.filter(pk=merchant_id) if merchant_id else asked.merchants
        return customers.filter(pk__in=customer_ids(asked.query["q"], merchants=searched))


class OneCustomer(AdminView):
    @operation(
        name="admin_customers_get",
        summary="See a customer",
        answer=CustomerOut,
        refusals=[errors.CustomerNotFound],
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, customer_id: int) -> Customer:
        """Who it is, and all cards that the customer has or had."""
        return find_customer(asked, customer_id)

    @operation(
        name="admin_customers_update",
        summary="Put right what is known about a customer",
        body=CustomerIn,
        answer=CustomerOut,
        refusals=[
            errors.CustomerNotFound,
            errors.AlreadyErased,
            errors.ContactTaken,
            errors.NothingToChange,
            errors.InvalidInput,
            errors.IdempotencyKeyReused,
        ],
        changes=True,
        card_of=lambda customer: next(iter(customer.card_ids), None),
    )
    def patch(self, asked: AskedByUser, customer_id: int) -> Customer:
        """What is not sent stays; an empty string takes a value away.

        A consent to marketing that was given before keeps its moment.
        """
        update_customer(
            merchant=find_customer(asked, customer_id).merchant,
            customer_id=customer_id,
            changes=cast(CustomerChanges, asked.body),
            actor=asked.actor,
            at=asked.at,
        )
        return find_customer(asked, customer_id)


def _rows(help_text: str = "") -> serializers.ListField:
    return serializers.ListField(child=serializers.DictField(), help_text=help_text)


class CustomerExportOut(serializers.Serializer[dict[str, Any]]):
    """All that is held about a customer, as it is kept: columns by name, moments in ISO 8601, money in minor units."""

    example = {
        "exported_at": "2026-03-31T12:05:00Z",
        "merchant": {"id": 4, "name": "Café Central"},
        "customer": {"id": 12, "first_name": "Ana", "email": "ana@example.com"},
        "cards": [{"id": 17, "card_number": "539397706786", "balance": {"points_balance": 112}}],
        "transactions": [{"id": 4711, "type": "POINTS_EARNED", "points_delta": 12}],
        "receipt_claims": [],
        "exemption_changes": [],
        "messages": [],
        "answered_requests": [],
        "import_lines": [],
        "admin_log": [],
        **{name: [] for name in privacy.held_above([])},
    }

    exported_at = serializers.DateTimeField()
    merchant = serializers.DictField()
    customer = serializers.DictField()
    cards = _rows("Each with its `balance`.")
    transactions = _rows()
    receipt_claims = _rows("Receipt numbers that have earned.")
    exemption_changes = _rows("When a card was taken out of expiry or put back, and why.")
    messages = _rows("Mails to the customer.")
    answered_requests = _rows("Answers to tills and back offices that are kept for repeats.")
    import_lines = _rows("Lines of files whose import has not ended.")
    admin_log = _rows("What was noted about changes by hand.")

    def get_fields(self) -> dict[str, Any]:
        """With what apps above keep about cards, whatever they are."""
        return {**super().get_fields(), **{name: _rows() for name in privacy.held_above([])}}

    def to_representation(self, document: dict[str, Any]) -> dict[str, Any]:
        # Whole, also when there is more one day than is described here.
        return document


class ExportCustomer(AdminView):
    @operation(
        name="admin_customers_export",
        summary="Give out what is held about a customer",
        answer=CustomerExportOut,
        refusals=[errors.CustomerNotFound],
    )
    def get(self, asked: AskedByUser, customer_id: int) -> dict[str, Any]:
        """Everything, for the customer who asks for it. It is noted in the log that it was given out."""
        merchant = find_customer(asked, customer_id).merchant
        return privacy.export_customer(merchant=merchant, customer_id=customer_id, at=asked.at)


class EraseIn(In):
    example = {"reason": "Letter of 3 March"}

    reason = Reason(help_text="Why; it is kept for good, so it must not name the customer.")


class ErasedOut(serializers.Serializer[ErasureReport]):
    """What an erasure did."""

    example = {
        "customer_id": 12,
        "card_ids": [17],
        "points": 112,
        "stamps": 3,
        "messages": 4,
        "answered_requests": 1,
        "import_lines": 0,
        "merged_customer_ids": [],
    }

    customer_id = serializers.IntegerField()
    card_ids = serializers.ListField(child=serializers.IntegerField(), help_text="Cards that were emptied and closed.")
    points = serializers.IntegerField(help_text="That were on them.")
    stamps = serializers.IntegerField(help_text="That were on them.")
    messages = serializers.IntegerField(help_text="Emptied, and no longer sent.")
    answered_requests = serializers.IntegerField(help_text="Answers kept for repeats that were deleted.")
    import_lines = serializers.IntegerField(help_text="Waiting lines of imports that were deleted.")
    merged_customer_ids = serializers.ListField(
        child=serializers.IntegerField(),
        help_text="Other customers whose cards were merged with this one's: perhaps the same person.",
    )


class EraseCustomer(AdminView):
    @operation(
        name="admin_customers_erase",
        summary="Erase what is held about a customer",
        body=EraseIn,
        answer=ErasedOut,
        refusals=[
            errors.CustomerNotFound,
            errors.AlreadyErased,
            errors.ReasonRequired,
            errors.InvalidInput,
            *ONCE,
        ],
        changes=True,
        keyed=True,
        replay=lambda answer: answer,
    )
    def post(self, asked: AskedByUser, customer_id: int) -> ErasureReport:
        """For good. Cards are emptied and closed, and their numbers and QR codes lead nowhere.

        Purchases, points and dates stay in the ledger, without notes that could tell who it was. The person may enrol
        again, as somebody new.
        """
        merchant = find_customer(asked, customer_id).merchant
        return privacy.erase_customer(
            merchant=merchant,
            customer_id=customer_id,
            **asked.body,
            actor=asked.actor,
            request=asked.request_about(merchant),
            at=asked.at,
        )


urlpatterns = [
    path("customers", Customers.as_view()),
    path("customers/<id:customer_id>", OneCustomer.as_view()),
    path("customers/<id:customer_id>/export", ExportCustomer.as_view()),
    path("customers/<id:customer_id>/erase", EraseCustomer.as_view()),
]
