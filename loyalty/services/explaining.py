"""A card's story in words: what it holds, until when and why, and what happened."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime

from django.db.models import QuerySet
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from loyalty.errors import CardNotFound
from loyalty.models import Card, Merchant, Transaction, TransactionType
from loyalty.models.money import spelled
from notifications.models import Message

LATEST_MOVEMENTS = 20


@dataclass(frozen=True)
class Movement:
    """One ledger row in words."""

    transaction_id: int
    happened_on: date
    sentence: str
    points_delta: int
    points_balance_after: int


@dataclass(frozen=True)
class CardStory:
    """What a card holds and why. `keeps_until` is the last day of its points; None when they do not expire.

    A card whose balance is missing has 0 here, and a sentence that says so.
    """

    card_id: int
    card_number: str
    points_balance: int
    stamp_count: int
    keeps_until: date | None
    sentences: list[str]
    movements: list[Movement]


def explain(*, merchant: Merchant, card_id: int, at: datetime, movements: int = LATEST_MOVEMENTS) -> CardStory:
    """Tell a card's story: balance, the day it keeps until and why, warnings and mails, the latest movements.

    Raises:
        CardNotFound: the merchant has no such card.
    """
    cards = Card.objects.of(merchant).select_related("balance", "customer", "program__merchant")
    card = cards.filter(pk=card_id).first()
    if card is None:
        raise CardNotFound("This card is not known here.", card_id=card_id)
    balance = getattr(card, "balance", None)
    last_day = keeps_until(card, at=at) if balance else None
    rows = ledger_rows(card=card).order_by("-seq")[:movements]
    return CardStory(
        card_id=card.pk,
        card_number=card.card_number,
        points_balance=balance.points_balance if balance else 0,
        stamp_count=balance.stamp_count if balance else 0,
        keeps_until=last_day,
        sentences=[_holds(card), *_differs(card), *_why(card, last_day, at=at), *_warned(card)]
        if balance
        else [_no_balance()],
        movements=[_movement(row, card) for row in rows],
    )


def ledger_rows(*, card: Card) -> QuerySet[Transaction]:
    """A card's ledger rows with what their sentences name."""
    return Transaction.objects.filter(card=card).select_related(
        "store", "reward", "merchant", "card__program__merchant"
    )


def sentence_about(row: Transaction, card: Card) -> str:
    """A ledger row in words."""
    return SENTENCES.get(TransactionType(row.type), _plain)(row, card)


def keeps_until(card: Card, *, at: datetime) -> date | None:
    """The last day on which the card's points can surely be used; None when there are none or they do not expire."""
    may_expire = card.program.expires and card.status == Card.Status.ACTIVE and not card.expiration_exempt
    if not may_expire or card.balance.points_balance == 0:
        return None
    policy = card.program.policy
    return policy.keeps_at_least_until(card.balance.cycle, policy.local_date(at))


def _no_balance() -> str:
    return _("The card has no balance, which is a fault of the database: its ledger alone says what it held.")


def _holds(card: Card) -> str:
    points = card.balance.points_balance
    sentence = ngettext("The card holds %(count)s point.", "The card holds %(count)s points.", points)
    return sentence % {"count": f"{points:,}"}


def _differs(card: Card) -> list[str]:
    """That the balance left the path of its ledger, which keeps every move from it, expiry too."""
    balance, last = card.balance, ("points_balance_after", "stamps_balance_after", "seq")
    stated = Transaction.objects.filter(card=card).order_by("-seq").values_list(*last).first() or (0, 0, 0)
    if stated == (balance.points_balance, balance.stamp_count, balance.last_seq):
        return []
    return [
        _(
            "Its ledger ends at %(points)s points and %(stamps)s stamps, in row %(seq)s, and its balance is another: "
            "the card cannot move, and nothing expires on it, before that is mended."
        )
        % {"points": f"{stated[0]:,}", "stamps": stated[1], "seq": stated[2]}
    ]


