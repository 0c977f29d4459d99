"""Expiration runs: what each did, trying one out, starting one, giving one back."""

from typing import Any

from django.db.models import QuerySet
from django.urls import path
from rest_framework import serializers

from loyalty import errors
from loyalty.api.admin.finding import find_run, find_run_over, in_sight
from loyalty.api.admin.programs import LARGEST
from loyalty.api.admin.run_answers import FullRunOut, RestoredRunOut, RunOut, RunOverMerchantOut, RunReportOut
from loyalty.api.fields import LARGEST_ID, LONGEST_REASON, Flag, Id, In, Moment, Reason, Text, Whole
from loyalty.api.operations import Access, operation
from loyalty.api.pages import PageQuery
from loyalty.api.problems import PermissionDenied
from loyalty.api.views import AdminView, AskedByUser
from loyalty.errors import InvalidInput
from loyalty.models import ExpirationRun, Merchant
from loyalty.services import expiration, past_runs, restoring
from loyalty.services.expiration import ExpirationReport
from loyalty.services.restoring import RunRestorationReport

WHOSE = "Null: all merchants, which is for platform admins."
CONFIRMED = "After a refusal: the number of cards that it named, which may then go without a notice in time."
WITHOUT = "Applies the plain rule once: whatever is older than the limit goes, warned or not. Promised days are kept."
RUN = "The merchant whose cards are given back: of a run over all merchants yours. Null: all cards of the run."
ONE_MERCHANT = "A confirmed number, and a run without notice, are for one merchant at a time: send its merchant_id."


class RunsQuery(PageQuery):
    merchant_id = serializers.IntegerField(required=False, min_value=1, max_value=LARGEST_ID)
    status = serializers.ChoiceField(choices=ExpirationRun.Status.choices, required=False)


class DryRunIn(In):
    example: dict[str, Any] = {"merchant_id": 4}

    merchant_id = Id(allow_null=True, help_text=WHOSE)
    as_of = Moment(
        required=False,
        allow_null=True,
        default=None,
        help_text="Another moment than now. The runs in between are not imagined.",
    )
    confirmed_cards = Whole(required=False, default=0, min_value=0, max_value=LARGEST, help_text=CONFIRMED)
    without_notice = Flag(required=False, default=False, help_text=WITHOUT)


class RunIn(In):
    example: dict[str, Any] = {"merchant_id": 4}

    merchant_id = Id(allow_null=True, help_text=WHOSE)
    confirmed_cards = Whole(required=False, default=0, min_value=0, max_value=LARGEST, help_text=CONFIRMED)
    without_notice = Flag(required=False, default=False, help_text=WITHOUT)
    reason = Text(
        max_length=LONGEST_REASON,
        required=False,
        allow_blank=True,
        default="",
        help_text="Needed for a run without notice; kept with the run.",
    )


class RestoreRunIn(In):
    example = {"merchant_id": 4, "reason": "The policy was wrong"}

    merchant_id = Id(required=False, allow_null=True, default=None, help_text=RUN)
    reason = Reason()


class Runs(AdminView):
    @operation(
        name="admin_expiration_runs_list",
        summary="List expiration runs",
        query=RunsQuery,
        answer=RunOut,
        refusals=[errors.MerchantNotFound],
        pages=("-pk",),
        access=Access.READ,
    )
    def get(self, asked: AskedByUser) -> "QuerySet[ExpirationRun]":
        """Those of the merchants that the user looks after, the newest first.

        The nightly runs are over all merchants and shown to platform admins; what each of them took from one merchant
        is listed at `merchants/{merchant_id}/expirations`.
        """
        rows = ExpirationRun.objects.filter(in_sight(asked, "merchant", asked.query.get("merchant_id")))
        return (rows.filter(status=asked.query["status"]) if "status" in asked.query else rows).defer("failed_card_ids")

    @operation(
        name="admin_expiration_runs_start",
        summary="Expire what is due now",
        body=RunIn,
        answer=RunReportOut,
        status=201,
        refusals=[errors.MerchantNotFound, errors.ReasonRequired, errors.InvalidInput],
        changes=True,
        commits=True,
    )
    def post(self, asked: AskedByUser) -> ExpirationReport:
        """Warns and expires what is due for a merchant, as the nightly run does, while the client waits.

        Chunks are committed as it goes. A million due cards take about a minute; a run that is cut off, by a time
        limit of the server or a proxy, leaves whole chunks, and asking again does the rest. `status` tells how it
        ended: `refused` means that too many cards would go without a notice in time, and `refusals` name the number
        to send as `confirmed_cards`.
        """
        options = {name: value for name, value in asked.body.items() if name != "merchant_id"}
        return expiration.expire_points(
            merchant=_merchant(asked),
            as_of=asked.at,
            at=asked.at,
            trigger=ExpirationRun.Trigger.API,
            initiated_by=asked.actor,
            **options,
        )


