"""The reports of one merchant. docs/reports.md defines each figure."""

from typing import Any

from django.urls import path
from rest_framework import serializers

from loyalty import errors
from loyalty.api.fields import Day, In
from loyalty.api.operations import Access, operation
from loyalty.api.reports import report_out
from loyalty.api.store.reports import CARDS, MOST_CARDS, CardsQuery, MonthsQuery
from loyalty.api.views import AdminView, AskedByUser
from loyalty.services import reports

UNKNOWN = [errors.MerchantNotFound, errors.InvalidInput]


class DayQuery(In):
    as_of = Day(required=False, help_text="The end of this local day. By default today, so far.")


class PeriodQuery(In):
    first = Day(help_text="The first local day.")
    last = Day(help_text="The last local day; at most 366 days in all.")


class HorizonQuery(In):
    days = serializers.IntegerField(required=False, default=90, min_value=1, max_value=366)


class LimitQuery(In):
    limit = serializers.IntegerField(required=False, default=CARDS, min_value=1, max_value=MOST_CARDS)


class Outstanding(AdminView):
    @operation(
        name="admin_reports_outstanding",
        summary="See what is outstanding",
        answer=report_out(reports.Outstanding),
        access=Access.SELF,
    )
    def get(self, asked: AskedByUser) -> reports.Outstanding:
        """Over all merchants that the user looks after: points, their value, and what goes in 14, 30 and 90 days."""
        merchants = None if asked.user.is_superuser else list(asked.merchants.values_list("pk", flat=True))
        return reports.outstanding(at=asked.at, merchants=merchants)


class Liability(AdminView):
    @operation(
        name="admin_reports_liability",
        summary="See what the points are worth",
        query=DayQuery,
        answer=report_out(reports.Liability),
        refusals=UNKNOWN,
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, merchant_id: int) -> reports.Liability:
        """Points and stamps that customers held at the end of a day, by the ledger."""
        merchant = asked.merchant(merchant_id)
        as_of = asked.query.get("as_of") or asked.at.astimezone(merchant.zone).date()
        return reports.liability(merchant=merchant, as_of=as_of, at=asked.at)


class Accounting(AdminView):
    @operation(
        name="admin_reports_accounting",
        summary="Account for every point",
        query=PeriodQuery,
        answer=report_out(reports.PointsAccounting),
        refusals=UNKNOWN,
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, merchant_id: int) -> reports.PointsAccounting:
        """Opening, movements by kind and closing of each day. `difference` is 0, or somebody has to know."""
        return reports.points_accounting(merchant=asked.merchant(merchant_id), **asked.query, at=asked.at)


class Expiring(AdminView):
    @operation(
        name="admin_reports_expiring",
        summary="See what expires when",
        query=HorizonQuery,
        answer=report_out(reports.ExpiringByDate),
        refusals=UNKNOWN,
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, merchant_id: int) -> reports.ExpiringByDate:
        """Cards and points by the last day on which they can be used, if nobody bought anything meanwhile."""
        return reports.expiring_by_date(merchant=asked.merchant(merchant_id), **asked.query, at=asked.at)


class Breakage(AdminView):
    @operation(
        name="admin_reports_breakage",
        summary="See how much expires unused",
        query=PeriodQuery,
        answer=report_out(reports.Breakage),
        refusals=UNKNOWN,
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, merchant_id: int) -> reports.Breakage:
        """Points issued, redeemed and expired in each month; the rate is expired by issued."""
        return reports.breakage(merchant=asked.merchant(merchant_id), **asked.query)


class ActiveCustomers(AdminView):
    @operation(
        name="admin_reports_active_customers",
        summary="See how many customers are active",
        answer=report_out(reports.ActiveCustomers),
        refusals=UNKNOWN,
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, merchant_id: int) -> reports.ActiveCustomers:
        """With a transaction of their own in the last 30, 90 and 365 days."""
        return reports.active_customers(merchant=asked.merchant(merchant_id), at=asked.at)


class Cohorts(AdminView):
    @operation(
        name="admin_reports_cohorts",
        summary="See which customers come back",
        query=MonthsQuery,
        answer=report_out(reports.Cohort),
        many=True,
        refusals=UNKNOWN,
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, merchant_id: int) -> list[reports.Cohort]:
        """Of the cards enrolled in each month, the share that was used in it and in each later month."""
        return reports.cohorts(merchant=asked.merchant(merchant_id), **asked.query, at=asked.at)


class AtRisk(AdminView):
    @operation(
        name="admin_reports_at_risk",
        summary="See which cards are at risk",
        query=CardsQuery,
        answer=report_out(reports.CardAtRisk),
        many=True,
        refusals=UNKNOWN,
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, merchant_id: int) -> list[reports.CardAtRisk]:
        """Idle for more than twice their own average interval, or 60 days where there is none yet."""
        return reports.cards_at_risk(merchant=asked.merchant(merchant_id), **asked.query, at=asked.at)


class Revenue(AdminView):
    @operation(
        name="admin_reports_revenue",
        summary="See revenue by month and store",
        query=MonthsQuery,
        answer=report_out(reports.Revenue),
        refusals=UNKNOWN,
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, merchant_id: int) -> reports.Revenue:
        """Sales with a card, less what was taken back."""
        return reports.revenue(merchant=asked.merchant(merchant_id), **asked.query, at=asked.at)


class StaffActivity(AdminView):
    @operation(
        name="admin_reports_staff_activity",
        summary="See what staff did",
        query=PeriodQuery,
        answer=report_out(reports.StaffActivity),
        refusals=UNKNOWN,
    )
    def get(self, asked: AskedByUser, merchant_id: int) -> reports.StaffActivity:
        """Figures of each staff member, and cards that one of them serves suspiciously often."""
        return reports.staff_activity(merchant=asked.merchant(merchant_id), **asked.query)


class Shortfalls(AdminView):
    @operation(
        name="admin_reports_refund_shortfalls",
        summary="See what refunds could not take back",
        query=PeriodQuery,
        answer=report_out(reports.Shortfall),
        many=True,
        refusals=UNKNOWN,
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, merchant_id: int) -> list[reports.Shortfall]:
        """Points that customers had spent before their purchase was taken back."""
        return reports.refund_shortfalls(merchant=asked.merchant(merchant_id), **asked.query)


class Undelivered(AdminView):
    @operation(
        name="admin_reports_undelivered_warnings",
        summary="See whose warning did not arrive",
        query=LimitQuery,
        answer=report_out(reports.UndeliveredWarning),
        many=True,
        refusals=UNKNOWN,
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, merchant_id: int) -> list[reports.UndeliveredWarning]:
        """Expiry warnings without an address, or given up; the points still expire on the promised date."""
        return reports.undelivered_warnings(merchant=asked.merchant(merchant_id), **asked.query)


OF_A_MERCHANT: dict[str, Any] = {
    "liability": Liability,
    "accounting": Accounting,
    "expiring": Expiring,
    "breakage": Breakage,
    "active-customers": ActiveCustomers,
    "cohorts": Cohorts,
    "at-risk": AtRisk,
    "revenue": Revenue,
    "staff-activity": StaffActivity,
    "refund-shortfalls": Shortfalls,
    "undelivered-warnings": Undelivered,
}
urlpatterns = [
    path("reports/outstanding", Outstanding.as_view()),
    *(path(f"merchants/<id:merchant_id>/reports/{name}", view.as_view()) for name, view in OF_A_MERCHANT.items()),
]
