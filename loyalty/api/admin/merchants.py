"""Merchants: taken in, changed, switched off and on."""

from typing import Any

from django.db.models import QuerySet
from django.urls import path
from rest_framework import serializers

from loyalty import errors
from loyalty.api.fields import In, Reason, Text
from loyalty.api.operations import Access, operation
from loyalty.api.pages import PageQuery
from loyalty.api.views import AdminView, AskedByUser
from loyalty.models import Merchant
from loyalty.services import merchants, setting_up

TIMEZONE = "Of the IANA list, such as Europe/Luxembourg. Decides when a day begins, and so the last day of points."
CURRENCY = "ISO 4217. It cannot change once there is a transaction."
COUNTRY = "Two capital letters, such as LU. Phone numbers without a prefix are read as numbers of this country."
LOCALE = "The language for customers who have not chosen one, such as fr."
SUPPORT = "Where customers' answers to our messages go."


class MerchantOut(serializers.Serializer[Merchant]):
    """A business with shops. Cards, customers and points belong to exactly one."""

    example = {
        "id": 4,
        "name": "Boulangerie Kaell",
        "slug": "boulangerie-kaell",
        "timezone": "Europe/Luxembourg",
        "currency": "EUR",
        "country": "LU",
        "locale": "fr",
        "support_email": "bonjour@boulangerie-kaell.example",
        "is_active": True,
        "created_at": "2026-03-02T12:00:00Z",
    }

    id = serializers.IntegerField()
    name = serializers.CharField()
    slug = serializers.CharField(help_text="Names the merchant in commands and addresses. It never changes.")
    timezone = serializers.CharField(help_text=TIMEZONE)
    currency = serializers.CharField(help_text=CURRENCY)
    country = serializers.CharField(help_text=COUNTRY)
    locale = serializers.CharField(help_text=LOCALE)
    support_email = serializers.CharField(help_text=SUPPORT)
    is_active = serializers.BooleanField()
    created_at = serializers.DateTimeField()


class MerchantsQuery(PageQuery):
    is_active = serializers.BooleanField(required=False)
    slug = serializers.CharField(required=False, max_length=60, help_text="The beginning of the slug.")


class NewMerchantIn(In):
    example = {
        "name": "Boulangerie Kaell",
        "slug": "boulangerie-kaell",
        "timezone": "Europe/Luxembourg",
        "currency": "EUR",
        "country": "LU",
        "locale": "fr",
        "support_email": "bonjour@boulangerie-kaell.example",
    }

    name = Text(max_length=120)
    slug = Text(max_length=60, help_text="Letters, digits, hyphens and underscores. It never changes.")
    timezone = Text(max_length=64, help_text=TIMEZONE)
    currency = Text(max_length=3, help_text=CURRENCY)
    country = Text(max_length=2, required=False, allow_blank=True, help_text=COUNTRY)
    locale = Text(max_length=16, required=False, help_text=LOCALE)
    support_email = Text(max_length=254, required=False, allow_blank=True, help_text=SUPPORT)


class MerchantIn(In):
    example = {"timezone": "Europe/Luxembourg", "support_email": "bonjour@boulangerie-kaell.example"}

    name = Text(max_length=120, required=False)
    timezone = Text(max_length=64, required=False, help_text=TIMEZONE)
    currency = Text(max_length=3, required=False, help_text=CURRENCY)
    country = Text(max_length=2, required=False, allow_blank=True, help_text=COUNTRY)
    locale = Text(max_length=16, required=False, help_text=LOCALE)
    support_email = Text(max_length=254, required=False, allow_blank=True, help_text=SUPPORT)


class SwitchIn(In):
    example = {"reason": "Closed for renovation until June"}

    reason = Reason()


class Merchants(AdminView):
    @operation(
        name="admin_merchants_list",
        summary="List merchants",
        query=MerchantsQuery,
        answer=MerchantOut,
        pages=("-pk",),
        access=Access.READ,
    )
    def get(self, asked: AskedByUser) -> "QuerySet[Merchant]":
        """Those that you look after; platform admins see all. Newest first."""
        rows = asked.merchants
        if "is_active" in asked.query:
            rows = rows.filter(is_active=asked.query["is_active"])
        if "slug" in asked.query:
            rows = rows.filter(slug__startswith=asked.query["slug"])
        return rows

    @operation(
        name="admin_merchants_create",
        summary="Take in a merchant",
        body=NewMerchantIn,
        answer=MerchantOut,
        status=201,
        refusals=[errors.MerchantExists, errors.InvalidInput],
        changes=True,
        access=Access.PLATFORM,
    )
    def post(self, asked: AskedByUser) -> Merchant:
        """It has no program yet, so no till can give out a card. Only platform admins may do this."""
        return setting_up.create_merchant(**asked.body, actor=asked.actor, at=asked.at)


class OneMerchant(AdminView):
    @operation(
        name="admin_merchants_get",
        summary="See a merchant",
        answer=MerchantOut,
        refusals=[errors.MerchantNotFound],
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, merchant_id: int) -> Merchant:
        return asked.merchant(merchant_id)

    @operation(
        name="admin_merchants_update",
        summary="Change a merchant",
        body=MerchantIn,
        answer=MerchantOut,
        refusals=[errors.MerchantNotFound, errors.CurrencyFixed, errors.NothingToChange, errors.InvalidInput],
        changes=True,
    )
    def patch(self, asked: AskedByUser, merchant_id: int) -> Merchant:
        """What is not sent stays. Another time zone moves no day that a customer was promised."""
        merchant = asked.merchant(merchant_id)
        return setting_up.update_merchant(merchant=merchant, **asked.body, actor=asked.actor, at=asked.at)


SWITCHING: dict[str, Any] = {
    "body": SwitchIn,
    "answer": MerchantOut,
    "refusals": [errors.MerchantNotFound, errors.NothingToChange, errors.ReasonRequired, errors.InvalidInput],
    "changes": True,
}


class Deactivate(AdminView):
    @operation(name="admin_merchants_deactivate", summary="Switch a merchant off", **SWITCHING)
    def post(self, asked: AskedByUser, merchant_id: int) -> Merchant:
        """Its tills are refused, nobody is warned and nothing expires. Nothing is deleted: `restore` brings it back."""
        return merchants.deactivate_merchant(
            merchant=asked.merchant(merchant_id), **asked.body, actor=asked.actor, at=asked.at
        )


class Restore(AdminView):
    @operation(name="admin_merchants_restore", summary="Switch a merchant on again", **SWITCHING)
    def post(self, asked: AskedByUser, merchant_id: int) -> Merchant:
        """Brings back what was on before. Customers are warned again, in full time, before anything expires."""
        return merchants.restore_merchant(
            merchant=asked.merchant(merchant_id), **asked.body, actor=asked.actor, at=asked.at
        )


urlpatterns = [
    path("merchants", Merchants.as_view()),
    path("merchants/<id:merchant_id>", OneMerchant.as_view()),
    path("merchants/<id:merchant_id>/deactivate", Deactivate.as_view()),
    path("merchants/<id:merchant_id>/restore", Restore.as_view()),
]
