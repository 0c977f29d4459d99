"""What is told about expiration runs."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from loyalty.models import ExpirationRun
from loyalty.services.expiration import ExpirationReport
from loyalty.services.restoring import RunRestorationReport

MOST_IDS = 1000
CARD_IDS = {"type": "array", "items": {"type": "integer"}, "maxItems": MOST_IDS}
FIRST = f"The first {MOST_IDS:,}."


class RunOut(serializers.Serializer[ExpirationRun]):
    """What a run did. While it works, its figures grow."""

    example: dict[str, Any] = {
        "id": 71,
        "merchant_id": 4,
        "trigger": "api",
        "status": "succeeded",
        "as_of": "2026-03-31T02:00:00Z",
        "started_at": "2026-03-31T02:00:00Z",
        "finished_at": "2026-03-31T02:00:03Z",
        "programs": 1,
        "cards_expired": 12,
        "points_expired": 840,
        "warnings": 31,
        "skipped_locked": 0,
        "skipped_exempt": 2,
        "failed": 0,
        "without_notice": False,
        "reason": "",
        "initiated_by": "ana",
        "error": "",
    }

    id = serializers.IntegerField()
    merchant_id = serializers.IntegerField(allow_null=True, help_text="Null: all merchants.")
    trigger = serializers.ChoiceField(choices=ExpirationRun.Trigger.choices)
    status = serializers.ChoiceField(choices=ExpirationRun.Status.choices)
    as_of = serializers.DateTimeField(help_text="The moment for which it decided what is due.")
    started_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    programs = serializers.IntegerField()
    cards_expired = serializers.IntegerField()
    points_expired = serializers.IntegerField()
    warnings = serializers.IntegerField()
    skipped_locked = serializers.IntegerField(help_text="Cards that were in use and wait for the next run.")
    skipped_exempt = serializers.IntegerField()
    failed = serializers.IntegerField(help_text="Cards that failed; the others are done.")
    without_notice = serializers.BooleanField(help_text="Whether the plain rule was applied once.")
    reason = serializers.CharField()
    initiated_by = serializers.CharField()
    error = serializers.CharField(help_text="Why it was refused, or what went wrong; a line for each problem.")


class FullRunOut(RunOut):
    """A run, and the cards that failed."""

    example = {**RunOut.example, "failed_card_ids": []}

    failed_card_ids = serializers.SerializerMethodField(help_text=FIRST)

    @extend_schema_field(CARD_IDS)
    def get_failed_card_ids(self, run: ExpirationRun) -> list[int]:
        return run.failed_card_ids[:MOST_IDS]


class RefusalOut(serializers.Serializer[Any]):
    """Why nothing of a merchant was expired."""

    merchant = serializers.CharField(help_text="Its slug; empty when the clocks disagree, which stops everybody.")
    cards = serializers.IntegerField(help_text="The number for `confirmed_cards`; 0 when confirming does not help.")
    sentence = serializers.CharField()


class PastLimitOut(serializers.Serializer[Any]):
    """Cards that were past their limit when they were first warned. They keep their points to the end of a notice."""

    cards = serializers.IntegerField()
    points = serializers.IntegerField()
    first_day = serializers.DateField(allow_null=True, help_text="The last day of the first of them.")
    last_day = serializers.DateField(allow_null=True)


class RunReportOut(serializers.Serializer[ExpirationReport]):
    """What a run did, or would do."""

    example = {
        "run_id": 71,
        "status": "succeeded",
        "programs": 1,
        "cards_expired": 12,
        "points_expired": 840,
        "warnings": 31,
        "skipped_locked": 0,
        "skipped_exempt": 2,
        "failed": 0,
        "failed_card_ids": [],
        "warned_past_limit": {"cards": 3, "points": 250, "first_day": "2026-04-14", "last_day": "2026-04-14"},
        "refusals": [],
        "errors": [],
        "sentence": "Expired 12 cards, 840 points, 31 warnings",
    }

    run_id = serializers.IntegerField(allow_null=True, help_text="Null: nothing was written.")
    status = serializers.ChoiceField(choices=["preview", *ExpirationRun.Status.values])
    programs = serializers.IntegerField(help_text="Those whose points expire now; 0: none, or it is paused.")
    cards_expired = serializers.IntegerField(source="tally.cards_expired")
    points_expired = serializers.IntegerField(source="tally.points_expired")
    warnings = serializers.IntegerField(source="tally.warnings")
    skipped_locked = serializers.IntegerField()
    skipped_exempt = serializers.IntegerField(source="tally.skipped_exempt")
    failed = serializers.SerializerMethodField()
    failed_card_ids = serializers.SerializerMethodField(help_text=FIRST)
    warned_past_limit = PastLimitOut(source="tally.past_limit")
    refusals = RefusalOut(many=True)
    errors = serializers.ListField(child=serializers.CharField())  # type: ignore[assignment]
    sentence = serializers.CharField()

    def get_failed(self, report: ExpirationReport) -> int:
        return len(report.failed_card_ids)

    @extend_schema_field(CARD_IDS)
    def get_failed_card_ids(self, report: ExpirationReport) -> list[int]:
        return report.failed_card_ids[:MOST_IDS]


class RestoredRunOut(serializers.Serializer[RunRestorationReport]):
    """What was given back, and to whom it was not."""

    example = {
        "run_id": 71,
        "restored_cards": 11,
        "restored_points": 800,
        "already_restored": 1,
        "already_restored_card_ids": [17],
        "skipped": 0,
        "skipped_card_ids": [],
        "failed": 0,
        "failed_card_ids": [],
    }

    run_id = serializers.IntegerField()
    restored_cards = serializers.IntegerField()
    restored_points = serializers.IntegerField()
    already_restored = serializers.SerializerMethodField(help_text="Cards that have theirs back already.")
    already_restored_card_ids = serializers.SerializerMethodField(help_text=FIRST)
    skipped = serializers.SerializerMethodField(help_text="Cards that are closed, merged or erased meanwhile.")
    skipped_card_ids = serializers.SerializerMethodField(help_text=FIRST)
    failed = serializers.SerializerMethodField(help_text="Cards that failed; the others have theirs back.")
    failed_card_ids = serializers.SerializerMethodField(help_text=FIRST)

    def get_already_restored(self, report: RunRestorationReport) -> int:
        return len(report.already_restored_card_ids)

    @extend_schema_field(CARD_IDS)
    def get_already_restored_card_ids(self, report: RunRestorationReport) -> list[int]:
        return report.already_restored_card_ids[:MOST_IDS]

    def get_skipped(self, report: RunRestorationReport) -> int:
        return len(report.skipped_card_ids)

    @extend_schema_field(CARD_IDS)
    def get_skipped_card_ids(self, report: RunRestorationReport) -> list[int]:
        return report.skipped_card_ids[:MOST_IDS]

    def get_failed(self, report: RunRestorationReport) -> int:
        return len(report.failed_card_ids)

    @extend_schema_field(CARD_IDS)
    def get_failed_card_ids(self, report: RunRestorationReport) -> list[int]:
        return report.failed_card_ids[:MOST_IDS]


class RunOverMerchantOut(serializers.Serializer[Any]):
    """A run that took in the merchant, and what it took from the merchant's cards."""

    example = {
        "run_id": 71,
        "is_over_all_merchants": True,
        "as_of": "2026-03-31T02:00:00Z",
        "started_at": "2026-03-31T02:00:00Z",
        "finished_at": "2026-03-31T02:00:41Z",
        "cards_expired": 12,
        "points_expired": 840,
    }

    run_id = serializers.IntegerField(source="pk")
    is_over_all_merchants = serializers.SerializerMethodField()
    as_of = serializers.DateTimeField()
    started_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    cards_expired = serializers.SerializerMethodField(help_text="Of this merchant alone.")
    points_expired = serializers.SerializerMethodField(help_text="Of this merchant alone.")

    def get_is_over_all_merchants(self, run: Any) -> bool:
        return run.merchant_id is None

    def get_cards_expired(self, run: Any) -> int:
        return run.took["cards"] if run.took else 0

    def get_points_expired(self, run: Any) -> int:
        return run.took["points"] if run.took else 0
