"""A back office that asks over HTTP, with a user's key."""

import itertools
from typing import Any

from django.contrib.auth.models import User
from django.test import Client

from loyalty.models import Membership, Merchant
from loyalty.services import keys
from tests.factories import NOON

_numbers = itertools.count(1)


class Office:
    """A user with a key. Without a role, a platform admin."""

    base = "/api/v1/admin/loyalty/"

    def __init__(self, merchant: Merchant | None = None, role: str = "") -> None:
        self.user = User.objects.create_user(f"user{next(_numbers)}", is_superuser=not role)
        if role and merchant:
            Membership.objects.create(user=self.user, merchant=merchant, role=role)
        self.client = Client()
        issued = keys.issue_user_key(user=self.user, label="Office", at=NOON)
        self.headers = {"Authorization": f"Api-Key {issued.key}"}

    def get(self, path: str, **query: Any) -> Any:
        return self.client.get(self.base + path, query, headers=self.headers)

    def _send(self, method: str, path: str, body: Any, key: str | None) -> Any:
        headers = {**self.headers, **({"Idempotency-Key": key} if key else {})}
        send = getattr(self.client, method)
        return send(self.base + path, {} if body is None else body, content_type="application/json", headers=headers)

    def post(self, path: str, body: Any = None, *, key: str | None = None) -> Any:
        return self._send("post", path, body, key)

    def patch(self, path: str, body: Any = None, *, key: str | None = None) -> Any:
        return self._send("patch", path, body, key)

    def delete(self, path: str, *, key: str | None = None) -> Any:
        return self._send("delete", path, None, key)
