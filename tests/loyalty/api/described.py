"""Requests made from the OpenAPI document, so that no operation can be forgotten."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import yaml

from loyalty.api.operations import OPERATIONS, Access
from loyalty.models import (
    Campaign,
    Card,
    ExpirationRun,
    Membership,
    Merchant,
    Reward,
    StaffMember,
    Store,
)
from loyalty.services import earning, keys, restoring, staff
from loyalty_site.api_docs import document
from notifications.models import Message
from tests.factories import NOON, days, make_card, make_merchant, make_reward, make_store
from tests.loyalty.api.offices import Office
from tests.loyalty.api.tills import Till
from tests.loyalty.runs import expire
from tests.wallet.rows import make_credential, make_failing_pass, make_failure

UNKNOWN = 987_654_321_987
FILE = "external_id,points\nK1,10\n"
STORE = "/api/v1/store/loyalty/"


@dataclass(frozen=True)
class Described:
    """An operation as the document describes it."""

    name: str
    method: str
    path: str
    is_of_store: bool
    path_names: tuple[str, ...]
    query_names: tuple[str, ...]
    body: dict[str, Any] | None = field(hash=False)
    media_types: tuple[str, ...]
    needs_session: bool = False
    required_query: dict[str, str] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return self.name


@cache
def description() -> dict[str, Any]:
    """The document as it is served."""
    described: dict[str, Any] = yaml.load(document(), yaml.CSafeLoader)
    return described


@cache
def operations() -> list[Described]:
    return [
        _described(path, method, operation)
        for path, methods in description()["paths"].items()
        for method, operation in methods.items()
    ]


def _described(path: str, method: str, operation: dict[str, Any]) -> Described:
    parameters = operation.get("parameters", [])
    content = operation.get("requestBody", {}).get("content", {})
    examples = content.get("application/json", {}).get("examples", {})
    return Described(
        name=operation["operationId"],
        method=method,
        path=path,
        is_of_store=path.startswith(STORE),
        path_names=tuple(p["name"] for p in parameters if p["in"] == "path"),
        query_names=tuple(p["name"] for p in parameters if p["in"] == "query"),
        body=next((example["value"] for example in examples.values()), None),
        media_types=tuple(content),
        required_query={p["name"]: "2026-03-15" for p in parameters if p["in"] == "query" and p.get("required")},
        needs_session=any(p["name"] == "X-Staff-Session" and p.get("required") for p in parameters),
    )


class World:
    """A merchant with one of everything that an operation can name."""

    def __init__(self) -> None:
        self.merchant: Merchant = make_merchant(kind="hybrid", staff_pin_policy="optional", allow_void=True)
        self.store: Store = make_store(self.merchant, throttle_factor=0)
        self.till = Till(self.store)
        self.card: Card = make_card(self.merchant, points=500, phone=f"+35262{self.merchant.pk:07}")
        self.manager = Office(self.merchant, "manager")
        self.support = Office(self.merchant, "support")
        self.admin = Office()
        self.manager_at_till = Till(self.store)
        self.manager_at_till.sign_in("manager")
        self.ids = self._make()

    def _make(self) -> dict[str, int]:
        gone = make_card(self.merchant, points=10, at=NOON - days(400))
        expire(NOON - days(230), merchant=self.merchant)
        expire(NOON - days(210), merchant=self.merchant)
        campaign = Campaign.objects.create(
            program=self.merchant.program, name="Spring", starts_at=NOON, ends_at=NOON + days(9)
        )
        reward: Reward = make_reward(self.merchant, points_cost=1)
        member: StaffMember = staff.add_staff_member(
            merchant=self.merchant, display_name="Kim", role="cashier", stores=[], actor="ana", at=NOON
        ).staff_member
        target = make_card(self.merchant, points=5)
        sale = earning.earn(store=self.store, card_id=self.card.pk, amount_minor=2500, at=NOON)
        restoring.restore_points(merchant=self.merchant, card_id=gone.pk, points=1, reason="r", actor="a", at=NOON)
        Message.objects.filter(scope=str(self.merchant.pk), status="due").update(status="sent", sent_at=NOON)
        make_failing_pass(self.card)
        failure = make_failure(card=self.card)
        return {
            "merchant_id": self.merchant.pk,
            "store_id": self.store.pk,
            "card_id": self.card.pk,
            "target_card_id": target.pk,
            "customer_id": self.card.customer_id,
            "program_id": self.merchant.program.pk,
            "campaign_id": campaign.pk,
            "reward_id": reward.pk,
            "staff_member_id": member.pk,
            "transaction_id": sale.pk,
            "run_id": ExpirationRun.objects.filter(merchant=self.merchant).latest("pk").pk,
            "message_id": Message.objects.filter(scope=str(self.merchant.pk)).latest("pk").pk,
            "membership_id": Membership.objects.get(user=self.support.user).pk,
            "sync_run_id": failure.run_id,
            # An intermediate certificate: nobody is called to try one.
            "credential_id": make_credential(kind="wwdr").pk,
            "key_id": keys.issue_store_key(store=self.store, label="Till 2", actor="a", at=NOON).record.pk,
        }

    def asker_of(self, operation: Described) -> Till | Office:
        """Somebody of this world who may carry it out."""
        if not operation.is_of_store:
            return self.admin if OPERATIONS[operation.name].access is Access.PLATFORM else self.manager
        return self.manager_at_till if operation.needs_session else self.till

    def id_of(self, name: str) -> int:
        """The id of this world's thing of that name, such as card_id; `card_ids` and `store_ids` are lists of them."""
        return self.ids[name.removesuffix("s") if name.endswith("_ids") else name]

    def knows(self, name: str) -> bool:
        return (name.removesuffix("s") if name.endswith("_ids") else name) in self.ids


def names_an_id(name: str) -> bool:
    return name.endswith(("_id", "_ids")) and name != "external_id"


def own_body(operation: Described, world: World) -> dict[str, Any]:
    """The documented example, about things of this world."""
    body = copy.deepcopy(operation.body or {})
    body.pop("seen_version", None)  # of an example card, which has another history
    for name in body:
        if names_an_id(name) and world.knows(name):
            body[name] = [world.id_of(name)] if name.endswith("_ids") else world.id_of(name)
    return body


def ask(
    world: World,
    operation: Described,
    *,
    asker: Any = None,
    key: str = "key-for-all",
    path: dict[str, int] | None = None,
    query: dict[str, Any] | None = None,
    body: dict[str, Any] | None = None,
) -> Any:
    """Carry an operation out about things of this world, some of them replaced."""
    address = operation.path
    for name in operation.path_names:
        address = address.replace(f"{{{name}}}", str({**world.ids, **(path or {})}[name]))
    asker = asker or world.asker_of(operation)
    send = getattr(asker.client, operation.method)
    headers = {**asker.headers, "Idempotency-Key": key}
    query = {**operation.required_query, **(query or {})}
    if operation.method == "get":
        return send(address, query, headers=headers)
    if "text/csv" in operation.media_types:
        return send(address, FILE, content_type="text/csv", headers=headers, query_params=query)
    sent = own_body(operation, world) if body is None else body
    return send(address, sent, content_type="application/json", headers=headers, query_params=query)


def without_request_id(answer: Any) -> tuple[int, dict[str, Any]]:
    return answer.status_code, {**answer.json(), "request_id": ""}


def body_ids(operation: Described) -> Iterator[str]:
    yield from (name for name in operation.body or {} if names_an_id(name))
