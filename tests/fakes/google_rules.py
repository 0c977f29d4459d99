"""What was asked of the fake Google, and what it was told to answer."""

from dataclasses import dataclass
from typing import Any

CUT = 0  # instead of a status: the connection is closed without an answer
OK = 200  # with a delay: a late answer, but the right one
REASONS = {
    400: ("invalid", "Invalid value."),
    401: ("authError", "Request had invalid authentication credentials."),
    403: ("permissionDenied", "Permission denied."),
    404: ("resourceNotFound", "Resource not found."),
    409: ("existingResource", "Resource already exists."),
    429: ("rateLimitExceeded", "Quota exceeded for quota metric 'Requests' and limit 'Requests per second'."),
}


@dataclass
class Call:
    """A request and its answer. `kind`: class, object, token or keys; `at` by time.monotonic().

    The status is CUT until it is answered.
    """

    at: float
    method: str
    kind: str
    id: str
    body: Any
    status: int = 0


@dataclass
class Rule:
    status: int
    on: str | None
    to: str | None
    method: str | None
    times: int | None
    reason: str
    message: str
    retry_after: str | None
    delay_seconds: float

    def applies(self, method: str, kind: str, resource_id: str) -> bool:
        """Whether to answer this, counting what it was asked."""
        kinds = (self.on,) if self.on else ("class", "object")
        if kind not in kinds or self.to not in (None, resource_id) or self.method not in (None, method):
            return False
        if self.times == 0:
            return False
        self.times = None if self.times is None else self.times - 1
        return True
