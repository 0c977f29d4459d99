"""Everything that is held about a customer, for the customer."""

import json
from datetime import datetime
from typing import Any

import structlog
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Model, QuerySet

from loyalty.models import Merchant
from loyalty.services.privacy.held import card_ids_of, get_customer, held_about, held_above

log = structlog.get_logger()


def export_customer(*, merchant: Merchant, customer_id: int, at: datetime) -> dict[str, Any]:
    """All rows about a customer as plain data that JSON can say: columns by name, moments in ISO 8601, money in minor
    units. Each card has its balance in it. Changes nothing.

    Raises:
        CustomerNotFound: the merchant has no such customer.
    """
    customer = get_customer(merchant, customer_id)
    card_ids = card_ids_of(customer)
    held: dict[str, QuerySet[Any]] = {**held_about(customer, card_ids)._asdict(), **held_above(card_ids)}
    rows = {name: [_columns(row) for row in found] for name, found in held.items()}
    balances = {balance["card_id"]: balance for balance in rows.pop("balances")}
    document = {
        "exported_at": at,
        "merchant": {"id": merchant.pk, "name": merchant.name},
        **rows,
        "customer": rows["customer"][0],
        "cards": [{**card, "balance": balances[card["id"]]} for card in rows["cards"]],
    }
    log.info("loyalty.customer_exported", merchant_id=merchant.pk, customer_id=customer_id)
    plain: dict[str, Any] = json.loads(json.dumps(document, cls=DjangoJSONEncoder))
    return plain


def _columns(row: Model) -> dict[str, Any]:
    """What the row says, without what opens a door: a model names that in NOT_GIVEN_OUT."""
    kept_back = getattr(row, "NOT_GIVEN_OUT", ())
    columns = [field for field in row._meta.concrete_fields if field.name not in kept_back]
    return {field.attname: field.value_from_object(row) for field in columns}
