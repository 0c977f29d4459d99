"""What a till shows of the day, and a manager of the store's business."""

from django.urls import path
from rest_framework import serializers

from loyalty.api.fields import In
from loyalty.api.operations import operation
from loyalty.api.reports import report_out
from loyalty.api.views import AskedAtStore, StoreView
from loyalty.services import reports
from loyalty.services.reports import CardAtRisk, Cohort, DayAtStore, Revenue

MONTHS_BACK, MOST_MONTHS = 6, 24
CARDS, MOST_CARDS = 50, 200


class MonthsQuery(In):
    months_back = serializers.IntegerField(
        required=False, default=MONTHS_BACK, min_value=1, max_value=MOST_MONTHS, help_text="The running month apart."
    )


class CardsQuery(In):
    limit = serializers.IntegerField(required=False, default=CARDS, min_value=1, max_value=MOST_CARDS)


class Today(StoreView):
    @operation(name="store_summary_today", summary="Sum up the day", answer=report_out(DayAtStore))
    def get(self, asked: AskedAtStore) -> DayAtStore:
        """Sales, points, stamps, enrolments and voids in this store since its midnight."""
        return reports.summary_of_day(store=asked.store, at=asked.at)


class Cohorts(StoreView):
    @operation(
        name="store_reports_cohorts",
        summary="See who comes back",
        query=MonthsQuery,
        answer=report_out(Cohort),
        many=True,
        staff_role="manager",
    )
    def get(self, asked: AskedAtStore) -> list[Cohort]:
        """Of the cards enrolled in each month, the share that was used in it and in each later month."""
        return reports.cohorts(merchant=asked.merchant, at=asked.at, months_back=asked.query["months_back"])


class RevenueView(StoreView):
    @operation(
        name="store_reports_revenue",
        summary="See sales by month and store",
        query=MonthsQuery,
        answer=report_out(Revenue),
        staff_role="manager",
    )
    def get(self, asked: AskedAtStore) -> Revenue:
        """Sales with a card, less what was taken back, for all stores of the merchant."""
        return reports.revenue(merchant=asked.merchant, at=asked.at, months_back=asked.query["months_back"])


class AtRisk(StoreView):
    @operation(
        name="store_reports_at_risk",
        summary="See who stays away",
        query=CardsQuery,
        answer=report_out(CardAtRisk),
        many=True,
        staff_role="manager",
    )
    def get(self, asked: AskedAtStore) -> list[CardAtRisk]:
        """Cards idle for more than twice their own average interval, or 60 days where there is none yet."""
        return reports.cards_at_risk(merchant=asked.merchant, at=asked.at, limit=asked.query["limit"])


urlpatterns = [
    path("summary/today", Today.as_view()),
    path("reports/cohorts", Cohorts.as_view()),
    path("reports/revenue", RevenueView.as_view()),
    path("reports/at-risk", AtRisk.as_view()),
]
