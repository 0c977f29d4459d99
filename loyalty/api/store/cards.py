"""Cards at the till: found, given out, looked at."""

from typing import Any

from django.db.models import QuerySet
from rest_framework import serializers

from loyalty import errors
from loyalty.api.fields import BirthDay, Flag, In, Text
from loyalty.api.operations import operation
from loyalty.api.pages import PageQuery
from loyalty.api.store.answers import CardOut, EnrolledOut, MovementOut
from loyalty.api.views import AskedAtStore, StoreView
from loyalty.models import Transaction
from loyalty.services import at_till, enrolment, explaining, finding
from loyalty.services.enrolment import Person


class LookupIn(In):
    example = {"q": "ana@example.com"}

    q = Text(max_length=254, help_text="A scanned QR token, a card number, an e-mail address or a phone number.")


class Lookup(StoreView):
    @operation(
        name="store_cards_lookup",
        summary="Find a card",
        body=LookupIn,
        answer=CardOut,
        refusals=[errors.CardNotFound],
        throttle="lookup",
    )
    def post(self, asked: AskedAtStore) -> at_till.CardAtTill:
        """By QR token, card number, e-mail address or phone number, told apart by their form.

        It is a POST so that no personal value ends up in an access log. It changes nothing and needs no key.
        """
        card = finding.look_up(merchant=asked.merchant, q=asked.body["q"])
        return at_till.shown_card(card, at=asked.at)


class EnrolIn(In):
    example = {
        "first_name": "Ana",
        "email": "ana@example.com",
        "accepts_terms": True,
        "accepts_marketing": False,
    }

    first_name = Text(max_length=80, required=False, allow_blank=True, default="")
    last_name = Text(max_length=80, required=False, allow_blank=True, default="")
    email = Text(max_length=254, required=False, allow_blank=True, default="")
    phone = Text(
        max_length=32,
        required=False,
        allow_blank=True,
        default="",
        help_text="International, or as numbers are written in the merchant's country.",
    )
    birth_date = BirthDay(required=False, allow_null=True, default=None)
    locale = serializers.ChoiceField(
        choices=["", "en", "fr", "de", "lb"], required=False, default="", help_text="Empty: the merchant's."
    )
    accepts_terms = Flag(help_text="The customer has accepted the program's terms; without that there is no card.")
    accepts_marketing = Flag(required=False, default=False)


class Cards(StoreView):
    @operation(
        name="store_cards_enrol",
        summary="Give out a card",
        body=EnrolIn,
        answer=EnrolledOut,
        status=201,
        refusals=[
            errors.AlreadyEnrolled,
            errors.ConflictingCustomer,
            errors.EnrolmentClosed,
            errors.TermsNotAccepted,
            errors.InvalidInput,
            errors.IdempotencyKeyReused,
            errors.IdempotencyKeyExpired,
        ],
        changes=True,
        keyed=True,
        throttle="enrol",
        replay=lambda answer: answer,
    )
    def post(self, asked: AskedAtStore) -> dict[str, Any]:
        """A customer without e-mail and phone gets an anonymous card. The program's welcome bonus is on it.

        Who is known by the e-mail address or phone number, and has no card in use, gets a new one; who has one
        is refused with `already_enrolled` and its id in `details`.
        """
        person = dict(asked.body)
        terms, marketing = person.pop("accepts_terms"), person.pop("accepts_marketing")
        card = enrolment.enrol(
            merchant=asked.merchant,
            person=Person(
                **person,
                terms_accepted_at=asked.at if terms else None,
                marketing_consent_at=asked.at if marketing else None,
            ),
            at=asked.at,
            store=asked.store,
            staff_member=asked.staff_member,
            actor=asked.actor,
            needs_terms=True,
            request=asked.request,
        )
        return enrolment.as_issued(card)


class Card(StoreView):
    @operation(
        name="store_cards_read", summary="See a card", answer=CardOut, refusals=[errors.CardNotFound], throttle="lookup"
    )
    def get(self, asked: AskedAtStore, card_id: int) -> at_till.CardAtTill:
        """Its balance, the last day of its points, and the next reward."""
        return at_till.shown_card(finding.card_of(merchant=asked.merchant, card_id=card_id), at=asked.at)


class Movements(StoreView):
    @operation(
        name="store_cards_transactions",
        summary="See a card's history",
        query=PageQuery,
        answer=MovementOut,
        refusals=[errors.CardNotFound],
        pages=("-seq",),
    )
    def get(self, asked: AskedAtStore, card_id: int) -> "QuerySet[Transaction]":
        """Its transactions in words, the newest first."""
        return explaining.ledger_rows(card=finding.card_of(merchant=asked.merchant, card_id=card_id))
