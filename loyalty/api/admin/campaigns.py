"""Campaigns: times in which purchases are worth more."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, cast

from django.db.models import QuerySet
from django.urls import path
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from loyalty import errors
from loyalty.api.admin.finding import find_campaign, find_program, find_stores
from loyalty.api.admin.programs import LARGEST, WRITTEN_AMOUNT
from loyalty.api.answers import written
from loyalty.api.fields import Amount, Flag, Id, In, Moment, Rate, Text, Whole
from loyalty.api.operations import Access, operation
from loyalty.api.pages import PageQuery
from loyalty.api.views import AdminView, AskedByUser
from loyalty.models import Campaign
from loyalty.models.money import to_minor
from loyalty.services import programs
from loyalty.services.programs import CampaignSettings

MOST_STORES = 1000
WEEKDAYS = "Digits from 1 (Monday) to 7 (Sunday), each once. Empty: every day."
STORES = "Of the program's merchant. None: all stores."
REFUSALS: list[type[Exception]] = [errors.StoreNotFound, errors.InvalidAmount, errors.InvalidInput]


class CampaignIn(In):
    example: dict[str, Any] = {"multiplier": "2.00", "weekdays": "5", "store_ids": [3]}

    name = Text(max_length=80, required=False)
    multiplier = Rate(max_digits=6, decimal_places=2, min_value=Decimal(1), required=False)
    bonus_points = Whole(required=False, min_value=0, max_value=LARGEST)
    starts_at = Moment(required=False)
    ends_at = Moment(required=False)
    weekdays = Text(max_length=7, required=False, allow_blank=True, help_text=WEEKDAYS)
    store_ids = serializers.ListField(child=Id(), required=False, max_length=MOST_STORES, help_text=STORES)
    minimum_purchase = Amount(required=False, help_text="Smaller purchases take no part.")
    is_active = Flag(required=False)


class NewCampaignIn(CampaignIn):
    example = {
        "name": "Double Friday",
        "starts_at": "2026-05-01T00:00:00+02:00",
        "ends_at": "2026-06-01T00:00:00+02:00",
        **CampaignIn.example,
    }

    name = Text(max_length=80)
    starts_at = Moment()
    ends_at = Moment()


class FullCampaignOut(serializers.Serializer[Campaign]):
    """A campaign as it was set up. Of several that fit a purchase, the best one for the customer applies."""

    example = {
        "id": 8,
        "program_id": 4,
        "name": "Double Friday",
        "multiplier": "2.00",
        "bonus_points": 0,
        "starts_at": "2026-04-30T22:00:00Z",
        "ends_at": "2026-05-31T22:00:00Z",
        "weekdays": "5",
        "store_ids": [3],
        "minimum_purchase": "0.00",
        "is_active": True,
    }

    id = serializers.IntegerField()
    program_id = serializers.IntegerField()
    name = serializers.CharField()
    multiplier = serializers.DecimalField(max_digits=6, decimal_places=2)
    bonus_points = serializers.IntegerField()
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField(help_text="The first moment after it.")
    weekdays = serializers.CharField(help_text=WEEKDAYS)
    store_ids = serializers.SerializerMethodField(help_text=STORES)
    minimum_purchase = serializers.SerializerMethodField()
    is_active = serializers.BooleanField()

    @extend_schema_field({"type": "array", "items": {"type": "integer"}})
    def get_store_ids(self, campaign: Campaign) -> list[int]:
        return sorted(store.pk for store in campaign.stores.all())

    @extend_schema_field(WRITTEN_AMOUNT)
    def get_minimum_purchase(self, campaign: Campaign) -> str | None:
        return written(campaign.minimum_purchase_minor, campaign.program.merchant.currency)


class CampaignsQuery(PageQuery):
    is_active = serializers.BooleanField(required=False)


class Campaigns(AdminView):
    @operation(
        name="admin_campaigns_list",
        summary="List campaigns of a program",
        query=CampaignsQuery,
        answer=FullCampaignOut,
        refusals=[errors.ProgramNotFound],
        pages=("-pk",),
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, program_id: int) -> "QuerySet[Campaign]":
        """Also those that are over, or that have yet to begin; the newest first."""
        rows = Campaign.objects.filter(program=find_program(asked, program_id))
        if "is_active" in asked.query:
            rows = rows.filter(is_active=asked.query["is_active"])
        return rows.select_related("program__merchant").prefetch_related("stores")

    @operation(
        name="admin_campaigns_create",
        summary="Plan a campaign",
        body=NewCampaignIn,
        answer=FullCampaignOut,
        status=201,
        refusals=[errors.ProgramNotFound, *REFUSALS],
        changes=True,
    )
    def post(self, asked: AskedByUser, program_id: int) -> Campaign:
        """Purchases earn `multiplier` times as much, and `bonus_points` on top."""
        program = find_program(asked, program_id)
        return programs.create_campaign(
            program=program,
            settings=_settings(asked.body, program.merchant.currency),
            stores=find_stores(program.merchant, asked.body.get("store_ids", [])),
        )


class OneCampaign(AdminView):
    @operation(
        name="admin_campaigns_get",
        summary="See a campaign",
        answer=FullCampaignOut,
        refusals=[errors.CampaignNotFound],
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, campaign_id: int) -> Campaign:
        """As it was set up."""
        return find_campaign(asked, campaign_id)

    @operation(
        name="admin_campaigns_update",
        summary="Change a campaign",
        body=CampaignIn,
        answer=FullCampaignOut,
        refusals=[errors.CampaignNotFound, errors.NothingToChange, *REFUSALS],
        changes=True,
    )
    def patch(self, asked: AskedByUser, campaign_id: int) -> Campaign:
        """What is not sent stays. Purchases that have earned keep what they earned."""
        campaign = find_campaign(asked, campaign_id)
        merchant, store_ids = campaign.program.merchant, asked.body.get("store_ids")
        return programs.update_campaign(
            campaign=campaign,
            settings=_settings(asked.body, merchant.currency),
            stores=None if store_ids is None else find_stores(merchant, store_ids),
        )


def _settings(body: Mapping[str, Any], currency: str) -> CampaignSettings:
    """The body under the names of the model, the amount in minor units."""
    values = {name: value for name, value in body.items() if name not in ("store_ids", "minimum_purchase")}
    if "minimum_purchase" in body:
        minor = to_minor(body["minimum_purchase"], currency, field="minimum_purchase")
        values["minimum_purchase_minor"] = minor
    return cast(CampaignSettings, values)


urlpatterns = [
    path("programs/<id:program_id>/campaigns", Campaigns.as_view()),
    path("campaigns/<id:campaign_id>", OneCampaign.as_view()),
]
