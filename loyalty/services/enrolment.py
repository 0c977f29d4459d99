"""Customers get their card."""

from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

import structlog
from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from loyalty.errors import AlreadyEnrolled, AlreadyErased, ConflictingCustomer, EnrolmentClosed, TermsNotAccepted
from loyalty.models import Card, Customer, Merchant, Program, StaffMember, Store, TransactionType
from loyalty.models.card import new_card_number
from loyalty.models.contact import normalised_email, normalised_phone
from loyalty.services import ledger, messages
from loyalty.services.ledger import Move
from loyalty.services.once import Request, look, once, record

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Person:
    """Who enrols. Each value may be empty."""

    first_name: str = ""
    last_name: str = ""
    email: str = ""
    phone: str = ""
    birth_date: date | None = None
    locale: str = ""
    external_id: str = ""
    terms_accepted_at: datetime | None = None
    marketing_consent_at: datetime | None = None


def enrol(
    *,
    merchant: Merchant,
    person: Person,
    at: datetime,
    store: Store | None = None,
    staff_member: StaffMember | None = None,
    actor: str = "",
    needs_terms: bool = False,
    request: Request | None = None,
) -> Card:
    """Give a customer a card: the customer, the card, its first ledger row, the welcome bonus and a message.

    A known customer (same e-mail, phone or external id) without a card in use gets a new one.

    Raises:
        EnrolmentClosed: the merchant has no active program.
        AlreadyEnrolled: the customer has a card; `card_id` names it.
        TermsNotAccepted: they are needed, and the person has not.
        ConflictingCustomer: e-mail, phone and external id belong to different customers.
        AlreadyErased: the customer was erased at this very moment; once more makes a new one.
        InvalidInput: the e-mail address or phone number has no usable form.
        AnsweredBefore, IdempotencyKeyReused, IdempotencyKeyExpired: as `once`.
    """
    created = Move(
        type=TransactionType.CARD_CREATED,
        transaction_at=at,
        store=store,
        staff_member=staff_member,
        actor=actor,
        request=request,
    )
    with once(request):
        look(request)
        if needs_terms and person.terms_accepted_at is None:
            raise TermsNotAccepted("The customer has to accept the terms of the program first.")
        program = open_program(merchant)
        customer = _customer(merchant, person, at=at)
        try:
            with transaction.atomic():
                card = _issue(program, customer, created)
                record(request, answer=as_issued(card), card_id=card.pk, at=at)
        except IntegrityError:
            # Somebody enrolled the same customer at the same moment: theirs is the card.
            _refuse_if_enrolled(next(iter(_known(merchant, customer)), None))
            raise
    log.info("loyalty.card_created", merchant_id=merchant.pk, card_id=card.pk)
    return card


def open_program(merchant: Merchant) -> Program:
    program = Program.objects.select_related("merchant").filter(
        merchant=merchant, is_active=True, merchant__is_active=True
    )
    if found := program.first():
        return found
    raise EnrolmentClosed("This merchant gives out no cards at the moment.")


def _customer(merchant: Merchant, person: Person, *, at: datetime) -> Customer:
    """The customer that is meant: a known one, or a new one that is not saved yet."""
    customer = Customer(
        merchant=merchant,
        first_name=person.first_name.strip(),
        last_name=person.last_name.strip(),
        email=normalised_email(person.email),
        phone=normalised_phone(person.phone, country=merchant.country),
        birth_date=person.birth_date,
        locale=person.locale,
        external_id=person.external_id.strip(),
        terms_accepted_at=person.terms_accepted_at,
        marketing_consent_at=person.marketing_consent_at,
        created_at=at,
    )
    known = list(_known(merchant, customer))
    if len(known) > 1:
        raise ConflictingCustomer("The e-mail address and the phone number belong to different customers.")
    if known:
        _refuse_if_enrolled(known[0])
    return known[0] if known else customer


def _known(merchant: Merchant, customer: Customer) -> QuerySet[Customer]:
    return Customer.objects.known_as(
        merchant=merchant, email=customer.email, phone=customer.phone, external_id=customer.external_id
    )


def _refuse_if_enrolled(customer: Customer | None) -> None:
    card = Card.objects.in_use().filter(customer=customer).first() if customer else None
    if card:
        raise AlreadyEnrolled("This customer already has a card.", card_id=card.pk)


def _issue(program: Program, customer: Customer, created: Move) -> Card:
    at = created.transaction_at
    if customer.pk is None:
        customer.save(force_insert=True)
    elif not Customer.objects.select_for_update(no_key=True).filter(pk=customer.pk, erased_at=None).exists():
        raise AlreadyErased("The data of this customer was erased a moment ago. Please enrol once more.")
    card = Card.objects.create(
        program=program,
        customer=customer,
        card_number=free_card_number(),
        enrolled_at_store=created.store,
        created_at=at,
    )
    moves = [created]
    bonus = program.welcome_bonus_points
    if bonus:
        moves.append(replace(created, type=TransactionType.WELCOME_BONUS, points=bonus, request=None))
    ledger.open_balances([ledger.Opening(card, moves)], at=at)
    messages.queue_enrolment(card, welcome_bonus=bonus, at=at)
    return card


def as_issued(card: Card) -> dict[str, Any]:
    """What an answer says that a later replacement or sale would change."""
    return {
        "card": card.pk,
        "card_number": card.card_number,
        "qr_token": card.qr_token,
        "points_balance": card.balance.points_balance,
    }


def free_card_number() -> str:
    """A random number that no card has: with a million cards, one draw in 90,000 is taken."""
    while True:
        number = new_card_number()
        if not Card.objects.filter(card_number=number).exists():
            return number
