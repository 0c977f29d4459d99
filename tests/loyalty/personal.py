"""A customer who leaves traces wherever a customer can, each with a word in it that is found nowhere else."""

from dataclasses import dataclass, field
from datetime import date

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction

from loyalty.models import Card, CardImport, CardImportRow, Customer, Merchant, Store, Transaction, TransactionType
from loyalty.services import adjustments, earning, enrolment, ledger, merging, redeeming, replacing
from loyalty.services.enrolment import Person
from loyalty.services.ledger import Move
from loyalty.services.once import Client, Request
from notifications import services as notifications
from notifications.models import Message
from tests.factories import NOON, make_card, make_merchant, make_store
from tests.wallet.rows import make_failing_pass, make_failure
from wallet.models import Registration

EMAIL, PHONE, BIRTH_DATE, EXTERNAL_ID = (
    "canaria.mail@example.com",
    "+352621777333",
    date(1937, 11, 9),
    "CANARIAEXTERNAL",
)
TRACES = {
    "first name": "Canariafirst",
    "last name": "Canarialast",
    "e-mail": EMAIL,
    "phone": PHONE,
    "birth date": BIRTH_DATE.isoformat(),
    "locale": "fr-Canarialocale",
    "external id": EXTERNAL_ID,
    "reason of an adjustment": "Canariaadjusted",
    "reason of an exemption": "Canariaexempted",
    "reason of a merge": "Canariamerged",
    "details": "Canariadetails",
    "device": "CanariaTill",
    "address of a device": "203.0.113.77",
    "error of a mail server": "Canariaunknown",
    "line of an import": "Canariafromafile",
    "note in the admin's log": "Canarialogged",
}
SECRETS_OF_PHONE = ("canariadevice", "ca9a91ade71ce")
FIRST_KEY, SECOND_KEY = "key-of-the-enrolment", "key-of-a-sale"


@dataclass
class Life:
    merchant: Merchant
    store: Store
    customer: Customer
    card: Card
    old_card: Card
    friend: Card
    traces: dict[str, str] = field(default_factory=lambda: dict(TRACES))

    def __post_init__(self) -> None:
        for name, card in (("card", self.card), ("old card", self.old_card)):
            self.traces |= {f"number of the {name}": card.card_number, f"QR token of the {name}": card.qr_token}


def request_of(merchant: Merchant, key: str) -> Request:
    return Request(key=key, fingerprint="f", status=201, merchant_id=merchant.pk)


def live() -> Life:
    """A customer with a card in use (34 points, 3 stamps), a closed one, and a friend whose card was merged."""
    merchant = make_merchant(log_client_address=True)
    store = make_store(merchant)
    old_card = _enrol(store, "key-of-the-old-card")
    Card.objects.filter(pk=old_card.pk).update(status=Card.Status.CLOSED)
    lost = _enrol(store, FIRST_KEY)
    card = _replace(lost)
    friend = make_card(merchant)
    _use(store, card)
    _annotate(card)
    _merge(friend, card)
    _exempt(card)
    _write_mails(card)
    _wait_for_import(merchant)
    _log(card)
    _put_into_phone(card)
    life = Life(merchant, store, card.customer, card, old_card, friend)
    life.traces |= {"number that was lost": lost.card_number, "QR token that was lost": lost.qr_token}
    return life


def _enrol(store: Store, key: str) -> Card:
    person = Person(
        first_name=TRACES["first name"],
        last_name=TRACES["last name"],
        email=EMAIL,
        phone=PHONE,
        birth_date=BIRTH_DATE,
        locale=TRACES["locale"],
        external_id=EXTERNAL_ID,
        terms_accepted_at=NOON,
        marketing_consent_at=NOON,
    )
    return enrolment.enrol(
        merchant=store.merchant, store=store, person=person, at=NOON, request=request_of(store.merchant, key)
    )


def _replace(card: Card) -> Card:
    return replacing.replace_card(merchant=card.program.merchant, card_id=card.pk, reason="lost", actor="ana", at=NOON)


def _use(store: Store, card: Card) -> None:
    client = Client(address=TRACES["address of a device"], agent=TRACES["device"])
    earning.earn(
        store=store,
        card_id=card.pk,
        amount_minor=5000,
        receipt_number="R1",
        at=NOON,
        client=client,
        request=request_of(store.merchant, SECOND_KEY),
    )
    redeeming.redeem_points(store=store, card_id=card.pk, points=20, at=NOON, client=client)
    adjustments.adjust(
        merchant=store.merchant,
        card_id=card.pk,
        points=4,
        stamps=3,
        reason=TRACES["reason of an adjustment"],
        actor="ana",
        at=NOON,
    )


