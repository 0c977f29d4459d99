"""A customer's personal data goes; what was sold, earned and redeemed stays, and with it every total."""

from dataclasses import asdict, dataclass, replace
from datetime import datetime

import structlog
from django.db import transaction
from django.db.models import Q, QuerySet

from loyalty.errors import AlreadyErased
from loyalty.models import Card, Customer, ExemptionChange, Merchant, Transaction, TransactionType
from loyalty.models.card import new_qr_token
from loyalty.models.transaction import ERASED
from loyalty.services import ledger
from loyalty.services.adjustments import require_reason
from loyalty.services.enrolment import free_card_number
from loyalty.services.ledger import Move
from loyalty.services.once import Request, look, once, record
from loyalty.services.privacy.held import Held, card_ids_of, get_customer, held_about, not_known
from notifications import services as notifications

log = structlog.get_logger()


@dataclass(frozen=True)
class ErasureReport:
    """What an erasure did, or for a preview would do. `points` and `stamps` are the balances that it closes out.

    `merged_customer_ids` are other customers whose cards were merged with this one's: perhaps the same person, whose
    data is still there.
    """

    customer_id: int
    card_ids: list[int]
    points: int
    stamps: int
    messages: int
    answered_requests: int
    import_lines: int
    merged_customer_ids: list[int]


def preview_erasure(*, merchant: Merchant, customer_id: int) -> ErasureReport:
    """What `erase_customer` would do at this moment. Changes nothing.

    Raises:
        CustomerNotFound, AlreadyErased: as for an erasure.
    """
    customer = get_customer(merchant, customer_id)
    _require_not_erased(customer)
    return _report(customer, held_about(customer, card_ids_of(customer)))


def erase_customer(
    *, merchant: Merchant, customer_id: int, reason: str, actor: str, at: datetime, request: Request | None = None
) -> ErasureReport:
    """Erase all personal data of a customer, for good.

    Every card is emptied by an adjustment, deactivated with this actor and reason, and gets another number and QR
    token, so that the old ones lead nowhere. What people and devices left on ledger rows, exemptions, messages and in
    the admin's log is overwritten; answers kept for repeated requests and waiting lines of imports are deleted. Nothing
    that was sold, earned or redeemed changes. The person may enrol again, as somebody new.

    The actor and the reason are kept and must not name the customer. The answer to a request is the report.

    Raises:
        CustomerNotFound: the merchant has no such customer.
        AlreadyErased: the customer's data is gone.
        ReasonRequired, InvalidInput: there is no usable reason.
        AnsweredBefore, IdempotencyKeyReused: as `once`.
    """
    reason = require_reason(reason)
    deactivation = Move(
        type=TransactionType.CARD_DEACTIVATED,
        reason=reason,
        actor=actor,
        transaction_at=at,
        details={"status": Card.Status.ERASED.value},
    )
    with once(request), transaction.atomic():
        customer = _lock(merchant, customer_id)
        look(request)
        report = _erase(customer, deactivation, at=at)
        record(request, answer=asdict(report), at=at)
    log.info("loyalty.customer_erased", merchant_id=merchant.pk, customer_id=customer_id, card_ids=report.card_ids)
    return report


def _erase(customer: Customer, deactivation: Move, *, at: datetime) -> ErasureReport:
    card_ids = card_ids_of(customer)
    cards = [ledger.lock(card_id, merchant=customer.merchant) for card_id in card_ids]
    held = held_about(customer, card_ids)
    report = _report(customer, held)
    # First: an import that holds these lines ends its chunk before it meets anything that is changed below.
    held.import_lines.delete()
    held.answered_requests.delete()
    _overwrite_notes(held, card_ids)
    for card_id in card_ids:
        notifications.scrub(reference=str(card_id), at=at)
    for card in cards:
        _close(card, deactivation, at=at)
    _empty(customer, at=at)
    return report


def _lock(merchant: Merchant, customer_id: int) -> Customer:
    """The customer, who gets no other card until the transaction ends."""
    customer = Customer.objects.select_for_update().filter(merchant=merchant, pk=customer_id).first()
    if customer is None:
        raise not_known(customer_id)
    _require_not_erased(customer)
    customer.merchant = merchant
    return customer


def _require_not_erased(customer: Customer) -> None:
    if customer.erased_at:
        raise AlreadyErased("The data of this customer has been erased already.", customer_id=customer.pk)


def _report(customer: Customer, held: Held) -> ErasureReport:
    balances = list(held.balances)
    return ErasureReport(
        customer_id=customer.pk,
        card_ids=[balance.card_id for balance in balances],
        points=sum(balance.points_balance for balance in balances),
        stamps=sum(balance.stamp_count for balance in balances),
        messages=held.messages.count(),
        answered_requests=held.answered_requests.count(),
        import_lines=held.import_lines.count(),
        merged_customer_ids=sorted({card.customer_id for card in _merged_with(held.cards)} - {customer.pk}),
    )


def _merged_with(cards: QuerySet[Card]) -> QuerySet[Card]:
    """Cards that were merged into one of these, or into which one of these was merged."""
    return Card.objects.filter(Q(merged_into__in=cards.order_by()) | Q(pk__in=cards.order_by().values("merged_into")))


def _overwrite_notes(held: Held, card_ids: list[int]) -> None:
    """Put one word in the place of what people and devices left. What is empty says nothing and stays."""
    for column in ("reason", "client_address", "client_agent"):
        held.transactions.exclude(**{column: ""}).update(**{column: ERASED})
    held.transactions.exclude(details={}).update(details=ERASED)
    _other_halves(held, card_ids).update(reason=ERASED)
    held.exemption_changes.update(reason=ERASED)
    held.admin_log.update(object_repr=ERASED, change_message=ERASED)


def _other_halves(held: Held, card_ids: list[int]) -> QuerySet[Transaction]:
    """What merges with these cards wrote on other people's cards, for the same reason."""
    about_these = Q(details__merged_from__in=card_ids) | Q(details__merged_into__in=card_ids)
    return Transaction.objects.filter(about_these, card__in=_merged_with(held.cards))


def _close(card: Card, deactivation: Move, *, at: datetime) -> None:
    points, stamps = card.balance.points_balance, card.balance.stamp_count
    if points or stamps:
        close_out = replace(deactivation, type=TransactionType.ADMIN_ADJUSTMENT, points=-points, stamps=-stamps)
        ledger.post(card, replace(close_out, details={}), at=at)
    ledger.post(card, deactivation, at=at)
    if card.expiration_exempt:
        ExemptionChange.objects.create(
            card=card, exempt=False, reason=deactivation.reason, actor=deactivation.actor, changed_at=at
        )
    card.status, card.merged_into = Card.Status.ERASED, None
    card.card_number, card.qr_token = free_card_number(), new_qr_token()
    card.expiration_exempt, card.expiration_exempt_reason = False, ""
    card.save()


def _empty(customer: Customer, *, at: datetime) -> None:
    customer.first_name = customer.last_name = customer.email = customer.phone = ""
    customer.locale = customer.external_id = ""
    customer.birth_date = customer.terms_accepted_at = customer.marketing_consent_at = None
    customer.erased_at = at
    customer.save()
