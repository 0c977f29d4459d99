"""Cards as a back office sees them: found, told about, given out."""

from typing import Any

from django.db.models import Q, QuerySet
from django.urls import path
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from loyalty import errors
from loyalty.api.admin.finding import cards_shown, find_card, find_stores, in_sight
from loyalty.api.admin.restoring import ONCE
from loyalty.api.answers import iso
from loyalty.api.fields import LARGEST_ID, Id, Text
from loyalty.api.operations import Access, operation
from loyalty.api.pages import PageQuery
from loyalty.api.store.answers import DAY, EnrolledOut, MovementOut
from loyalty.api.store.cards import EnrolIn
from loyalty.api.views import AdminView, AskedByUser
from loyalty.models import Card, Merchant, Program, Transaction
from loyalty.services import enrolment, explaining
from loyalty.services.enrolment import Person
from loyalty.services.explaining import CardStory
from loyalty.services.searching import cards_called


class CardHolderOut(serializers.Serializer[Any]):
    """Whose card it is. All is empty after an erasure."""

    first_name = serializers.CharField()
    last_name = serializers.CharField()
    email = serializers.CharField()
    phone = serializers.CharField(help_text="E.164, such as +352621123456.")


class FullCardOut(serializers.Serializer[Card]):
    """A card with all that a back office needs."""

    example = {
        "id": 17,
        "card_number": "539397706786",
        "status": "active",
        "merchant_id": 4,
        "program_id": 4,
        "customer_id": 12,
        "customer": {
            "first_name": "Ana",
            "last_name": "Muller",
            "email": "ana@example.com",
            "phone": "+352621123456",
        },
        "points_balance": 112,
        "stamp_count": 3,
        "lifetime_points_earned": 412,
        "lifetime_points_redeemed": 300,
        "lifetime_points_expired": 0,
        "last_activity_at": "2026-03-31T12:05:00Z",
        "last_expiration_warning_at": None,
        "expiration_warned_for": None,
        "keeps_until": "2026-09-27",
        "expiration_exempt": False,
        "expiration_exempt_reason": "",
        "merged_into_id": None,
        "enrolled_at_store_id": 3,
        "version": 9,
        "created_at": "2025-11-02T09:30:00Z",
    }

    id = serializers.IntegerField()
    card_number = serializers.CharField()
    status = serializers.ChoiceField(choices=Card.Status.choices)
    merchant_id = serializers.IntegerField(source="program.merchant_id")
    program_id = serializers.IntegerField()
    customer_id = serializers.IntegerField()
    customer = CardHolderOut()
    points_balance = serializers.IntegerField(source="balance.points_balance")
    stamp_count = serializers.IntegerField(source="balance.stamp_count")
    lifetime_points_earned = serializers.IntegerField(source="balance.lifetime_points_earned")
    lifetime_points_redeemed = serializers.IntegerField(source="balance.lifetime_points_redeemed")
    lifetime_points_expired = serializers.IntegerField(source="balance.lifetime_points_expired")
    last_activity_at = serializers.DateTimeField(source="balance.last_activity_at")
    last_expiration_warning_at = serializers.DateTimeField(
        allow_null=True, source="balance.last_expiration_warning_at", help_text="Null: not warned since that activity."
    )
    expiration_warned_for = serializers.DateField(
        allow_null=True, source="balance.expiration_warned_for", help_text="The last day that was promised."
    )
    keeps_until = serializers.SerializerMethodField(help_text="The last day of the points; null: nothing can expire.")
    expiration_exempt = serializers.BooleanField()
    expiration_exempt_reason = serializers.CharField()
    merged_into_id = serializers.IntegerField(allow_null=True, help_text="The card to which its number leads.")
    enrolled_at_store_id = serializers.IntegerField(allow_null=True)
    version = serializers.IntegerField(
        source="balance.version", help_text="Send it as `seen_version` with a change that was decided on this answer."
    )
    created_at = serializers.DateTimeField()

    @extend_schema_field(DAY)
    def get_keeps_until(self, card: Any) -> str | None:
        return iso(explaining.keeps_until(card, at=card.asked_at))


class CardsQuery(PageQuery):
    merchant_id = serializers.IntegerField(required=False, min_value=1, max_value=LARGEST_ID)
    status = serializers.ChoiceField(choices=Card.Status.choices, required=False)
    expiration_exempt = serializers.BooleanField(required=False)
    q = serializers.CharField(
        required=False,
        max_length=254,
        help_text="Exactly: a card number, QR token, e-mail address, phone number (+352...) or external id.",
    )


class OfficeEnrolIn(EnrolIn):
    example = {"merchant_id": 4, "store_id": 3, **EnrolIn.example, "external_id": "C-0017"}

    merchant_id = Id()
    store_id = Id(required=False, allow_null=True, default=None, help_text="Where the card counts as given out.")
    external_id = Text(
        max_length=80, required=False, allow_blank=True, default="", help_text="The customer's name in another system."
    )