def _why(card: Card, last_day: date | None, *, at: datetime) -> list[str]:
    """Until when the points can be used, and which rule says so."""
    program, policy = card.program, card.program.policy
    if card.status != Card.Status.ACTIVE:
        return [_("The card is %(status)s; nothing expires on it.") % {"status": card.get_status_display()}]
    if card.expiration_exempt:
        return [_("It is exempt from expiry: %(reason)s") % {"reason": card.expiration_exempt_reason}]
    if not program.expires:
        return [_("Points of this program do not expire.")]
    if last_day is None:
        return [_("There is nothing that could expire.")]
    last, today = policy.local_date(card.balance.last_activity_at), policy.local_date(at)
    waits_for_warning = last_day > policy.keeps_until(card.balance.cycle)
    usable = (
        _("The points can be used at least to the end of %(day)s (%(zone)s time).")
        if waits_for_warning
        else _("The points can be used to the end of %(day)s (%(zone)s time).")
    )
    sentences = [
        usable % {"day": date_format(last_day), "zone": program.merchant.timezone},
        _("The last activity was on %(day)s and points expire after %(days)s days without one.")
        % {"day": date_format(last), "days": policy.expires_after_days},
    ]
    if not waits_for_warning and last_day > policy.expires_on(card.balance.last_activity_at):
        sentences.append(_("That is later than the rule says, because this day was promised in a warning."))
    if program.is_paused(today) and program.expiration_paused_until:
        sentences.append(_("Expiry is paused until %(day)s.") % {"day": date_format(program.expiration_paused_until)})
    elif waits_for_warning:
        sentences.append(_("They are kept until a warning has been sent and its time is up."))
    return sentences


def _warned(card: Card) -> list[str]:
    """When the customer was warned in this cycle, and whether that mail arrived."""
    warned_at = card.balance.last_expiration_warning_at
    if warned_at is None:
        return []
    sentence = _("The customer was warned on %(day)s.") % {
        "day": date_format(card.program.policy.local_date(warned_at))
    }
    mails = Message.objects.about(str(card.pk)).filter(kind=Message.Kind.POINTS_EXPIRING).order_by("-pk")
    return [sentence, _mail(card, mails.first())]


def _mail(card: Card, mail: Message | None) -> str:
    if mail is None:
        return _("No mail about it is kept any more.")
    if mail.sent_at:
        return _("The mail was handed over on %(day)s.") % {
            "day": date_format(card.program.policy.local_date(mail.sent_at))
        }
    sentences = {
        Message.Status.UNDELIVERABLE: _("No mail could be sent: the customer has no address."),
        Message.Status.DEAD: _("The mail could not be delivered: %(error)s") % {"error": mail.last_error},
        Message.Status.CANCELLED: _("The mail was cancelled before it was sent."),
    }
    return sentences.get(Message.Status(mail.status), _("The mail is waiting to be sent."))


def _movement(row: Transaction, card: Card) -> Movement:
    return Movement(
        transaction_id=row.pk,
        happened_on=card.program.policy.local_date(row.transaction_at),
        sentence=sentence_about(row, card),
        points_delta=row.points_delta,
        points_balance_after=row.points_balance_after,
    )


def _plain(row: Transaction, card: Card) -> str:
    label = str(row.get_type_display())
    sentence = f"{label[:1].upper()}{label[1:]}."
    return f"{sentence} {row.reason}" if row.reason else sentence


def _earned(row: Transaction, card: Card) -> str:
    amount = spelled(row.amount_minor or 0, card.program.merchant.currency)
    return _("A purchase of %(amount)s%(where)s earned %(points)s points.") % {
        "amount": amount,
        "where": _where(row),
        "points": f"{row.points_delta:,}",
    }


def _where(row: Transaction) -> str:
    return _(" at %(store)s") % {"store": row.store.name} if row.store else ""


def _redeemed(row: Transaction, card: Card) -> str:
    points = f"{-row.points_delta:,}"
    if row.reward:
        return _("%(points)s points were exchanged for %(reward)s.") % {"points": points, "reward": row.reward.name}
    return _("%(points)s points were used as a discount.") % {"points": points}


