"""What Google's answers mean: its half of the retry table."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from wallet.outcomes import DONE, Kind, Outcome

LONGEST_CODE = 60
LONGEST_REASON = 300
# Come with status 403, which otherwise means that the account may not act for the issuer.
QUOTAS = frozenset({"quotaExceeded", "rateLimitExceeded", "userRateLimitExceeded", "dailyLimitExceeded"})


@dataclass(frozen=True)
class Answer:
    """What Google answered. `code` and `reason` are its words for a refusal."""

    status: int
    code: str = ""
    reason: str = ""
    retry_after_seconds: float = 0

    @property
    def is_quota(self) -> bool:
        return self.status == 429 or (
            self.status == 403 and (self.code in QUOTAS or "quota exceeded" in self.reason.lower())
        )

    @property
    def is_notification_quota(self) -> bool:
        """Whether not the change was refused but that customers are told of it."""
        return self.is_quota and (self.code == "quotaExceeded" or "notif" in self.reason.lower())


def read_answer(response: httpx2.Response, *, sent: Mapping[str, Any] | None) -> Answer:
    """The gist of a response to what was sent. What was sent of a person is not in it, even if Google quotes it."""
    if response.status_code < 400:
        return Answer(response.status_code)
    error = _error_of(response)
    first: Mapping[str, Any] = next(iter(error.get("errors") or ()), {})
    code = str(first.get("reason") or error.get("status") or f"http_{response.status_code}")
    reason = str(error.get("message") or f"Google answered {response.status_code}.")
    for private in _personal_data(sent or {}):
        reason = re.sub(rf"(?<!\w){re.escape(private)}(?!\w)", "...", reason)
    return Answer(response.status_code, code[:LONGEST_CODE], reason[:LONGEST_REASON], retry_after_seconds(response))


def outcome_of(answer: Answer) -> Outcome:
    """What is to follow. 404 and 409 come here only where looking for another way has not helped."""
    status = answer.status
    if status == 200:
        return DONE
    if answer.is_quota:
        return _outcome(Kind.THROTTLED, "quota_exceeded", answer)
    if status == 401:
        return _outcome(Kind.CREDENTIAL, "unauthorized", answer)
    if status == 403:
        return _outcome(Kind.CREDENTIAL, "permission_denied", answer)
    if status >= 500 or status < 400 or status in (404, 408, 409):
        return _outcome(Kind.TROUBLE, f"http_{status}", answer)
    return _outcome(Kind.FINAL, answer.code, answer)


def _outcome(kind: Kind, code: str, answer: Answer) -> Outcome:
    reason = answer.reason or f"Google answered {answer.status}."
    return Outcome(kind, code, reason, retry_after_seconds=answer.retry_after_seconds)


def _error_of(response: httpx2.Response) -> Mapping[str, Any]:
    try:
        error = response.json()["error"]
    except (ValueError, TypeError, KeyError):  # such as a page by something in between
        return {}
    return error if isinstance(error, dict) else {}


def _personal_data(sent: Mapping[str, Any]) -> list[str]:
    barcode = sent.get("barcode") or {}
    return [value for value in (sent.get("accountName"), sent.get("accountId"), barcode.get("value")) if value]


def retry_after_seconds(response: httpx2.Response) -> float:
    """Seconds, from either form of the header; 0 when there is none that makes sense."""
    header = response.headers.get("Retry-After", "")
    if header.isascii() and header.isdigit():
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return 0
    return max(0.0, (moment.astimezone(UTC) - datetime.now(UTC)).total_seconds())