class Cards(AdminView):
    @operation(
        name="admin_cards_list",
        summary="List and find cards",
        query=CardsQuery,
        answer=FullCardOut,
        refusals=[errors.MerchantNotFound],
        pages=("-pk",),
        access=Access.READ,
    )
    def get(self, asked: AskedByUser) -> "QuerySet[Card]":
        """Of all merchants that the user looks after, or of one of them; the newest first.

        `q` finds exactly what it names. A card that was replaced is found by its new number, a merged one by its own.
        """
        given = {name: asked.query[name] for name in ("status", "expiration_exempt") if name in asked.query}
        cards = cards_shown(asked).filter(_of_programs(asked), **given)
        return cards.filter(cards_called(asked.query["q"], merchants=_searched(asked))) if "q" in asked.query else cards

    @operation(
        name="admin_cards_enrol",
        summary="Give out a card by a back office",
        body=OfficeEnrolIn,
        answer=EnrolledOut,
        status=201,
        refusals=[
            errors.MerchantNotFound,
            errors.StoreNotFound,
            errors.AlreadyEnrolled,
            errors.AlreadyErased,
            errors.ConflictingCustomer,
            errors.EnrolmentClosed,
            errors.TermsNotAccepted,
            errors.InvalidInput,
            *ONCE,
        ],
        changes=True,
        keyed=True,
        replay=lambda answer: answer,
    )
    def post(self, asked: AskedByUser) -> dict[str, Any]:
        """As at a till, with the welcome bonus; a customer without e-mail and phone gets an anonymous card.

        Who is known by the e-mail address, phone number or external id, and has no card in use, gets a new one; who
        has one is refused with `already_enrolled` and its id in `details`.
        """
        person = dict(asked.body)
        merchant, store_id = asked.merchant(person.pop("merchant_id")), person.pop("store_id")
        terms, marketing = person.pop("accepts_terms"), person.pop("accepts_marketing")
        card = enrolment.enrol(
            merchant=merchant,
            person=Person(
                **person,
                terms_accepted_at=asked.at if terms else None,
                marketing_consent_at=asked.at if marketing else None,
            ),
            store=find_stores(merchant, [store_id])[0] if store_id else None,
            actor=asked.actor,
            needs_terms=True,
            request=asked.request_about(merchant),
            at=asked.at,
        )
        return enrolment.as_issued(card)


def _of_programs(asked: AskedByUser) -> Q:
    """Each merchant has one program. Cards know theirs by an index, and their merchant by a join only."""
    seen = in_sight(asked, "merchant", asked.query.get("merchant_id"))
    return Q(program__in=list(Program.objects.filter(seen).values_list("pk", flat=True))) if seen else Q()


def _searched(asked: AskedByUser) -> "QuerySet[Merchant]":
    merchant_id = asked.query.get("merchant_id")
    return asked.merchants.filter(pk=merchant_id) if merchant_id else asked.merchants


class OneCard(AdminView):
    @operation(
        name="admin_cards_get",
        summary="See a card",
        answer=FullCardOut,
        refusals=[errors.CardNotFound],
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, card_id: int) -> Card:
        """Its customer, what it holds, and until when."""
        return find_card(asked, card_id)


class StoryMovementOut(serializers.Serializer[Any]):
    """What happened to a card, in a sentence."""

    transaction_id = serializers.IntegerField()
    happened_on = serializers.DateField(help_text="In the merchant's time zone.")
    sentence = serializers.CharField()
    points_delta = serializers.IntegerField()
    points_balance_after = serializers.IntegerField()


class StoryOut(serializers.Serializer[CardStory]):
    """What a card holds, until when, and why; with what last happened to it."""

    example = {
        "card_id": 17,
        "card_number": "539397706786",
        "points_balance": 112,
        "stamp_count": 0,
        "keeps_until": "2026-09-27",
        "sentences": [
            "The card holds 112 points.",
            "The points can be used to the end of Sept. 27, 2026 (Europe/Luxembourg time).",
            "The last activity was on March 31, 2026 and points expire after 180 days without one.",
        ],
        "movements": [
            {
                "transaction_id": 4711,
                "happened_on": "2026-03-31",
                "sentence": "A purchase of €12.99 at Main Street earned 12 points.",
                "points_delta": 12,
                "points_balance_after": 112,
            }
        ],
    }

    card_id = serializers.IntegerField()
    card_number = serializers.CharField()
    points_balance = serializers.IntegerField()
    stamp_count = serializers.IntegerField()
    keeps_until = serializers.DateField(allow_null=True, help_text="The last day of the points.")
    sentences = serializers.ListField(child=serializers.CharField())
    movements = StoryMovementOut(many=True, help_text="The latest ones, the newest first.")


class Explain(AdminView):
    @operation(
        name="admin_cards_explain",
        summary="Tell the story of a card",
        answer=StoryOut,
        refusals=[errors.CardNotFound],
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, card_id: int) -> CardStory:
        """Says in words what it holds, until when and by which rule, when the customer was warned, whether that
        mail arrived, and what last happened.
        """
        merchant = find_card(asked, card_id).program.merchant
        return explaining.explain(merchant=merchant, card_id=card_id, at=asked.at)


class CardTransactions(AdminView):
    @operation(
        name="admin_cards_transactions",
        summary="See the history of a card",
        query=PageQuery,
        answer=MovementOut,
        refusals=[errors.CardNotFound],
        pages=("-seq",),
        access=Access.READ,
    )
    def get(self, asked: AskedByUser, card_id: int) -> "QuerySet[Transaction]":
        """Its transactions, each with a sentence; the newest first."""
        return explaining.ledger_rows(card=find_card(asked, card_id))


urlpatterns = [
    path("cards", Cards.as_view()),
    path("cards/<id:card_id>", OneCard.as_view()),
    path("cards/<id:card_id>/explain", Explain.as_view()),
    path("cards/<id:card_id>/transactions", CardTransactions.as_view()),
]
