"""What is counted as it happens. With PROMETHEUS_MULTIPROC_DIR all processes of a host count together."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from django.conf import settings
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.multiprocess import MultiProcessCollector

from loyalty_site.metrics.declaring import TASKS

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each one, which nobody asks for

ROUTES = ("store", "admin_api", "wallet", "admin", "public", "docs", "operations", "other")
STATUS_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
JOB_RESULTS = ("succeeded", "failed")
DELIVERY_RESULTS = ("sent", "retried", "dead", "deferred", "cancelled")
OTHER = "other"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

requests = Counter(
    "loyalty_http_requests_total",
    "HTTP requests that were answered, by part of the site and class of status.",
    ["route", "status"],
    registry=None,
)
durations = Histogram(
    "loyalty_http_request_duration_seconds",
    "How long requests took, by part of the site.",
    ["route"],
    buckets=SECONDS,
    registry=None,
)
refusals = Counter(
    "loyalty_refusals_total",
    "Requests to the APIs that were refused, by the code of the problem.",
    ["code"],
    registry=None,
)
job_runs = Counter(
    "loyalty_job_runs_total",
    "Runs of background tasks that ended on this host, by task and result.",
    ["task", "result"],
    registry=None,
)
deliveries = Counter(
    "loyalty_deliveries_total",
    "Messages that senders on this host tried, by what became of them.",
    ["result"],
    registry=None,
)
COUNTED = (requests, durations, refusals, job_runs, deliveries)


def register(registry: CollectorRegistry) -> None:
    """Give a registry what was counted by all processes, or by this one if it is alone."""
    if settings.PROMETHEUS_MULTIPROC_DIR:
        MultiProcessCollector(registry, path=settings.PROMETHEUS_MULTIPROC_DIR)  # type: ignore[no-untyped-call]
        return
    for metric in COUNTED:
        registry.register(metric)


@contextmanager
def _never_in_the_way() -> Iterator[None]:
    """A folder that is full or gone costs figures, and no till its sale."""
    with suppress(OSError):
        yield


@_never_in_the_way()
def count_request(route: str, status: int, seconds: float) -> None:
    requests.labels(route, f"{status // 100}xx").inc()
    durations.labels(route).observe(seconds)


@_never_in_the_way()
def count_refusal(code: str) -> None:
    refusals.labels(code).inc()


@_never_in_the_way()
def count_job(task: str, result: str, report: Any) -> None:
    """Count a run that ended, and what a run of the sender says about messages."""
    if task in TASKS and result in JOB_RESULTS:
        job_runs.labels(task, result).inc()
    if task == "notifications.send_messages" and isinstance(report, Mapping):
        for name in DELIVERY_RESULTS:
            deliveries.labels(name).inc(int(report.get(name) or 0))