def _expired(row: Transaction, card: Card) -> str:
    if not isinstance(row.details, dict):
        return _plain(row, card)
    expires_on = date.fromisoformat(row.details["expires_on"])
    promised = row.details.get("warned_for")
    last_day = max(expires_on, date.fromisoformat(promised)) if promised else expires_on
    sentence = _("%(points)s points expired. They could be used until %(day)s") % {
        "points": f"{-row.points_delta:,}",
        "day": date_format(last_day),
    }
    warned_at = row.details.get("warned_at")
    if not warned_at:
        return sentence + _("; no warning was required.")
    warned_on = card.program.policy.local_date(datetime.fromisoformat(warned_at))
    return sentence + _("; the customer was warned on %(day)s.") % {"day": date_format(warned_on)}


def _adjusted(row: Transaction, card: Card) -> str:
    verb = _("restored") if isinstance(row.details, dict) and "restores" in row.details else _("adjusted")
    return _("%(actor)s %(verb)s the balance by %(points)s points: %(reason)s") % {
        "actor": row.actor,
        "verb": verb,
        "points": f"{row.points_delta:+,}",
        "reason": row.reason,
    }


def _stamped(row: Transaction, card: Card) -> str:
    sentence = ngettext(
        "%(count)s stamp was collected%(where)s.", "%(count)s stamps were collected%(where)s.", row.stamps_delta
    )
    return sentence % {"count": f"{row.stamps_delta:,}", "where": _where(row)}


def _stamps_redeemed(row: Transaction, card: Card) -> str:
    reward = row.details.get("reward") if isinstance(row.details, dict) else ""
    return _("%(reward)s was given for %(stamps)s.") % {
        "reward": reward or _("A reward"),
        "stamps": _stamps(-row.stamps_delta),
    }


def _voided(row: Transaction, card: Card) -> str:
    """A purchase or stamps taken back, whole or in part."""
    details = row.details if isinstance(row.details, dict) else {}
    if "refunded_minor" in details:
        amount = spelled(row.amount_minor or 0, card.program.merchant.currency)
        sentence = _("A refund of %(amount)s took back %(taken)s") % {"amount": amount, "taken": _taken(row)}
    elif row.type == TransactionType.STAMP_VOIDED:
        sentence = _("Stamps were voided, which took back %(taken)s") % {"taken": _taken(row)}
    else:
        sentence = _("A purchase was voided, which took back %(taken)s") % {"taken": _taken(row)}
    if shortfall := details.get("shortfall"):
        sentence += _(" (%(count)s more were no longer on the card)") % {"count": f"{shortfall:,}"}
    return f"{sentence}: {row.reason}"


def _redemption_voided(row: Transaction, card: Card) -> str:
    came_back = {"taken": _taken(row), "reason": row.reason}
    if row.reward:
        return _("The exchange for %(reward)s was voided, which gave back %(taken)s: %(reason)s") % {
            "reward": row.reward.name,
            **came_back,
        }
    return _("A redemption was voided, which gave back %(taken)s: %(reason)s") % came_back


def _taken(row: Transaction) -> str:
    """Points or stamps that a reversal moved, counted upwards."""
    if row.stamps_delta or row.type == TransactionType.STAMP_VOIDED:
        return _stamps(abs(row.stamps_delta))
    points = abs(row.points_delta)
    return ngettext("%(count)s point", "%(count)s points", points) % {"count": f"{points:,}"}


def _stamps(count: int) -> str:
    return ngettext("%(count)s stamp", "%(count)s stamps", count) % {"count": f"{count:,}"}


SENTENCES: dict[TransactionType, Callable[[Transaction, Card], str]] = {
    TransactionType.POINTS_EARNED: _earned,
    TransactionType.POINTS_REDEEMED: _redeemed,
    TransactionType.POINTS_VOIDED: _voided,
    TransactionType.STAMP_EARNED: _stamped,
    TransactionType.STAMP_REDEEMED: _stamps_redeemed,
    TransactionType.STAMP_VOIDED: _voided,
    TransactionType.REDEMPTION_VOIDED: _redemption_voided,
    TransactionType.POINTS_EXPIRED: _expired,
    TransactionType.ADMIN_ADJUSTMENT: _adjusted,
}
