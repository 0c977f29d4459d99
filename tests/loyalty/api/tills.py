"""A till that asks over HTTP, as an integrator's would."""

import itertools
from typing import Any

from django.test import Client

from loyalty.models import Merchant, StaffMember, Store
from loyalty.services import keys, staff
from tests.factories import NOON, make_merchant, make_store

_keys = itertools.count(1)
PIN = "204816"


class Till:
    """A store's key and, on request, a staff member's session."""

    base = "/api/v1/store/loyalty/"

    def __init__(self, store: Store | None = None, **program: Any) -> None:
        self.store = store or make_store(make_merchant(**program))
        self.client = Client()
        issued = keys.issue_store_key(store=self.store, label="Till 1", actor="ana", at=NOON)
        self.headers = {"Authorization": f"Api-Key {issued.key}"}

    @property
    def merchant(self) -> Merchant:
        return self.store.merchant

    def sign_in(self, role: str = "cashier") -> StaffMember:
        member = staff.add_staff_member(
            merchant=self.merchant, display_name="Kim", role=role, stores=[], actor="ana", at=NOON, pin=PIN
        ).staff_member
        answer = self.post("staff/sessions", {"staff_member_id": member.pk, "pin": PIN})
        assert answer.status_code == 201, answer.content
        self.headers["X-Staff-Session"] = answer.json()["token"]
        return member

    def get(self, path: str, **query: Any) -> Any:
        return self.client.get(self.base + path, query, headers=self.headers)

    def post(self, path: str, body: Any = None, *, key: str | None = "new", **headers: str) -> Any:
        if key is not None:
            headers["Idempotency-Key"] = f"key-{next(_keys):08}" if key == "new" else key
        return self.client.post(
            self.base + path, body or {}, content_type="application/json", headers={**self.headers, **headers}
        )

    def delete(self, path: str) -> Any:
        return self.client.delete(self.base + path, headers=self.headers)
