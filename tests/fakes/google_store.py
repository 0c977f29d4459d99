"""Classes and objects as Google keeps them, and what it refuses."""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.google_schema import problems

IDENTIFIER = re.compile(r"[0-9]{10,20}\.[A-Za-z0-9._-]+")
MOST_NOTIFICATIONS = 3  # per object; the fake knows no days
NEEDED = {
    "loyaltyClass": ("id", "issuerName", "programName", "programLogo", "reviewStatus"),
    "loyaltyObject": ("id", "classId", "state"),
}
Body = dict[str, Any]


@dataclass
class Refused(Exception):
    """An answer other than 200."""

    status: int
    reason: str
    message: str
    headers: dict[str, str] = field(default_factory=dict)


class Store:
    """One issuer's classes and objects."""

    def __init__(self, issuer_id: str) -> None:
        self.issuer_id = issuer_id
        self.kept: dict[str, dict[str, Body]] = {"loyaltyClass": {}, "loyaltyObject": {}}
        self.notified: Counter[str] = Counter()

    def get(self, kind: str, resource_id: str) -> Body:
        self._check_id(resource_id)
        if resource_id not in self.kept[kind]:
            raise Refused(404, *_not_found(kind, resource_id))
        return self.kept[kind][resource_id]

    def insert(self, kind: str, body: Body) -> Body:
        self._check_id(str(body.get("id")))
        if body["id"] in self.kept[kind]:
            raise Refused(409, "existingResource", f"The resource {body['id']} already exists.")
        return self._keep(kind, _set_only(body))

    def patch(self, kind: str, resource_id: str, body: Body) -> Body:
        known = self.get(kind, resource_id)
        notifies = body.get("notifyPreference") == "NOTIFY_ON_UPDATE"
        if notifies and self.notified[resource_id] >= MOST_NOTIFICATIONS:
            message = f"Quota exceeded for issuer {self.issuer_id} when sending notifications."
            raise Refused(403, "quotaExceeded", message)
        patched: Body = _merged(known, {name: value for name, value in body.items() if name != "notifyPreference"})
        self._keep(kind, patched)
        self.notified[resource_id] += notifies
        return patched

    def _keep(self, kind: str, body: Body) -> Body:
        self._check_body(kind, body)
        self.kept[kind][body["id"]] = body
        return body

    def _check_body(self, kind: str, body: Body) -> None:
        wrong = problems(kind[0].upper() + kind[1:], body)
        wrong += [f"{name} is missing" for name in NEEDED[kind] if not body.get(name)]
        for name in ("loyaltyPoints", "secondaryLoyaltyPoints"):
            if name in body and len(body[name].get("balance", {})) != 1:
                wrong.append(f"{name}.balance has not exactly one form")
        if wrong:
            raise Refused(400, "invalid", f"Invalid JSON payload received: {'; '.join(wrong)}")
        if kind == "loyaltyObject" and body["classId"] not in self.kept["loyaltyClass"]:
            raise Refused(404, *_not_found("loyaltyClass", body["classId"]))

    def _check_id(self, resource_id: str) -> None:
        if not IDENTIFIER.fullmatch(resource_id):
            raise Refused(400, "invalidResource", f"Invalid resource ID: {resource_id}")
        if not resource_id.startswith(f"{self.issuer_id}."):
            raise Refused(403, "permissionDenied", "Permission denied.")


def _not_found(kind: str, resource_id: str) -> tuple[str, str]:
    if kind == "loyaltyClass":
        return "classNotFound", f"The wallet object class {resource_id} not found."
    return "resourceNotFound", f"The wallet object {resource_id} not found."


def _set_only(value: Any) -> Any:
    """Without the fields that are null."""
    if not isinstance(value, dict):
        return value
    return {name: _set_only(item) for name, item in value.items() if item is not None}


def _merged(known: Any, patch: Any) -> Any:
    """Google's patch: objects are merged, all else is replaced, lists as a whole; null clears."""
    if not isinstance(known, dict) or not isinstance(patch, dict):
        return _set_only(patch)
    merged = {**known, **{name: _merged(known.get(name), value) for name, value in patch.items()}}
    return {name: value for name, value in merged.items() if value is not None}
