"""What apps above this one say on the page of a card: this one does not know them, so they append to a list."""

from collections.abc import Callable
from dataclasses import dataclass

from django.http import HttpRequest

from loyalty.models import Card


@dataclass(frozen=True)
class CardFact:
    """A thing that belongs to a card, the page of the thing, and how it is."""

    label: str
    url: str
    text: str


@dataclass(frozen=True)
class CardSection:
    """Facts under one heading; `nothing` is said when there are none."""

    slug: str
    heading: str
    nothing: str
    facts: list[CardFact]


# Each answers None to a user who may not see its facts.
card_sections: list[Callable[[HttpRequest, Card], CardSection | None]] = []


def sections_of(request: HttpRequest, card: Card) -> list[CardSection]:
    sections = (section(request, card) for section in card_sections)
    return [section for section in sections if section]
