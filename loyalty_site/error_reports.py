"""Unexpected errors to a Sentry, if there is one: where in the code, and nothing of what was worked on.

An error's text quotes rows, a request carries names and keys, and local variables hold both. So a report has the
class of the error, its place, and the request id by which the log tells the rest.
"""

from typing import Any

import sentry_sdk
import structlog
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.utils import BadDsn, Dsn

from loyalty_site.logging import SECRET_IN_ADDRESS
from loyalty_site.unusable import SettingsUnusable, sentence_or_end

KEPT = ("event_id", "timestamp", "platform", "level", "release", "environment", "sdk", "modules")
KEPT_OF_AN_ERROR = ("type", "module", "mechanism", "stacktrace")


@sentence_or_end()
def start(dsn: str, *, release: str) -> None:
    """Report what nobody expected from now on, in this process."""
    try:
        Dsn(dsn)
    except BadDsn:
        raise SettingsUnusable(
            "SENTRY_DSN has to be an address of a project, such as https://key@host/1. Copy it from the project's page."
        ) from None
    sentry_sdk.init(
        dsn=dsn,
        release=release,
        send_default_pii=False,
        include_local_variables=False,
        max_request_body_size="never",
        max_breadcrumbs=0,
        auto_session_tracking=False,
        send_client_reports=False,
        server_name="",
        integrations=[LoggingIntegration(level=None, event_level=None)],
        before_send=without_data,
    )


def without_data(event: Any, hint: Any) -> Any:
    """What may leave of a report. What a later version of the SDK adds is not in it."""
    report = {name: event[name] for name in KEPT if name in event}
    if "transaction" in event:
        report["transaction"] = SECRET_IN_ADDRESS.sub(r"\1...", event["transaction"].partition("?")[0])
    errors = event.get("exception", {}).get("values", [])
    report["exception"] = {
        "values": [{name: error[name] for name in KEPT_OF_AN_ERROR if name in error} for error in errors]
    }
    if request_id := structlog.contextvars.get_contextvars().get("request_id"):
        report["tags"] = {"request_id": request_id}
    return report
