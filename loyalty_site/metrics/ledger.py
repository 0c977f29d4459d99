"""The expiry and the ledger."""

from collections.abc import Iterator
from datetime import datetime

from django.db.models import F, Max

from loyalty.models import ExpirationRun, TransactionType
from loyalty_site.metrics import rollups
from loyalty_site.metrics.declaring import Reading, State
from loyalty_site.metrics.machinery import LAST_SUCCESS
from loyalty_site.models import JobRun
from loyalty_site.schedules import EXPIRY, LEDGER_CHECK, STOCK

Status = ExpirationRun.Status
ENDED = (Status.SUCCEEDED, Status.PARTIAL, Status.FAILED, Status.REFUSED)
LAST_RUN = State(
    "loyalty_expiration_last_run",
    "How the last whole run of expiry ended: 1 for its status, 0 for the others.",
    {"status": tuple(status.value for status in ENDED)},
)
FAILED_CARDS = State("loyalty_expiration_last_run_failed_cards", "Cards that the last whole run of expiry left out.")
EXPIRED_CARDS = State("loyalty_expiration_last_run_expired_cards", "Cards whose points the last whole run took.")
EXPIRED_POINTS = State("loyalty_expiration_last_run_expired_points", "Points that the last whole run took.")
WARNINGS = State("loyalty_expiration_last_run_warnings", "Cards that the last whole run warned about.")
DURATION = State("loyalty_expiration_last_run_duration_seconds", "How long the last whole run of expiry took.")
MISMATCHED = State(
    "loyalty_ledger_mismatched_cards", "Cards whose balance is not what the ledger says, at the last check."
)
TRANSACTIONS = State(
    "loyalty_ledger_transactions_total",
    "Rows of the ledger, by type.",
    {"type": tuple(TransactionType.values)},
    counts=True,
)
STATES = (
    LAST_RUN,
    FAILED_CARDS,
    EXPIRED_CARDS,
    EXPIRED_POINTS,
    WARNINGS,
    DURATION,
    MISMATCHED,
    TRANSACTIONS,
)


def expiration(at: datetime) -> Iterator[Reading]:
    """Two statements: there is one run a night, and the newest are found by an index."""
    proven = ExpirationRun.objects.counting().aggregate(newest=Max("finished_at"))["newest"]
    if proven is not None:
        yield LAST_SUCCESS.read(proven, task=EXPIRY)
    ended = ExpirationRun.objects.filter(merchant=None, as_of=F("started_at"), finished_at__isnull=False)
    last = ended.order_by("-started_at").first()
    if last is None or last.finished_at is None:
        return
    for status in ENDED:
        yield LAST_RUN.read(last.status == status, status=status.value)
    yield FAILED_CARDS.read(last.failed)
    yield EXPIRED_CARDS.read(last.cards_expired)
    yield EXPIRED_POINTS.read(last.points_expired)
    yield WARNINGS.read(last.warnings)
    yield DURATION.read((last.finished_at - last.started_at).total_seconds())


def transactions(at: datetime) -> Iterator[Reading]:
    """Three statements. Counted is what came after the last `loyalty_site.take_stock`, minutes ago, and no more."""
    checked = JobRun.objects.last_success(LEDGER_CHECK)
    if checked is not None and checked.result:
        yield MISMATCHED.read(checked.result["mismatched_cards"])
    stock = rollups.last_result(STOCK)
    if stock is None:
        return
    added = rollups.rows_by_type(after=stock["ledger_id"])
    for kind in TransactionType.values:
        yield TRANSACTIONS.read(stock["ledger_rows"].get(kind, 0) + added.rows.get(kind, 0), type=kind)
