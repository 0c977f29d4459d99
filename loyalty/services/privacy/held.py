"""Where a customer's data is. An export shows all of these rows, an erasure empties or deletes them."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import ManyToOneRel, Model, Q, QuerySet

from loyalty.errors import CustomerNotFound
from loyalty.models import (
    Card,
    CardBalance,
    CardImportRow,
    Customer,
    ExemptionChange,
    IdempotencyKey,
    Merchant,
    ReceiptClaim,
    Transaction,
)
from loyalty.models.card import CARD_NUMBER_DIGITS
from loyalty.models.contact import normalised_phone
from notifications.models import Message

DIGITS = re.compile("[0-9]{1,18}")


class Held(NamedTuple):
    """All rows that are about a customer, by the names under which an export gives them out."""

    customer: QuerySet[Customer]
    cards: QuerySet[Card]
    balances: QuerySet[CardBalance]
    transactions: QuerySet[Transaction]
    receipt_claims: QuerySet[ReceiptClaim]
    exemption_changes: QuerySet[ExemptionChange]
    messages: QuerySet[Message]
    answered_requests: QuerySet[IdempotencyKey]
    import_lines: QuerySet[CardImportRow]
    admin_log: QuerySet[LogEntry]


def held_about(customer: Customer, card_ids: list[int]) -> Held:
    """The rows about a customer with these cards. A model that is to hold personal data gets its rows here."""
    return Held(
        customer=Customer.objects.filter(pk=customer.pk),
        cards=Card.objects.filter(pk__in=card_ids).order_by("pk"),
        balances=CardBalance.objects.filter(card__in=card_ids).order_by("pk"),
        transactions=Transaction.objects.filter(card__in=card_ids).order_by("card", "seq"),
        receipt_claims=ReceiptClaim.objects.filter(transaction__card__in=card_ids).order_by("pk"),
        exemption_changes=ExemptionChange.objects.filter(card__in=card_ids).order_by("pk"),
        messages=Message.objects.filter(reference__in=map(str, card_ids)).order_by("pk"),
        answered_requests=IdempotencyKey.objects.filter(card__in=card_ids).order_by("pk"),
        import_lines=_import_lines(customer),
        admin_log=LogEntry.objects.filter(_logged(Customer, [customer.pk]) | _logged(Card, card_ids)).order_by("pk"),
    )


def held_above(card_ids: list[int]) -> dict[str, QuerySet[Any]]:
    """Rows about these cards in apps above, by the names under which an export gives them out.

    Nothing is known of those apps here, so an erasure is theirs to follow.
    """
    return {
        f"{model._meta.app_label}_{model._meta.verbose_name_plural}".replace(" ", "_"): model._default_manager.filter(
            **{f"{way}__in": card_ids}
        ).order_by("pk")
        for model, way in _pointing_at(Card)
    }


def _pointing_at(model: type[Model], way: str = "") -> Iterator[tuple[type[Model], str]]:
    """Models of apps above that point at this one, straight or through each other, and the way from them to it."""
    for relation in model._meta.get_fields(include_hidden=True):
        if isinstance(relation, ManyToOneRel) and relation.related_model._meta.app_label != Card._meta.app_label:
            way_here = "__".join(filter(None, [relation.field.name, way]))
            yield relation.related_model, way_here
            yield from _pointing_at(relation.related_model, way_here)


def get_customer(merchant: Merchant, customer_id: int) -> Customer:
    """The customer with this id.

    Raises:
        CustomerNotFound: the merchant has no such customer.
    """
    found = Customer.objects.filter(merchant=merchant, pk=customer_id).first()
    if found is None:
        raise not_known(customer_id)
    return found


def not_known(customer_id: int) -> CustomerNotFound:
    return CustomerNotFound("This customer is not known here.", customer_id=customer_id)


def card_ids_of(customer: Customer) -> list[int]:
    """All cards that the customer has or had, oldest first, which is the order in which cards are locked."""
    return list(Card.objects.filter(customer=customer).order_by("pk").values_list("pk", flat=True))


def find_customer(*, merchant: Merchant, name: str) -> Customer:
    """The customer with this id, e-mail address or phone number, or the holder of the card with this number.

    Raises:
        CustomerNotFound: the merchant has no such customer.
        InvalidInput: it begins like a phone number and is none.
    """
    found = _called(name.strip(), merchant).first() if name.isprintable() else None
    if found is None:
        raise CustomerNotFound("There is no such customer. Give an id, an e-mail address, a phone or a card number.")
    return found


def _called(name: str, merchant: Merchant) -> QuerySet[Customer]:
    customers, digits = Customer.objects.filter(merchant=merchant), "".join(name.split())
    if "@" in name:
        return Customer.objects.known_as(merchant=merchant, email=name)
    if name.startswith("+"):
        return Customer.objects.known_as(merchant=merchant, phone=normalised_phone(name, country=merchant.country))
    if not DIGITS.fullmatch(digits):
        return customers.none()
    if len(digits) == CARD_NUMBER_DIGITS:
        return customers.filter(cards__card_number=digits)
    return customers.filter(pk=int(digits))


def _import_lines(customer: Customer) -> QuerySet[CardImportRow]:
    """Lines of unfinished imports that are about this person."""
    same = Q(pk=None)
    if customer.external_id:
        same |= Q(external_id=customer.external_id)
    if customer.email:
        same |= Q(email__iexact=customer.email)
    if customer.phone:
        same |= Q(phone=customer.phone)
    lines = CardImportRow.objects.filter(same, card_import__merchant=customer.merchant_id)
    return lines.order_by("card_import", "line")


def _logged(model: type[Model], ids: list[int]) -> Q:
    kind = ContentType.objects.get_for_model(model)
    return Q(content_type=kind, object_id__in=map(str, ids))