@transaction.atomic
def _annotate(card: Card) -> None:
    """A row whose details hold more than figures."""
    locked = ledger.lock(card.pk, merchant=card.program.merchant)
    details = {"note": TRACES["details"]}
    ledger.post(locked, Move(type=TransactionType.POINTS_EARNED, transaction_at=NOON, details=details), at=NOON)


def _merge(source: Card, target: Card) -> None:
    merging.merge_cards(
        merchant=target.program.merchant,
        source_id=source.pk,
        target_id=target.pk,
        reason=TRACES["reason of a merge"],
        actor="ana",
        at=NOON,
    )


def _exempt(card: Card) -> None:
    adjustments.exempt_from_expiry(
        merchant=card.program.merchant,
        card_id=card.pk,
        reason=TRACES["reason of an exemption"],
        actor="ana",
        at=NOON,
    )


def _write_mails(card: Card) -> None:
    """One sent, one that a mail server refused in words that quote it."""
    notifications.send_messages(at=NOON)
    message = Message.objects.filter(reference=str(card.pk)).get()
    assert message.status == Message.Status.SENT
    message.pk, message.dedupe_key = None, "refused"
    message.status, message.sent_at = Message.Status.DEAD, None
    message.last_error = f"550 <{EMAIL}> {TRACES['error of a mail server']}"
    message.save()


def _wait_for_import(merchant: Merchant) -> None:
    """Three lines about the customer, each by something else, and one about somebody else."""
    job = CardImport.objects.create(merchant=merchant, file_name="cards.csv", sha256="a" * 64, actor="ana")
    known_by = [{"email": EMAIL.upper()}, {"phone": PHONE}, {"external_id": EXTERNAL_ID}]
    for line, known in enumerate(known_by, start=2):
        CardImportRow.objects.create(
            card_import=job, line=line, first_name=TRACES["line of an import"], points="7", **known
        )
    CardImportRow.objects.create(card_import=job, line=9, email="ben@example.com", external_id="K-9", points="7")


def _log(card: Card) -> None:
    user, _ = User.objects.get_or_create(username="log")
    for thing in (card, card.customer):
        LogEntry.objects.create(
            user=user,
            content_type=ContentType.objects.get_for_model(thing),
            object_id=str(thing.pk),
            object_repr=str(thing),
            action_flag=CHANGE,
            change_message=TRACES["note in the admin's log"],
        )


def _put_into_phone(card: Card) -> None:
    """A pass that was told once and not again."""
    wallet_pass = make_failing_pass(card)
    device, push_token = SECRETS_OF_PHONE
    Registration.objects.create(wallet_pass=wallet_pass, device=device, push_token=push_token, registered_at=NOON)
    make_failure(card=card)


def found(words: dict[str, str]) -> dict[str, list[str]]:
    """The tables in which each word is, in any column of any row, whatever its case."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT quote_ident(nspname) || '.' || quote_ident(relname) FROM pg_class "
            "JOIN pg_namespace ON pg_namespace.oid = relnamespace "
            "WHERE relkind IN ('r', 'p', 'm') AND nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')"
        )
        tables = [table for (table,) in cursor.fetchall()]
        places: dict[str, list[str]] = {name: [] for name in words}
        for table in tables:
            for name, word in words.items():
                cursor.execute(
                    f"SELECT EXISTS (SELECT FROM {table} t WHERE strpos(lower(t::text), lower(%s)) > 0)", [word]
                )
                [[is_there]] = cursor.fetchall()
                places[name] += [table] * is_there
    return {name: tables for name, tables in places.items() if tables}


def totals() -> dict[str, tuple[int, int, int]]:
    """Rows, points and stamps of each type of transaction."""
    sums: dict[str, tuple[int, int, int]] = {}
    for type_, points, stamps in Transaction.objects.values_list("type", "points_delta", "stamps_delta"):
        rows, points_before, stamps_before = sums.get(type_, (0, 0, 0))
        sums[type_] = (rows + 1, points_before + points, stamps_before + stamps)
    return sums
