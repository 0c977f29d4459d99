"""Sync runs: what each did, and which cards it could not show."""

from typing import Any

from django.db.models import Prefetch, QuerySet
from django.urls import path
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from loyalty.api.admin.run_answers import CARD_IDS, FIRST, MOST_IDS
from loyalty.api.operations import Access, operation
from loyalty.api.pages import PageQuery
from loyalty.api.views import AdminView, AskedByUser
from wallet.errors import SyncRunNotFound
from wallet.models import Platform, SyncFailure, SyncRun


class SyncRunOut(serializers.Serializer[SyncRun]):
    """What a run did with the passes that were due."""

    example: dict[str, Any] = {
        "id": 4711,
        "trigger": "schedule",
        "status": "partial",
        "started_at": "2026-03-31T12:05:00Z",
        "finished_at": "2026-03-31T12:05:22Z",
        "initiated_by": "",
        "examined": 120,
        "pushed": 112,
        "unchanged": 7,
        "deferred": 0,
        "retrying": 1,
        "dead": 0,
        "error": "",
    }

    id = serializers.IntegerField()
    trigger = serializers.ChoiceField(choices=SyncRun.Trigger.choices)
    status = serializers.ChoiceField(choices=SyncRun.Status.choices)
    started_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    initiated_by = serializers.CharField()
    examined = serializers.IntegerField()
    pushed = serializers.IntegerField(help_text="Phones were told.")
    unchanged = serializers.IntegerField(help_text="They show the same as before, so nobody was told.")
    deferred = serializers.IntegerField(help_text="Not tried, because calls rest; they stay due.")
    retrying = serializers.IntegerField(help_text="Failed, and are tried again.")
    dead = serializers.IntegerField(help_text="Given up.")
    error = serializers.CharField(help_text="Why the run itself failed.")


class SyncFailureOut(serializers.Serializer[SyncFailure]):
    """A card that a run could not show."""

    card_id = serializers.IntegerField()
    platform = serializers.ChoiceField(choices=Platform.choices)
    code = serializers.CharField()
    reason = serializers.CharField()
    terminal = serializers.BooleanField(help_text="It is not tried again by itself.")


class FullSyncRunOut(SyncRunOut):
    """A run, and the cards that it could not show."""

    example = {
        **SyncRunOut.example,
        "failed_card_ids": [17],
        "deferred_card_ids": [],
        "failures": [
            {
                "card_id": 17,
                "platform": "apple",
                "code": "timeout",
                "reason": "Apple did not answer in time.",
                "terminal": False,
            }
        ],
        "by_platform": {"apple": {"status": "ran", "examined": 120, "pushed": 112}, "google": {"status": "off"}},
        "breaker": {},
    }

    failed_card_ids = serializers.SerializerMethodField(help_text=FIRST)
    deferred_card_ids = serializers.SerializerMethodField(help_text="The first 100.")
    failures = SyncFailureOut(many=True, source="first_failures", help_text=FIRST)
    by_platform = serializers.DictField(help_text="The figures of each platform, and how it went.")
    breaker = serializers.DictField(help_text="For each platform whose calls rest: since when, and why.")

    @extend_schema_field(CARD_IDS)
    def get_failed_card_ids(self, run: SyncRun) -> list[int]:
        return list(run.failed_card_ids[:MOST_IDS])

    @extend_schema_field(CARD_IDS)
    def get_deferred_card_ids(self, run: SyncRun) -> list[int]:
        return list(run.deferred_card_ids)


class SyncRunsQuery(PageQuery):
    status = serializers.ChoiceField(choices=SyncRun.Status.choices, required=False)


class SyncRuns(AdminView):
    @operation(
        name="admin_wallet_sync_runs_list",
        summary="List sync runs",
        query=SyncRunsQuery,
        answer=SyncRunOut,
        pages=("-pk",),
        access=Access.PLATFORM,
    )
    def get(self, asked: AskedByUser) -> "QuerySet[SyncRun]":
        """The newest first. There is one each minute, over the cards of all merchants."""
        runs = SyncRun.objects.defer("failed_card_ids", "deferred_card_ids", "by_platform", "breaker")
        return runs.filter(status=asked.query["status"]) if "status" in asked.query else runs


class OneSyncRun(AdminView):
    @operation(
        name="admin_wallet_sync_runs_get",
        summary="See a sync run",
        answer=FullSyncRunOut,
        refusals=[SyncRunNotFound],
        access=Access.PLATFORM,
    )
    def get(self, asked: AskedByUser, sync_run_id: int) -> SyncRun:
        """With the cards that it could not show, and the reasons."""
        first = Prefetch("failures", SyncFailure.objects.order_by("pk")[:MOST_IDS], to_attr="first_failures")
        run = SyncRun.objects.prefetch_related(first).filter(pk=sync_run_id).first()
        if run is None:
            raise SyncRunNotFound("This run is not known here.")
        return run


urlpatterns = [
    path("wallet/sync-runs", SyncRuns.as_view()),
    path("wallet/sync-runs/<id:sync_run_id>", OneSyncRun.as_view()),
]
