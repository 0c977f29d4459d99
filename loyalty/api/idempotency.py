"""The header Idempotency-Key: one key for each thing that is done, however often it is asked for."""

import hashlib
import json
import re

from rest_framework.request import Request

from loyalty.api.problems import IdempotencyKeyRequired
from loyalty.services import once

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
VISIBLE = re.compile(r"[!-~]{8,128}", re.ASCII)


def asked_once(
    request: Request, *, required: bool, status: int, merchant_id: int | None, user_id: int | None = None
) -> once.Request | None:
    """The request as verbs know it, or None where no key was sent and none is required.

    Raises:
        IdempotencyKeyRequired: the key is missing, or has another form.
    """
    key = request.headers.get(HEADER)
    if key is None and not required:
        return None
    if key is None or not VISIBLE.fullmatch(key):
        raise IdempotencyKeyRequired
    return once.Request(
        key=key, fingerprint=_fingerprint(request), status=status, merchant_id=merchant_id, user_id=user_id
    )


def _fingerprint(request: Request) -> str:
    """Of method, path and body. The body as it was understood: white space and the order of keys mean nothing."""
    body = json.dumps(request.data, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(f"{request.method} {request.path}\n{body}".encode()).hexdigest()