class Preview(AdminView):
    @operation(
        name="admin_expiration_runs_preview",
        summary="See what a run would do",
        body=DryRunIn,
        answer=RunReportOut,
        refusals=[errors.MerchantNotFound, errors.InvalidInput],
        access=Access.READ,
    )
    def post(self, asked: AskedByUser) -> ExpirationReport:
        """A dry run: nothing is written and nobody is told."""
        return expiration.preview_expiration(
            merchant=_merchant(asked),
            as_of=asked.body["as_of"] or asked.at,
            confirmed_cards=asked.body["confirmed_cards"],
            without_notice=asked.body["without_notice"],
        )


class OneRun(AdminView):
    @operation(
        name="admin_expiration_runs_get",
        summary="See an expiration run",
        answer=FullRunOut,
        refusals=[errors.RunNotFound],
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, run_id: int) -> ExpirationRun:
        """A run over all merchants is shown to platform admins alone."""
        return find_run(asked, run_id)


class RestoreRun(AdminView):
    @operation(
        name="admin_expiration_runs_restore",
        summary="Give back what a run took",
        body=RestoreRunIn,
        answer=RestoredRunOut,
        refusals=[
            errors.MerchantNotFound,
            errors.RunNotFound,
            errors.RunNotFinished,
            errors.ReasonRequired,
            errors.InvalidInput,
        ],
        changes=True,
        commits=True,
        access=Access.RESTORE,
    )
    def post(self, asked: AskedByUser, run_id: int) -> RunRestorationReport:
        """Every card gets its points back once, as an adjustment that counts as an activity; customers get a mail.

        Doing it again changes nothing. Cards are committed as it goes, some hundred a second: for tens of thousands
        use the command. What a run over all merchants took is given back for one merchant with `merchant_id`; only
        platform admins give it back to everybody.
        """
        return restoring.restore_expiration_run(
            run_id=run_id,
            merchant=_merchant_of(asked, run_id),
            reason=asked.body["reason"],
            actor=asked.actor,
            at=asked.at,
        )


class Expirations(AdminView):
    @operation(
        name="admin_merchants_expirations",
        summary="List what runs took from a merchant",
        query=PageQuery,
        answer=RunOverMerchantOut,
        refusals=[errors.MerchantNotFound],
        pages=("-pk",),
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, merchant_id: int) -> "QuerySet[ExpirationRun]":
        """Runs of the merchant and over all merchants, the newest first, each with its figures for this merchant."""
        return past_runs.runs_over(merchant=asked.merchant(merchant_id))


def _merchant(asked: AskedByUser) -> Merchant | None:
    """The merchant that a run is for, or None for all."""
    merchant_id = asked.body["merchant_id"]
    if merchant_id is not None:
        return asked.merchant(merchant_id)
    if not asked.user.is_superuser:
        raise PermissionDenied("Only platform admins may ask for all merchants. Send a merchant_id.")
    if asked.body["without_notice"] or asked.body["confirmed_cards"]:
        raise InvalidInput(ONE_MERCHANT, field="merchant_id")
    return None


def _merchant_of(asked: AskedByUser, run_id: int) -> Merchant | None:
    """Whose cards of a run are given back, or None for all."""
    merchant_id = asked.body["merchant_id"]
    if merchant_id is None:
        return find_run(asked, run_id).merchant
    merchant = asked.merchant(merchant_id)
    find_run_over(merchant, run_id)
    return merchant


urlpatterns = [
    path("expiration-runs", Runs.as_view()),
    path("expiration-runs/preview", Preview.as_view()),
    path("expiration-runs/<id:run_id>", OneRun.as_view()),
    path("expiration-runs/<id:run_id>/restore", RestoreRun.as_view()),
    path("merchants/<id:merchant_id>/expirations", Expirations.as_view()),
]
