"""Customers: what is known about them is put right."""

from datetime import date, datetime
from typing import Any, TypedDict

import structlog
from django.db import transaction
from django.db.models import F

from loyalty.errors import AlreadyErased, ContactTaken, CustomerNotFound, InvalidInput
from loyalty.models import CardBalance, Customer, Merchant
from loyalty.models.contact import normalised_email, normalised_phone
from loyalty.services.saving import save_checked

log = structlog.get_logger()
SHOWN_ON_CARDS = {"first_name", "locale"}
TAKEN = {"email": "e-mail address", "phone": "phone number", "external_id": "external id"}


class CustomerChanges(TypedDict, total=False):
    """What is to be different; what is not named stays. An empty string takes a value away."""

    first_name: str
    last_name: str
    email: str
    phone: str
    birth_date: date | None
    locale: str
    external_id: str
    accepts_marketing: bool


def update_customer(
    *, merchant: Merchant, customer_id: int, changes: CustomerChanges, actor: str, at: datetime
) -> Customer:
    """Change what is given of a customer and leave the rest. Mails that are queued go to the address they were for.

    A consent to marketing that was given before keeps its moment.

    Raises:
        CustomerNotFound: the merchant has no such customer.
        AlreadyErased: there is nobody any more whose data this would be.
        ContactTaken: another customer of the merchant has this e-mail address, phone number or external id.
        InvalidInput: a value has no usable form.
        NothingToChange: all of it is as asked for.
    """
    values = _normalised(changes, country=merchant.country)
    with transaction.atomic():
        customer = _lock(merchant, customer_id)
        values |= _consent(customer, changes, at=at)
        try:
            save_checked(customer, **values)
        except InvalidInput:
            _refuse_taken(customer)
            raise
        if SHOWN_ON_CARDS & values.keys():
            # Phones show a card with its customer's name, in the customer's language: it has changed for them.
            balances = CardBalance.objects.filter(card__customer=customer)
            balances.update(version=F("version") + 1, changed_at=at)
    log.info("loyalty.customer_updated", customer_id=customer_id, changed=sorted(changes), actor=actor)
    return customer


def _normalised(changes: CustomerChanges, *, country: str) -> dict[str, Any]:
    """The columns to write, in the one form in which they are kept."""
    values: dict[str, Any] = {
        name: value.strip() if isinstance(value, str) else value
        for name, value in changes.items()
        if name != "accepts_marketing"
    }
    if "email" in values:
        values["email"] = normalised_email(values["email"])
    if "phone" in values:
        values["phone"] = normalised_phone(values["phone"], country=country)
    return values


def _lock(merchant: Merchant, customer_id: int) -> Customer:
    customer = Customer.objects.select_for_update(no_key=True).filter(merchant=merchant, pk=customer_id).first()
    if customer is None:
        raise CustomerNotFound("This customer is not known here.", customer_id=customer_id)
    if customer.erased_at:
        raise AlreadyErased("The data of this customer has been erased. Nothing can be added to it.")
    return customer


def _consent(customer: Customer, changes: CustomerChanges, *, at: datetime) -> dict[str, Any]:
    if "accepts_marketing" not in changes:
        return {}
    return {"marketing_consent_at": (customer.marketing_consent_at or at) if changes["accepts_marketing"] else None}


def _refuse_taken(customer: Customer) -> None:
    """Say in words that somebody else is known by one of this customer's new values."""
    for name, words in TAKEN.items():
        others = Customer.objects.known_as(merchant=customer.merchant, **{name: getattr(customer, name)})
        if other := others.exclude(pk=customer.pk).first():
            raise ContactTaken(
                f"Another customer, number {other.pk}, has this {words}.", field=name, customer_id=other.pk
            )
