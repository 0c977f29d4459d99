"""The passes of a card, on the card's own page."""

from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from loyalty.admin.card_sections import CardFact, CardSection, card_sections
from loyalty.models import Card
from wallet.admin.resting import rest_reason, with_rest
from wallet.models import Pass
from wallet.services.passes import WAITING, condition_of


def passes_of(request: HttpRequest, card: Card) -> CardSection | None:
    if not request.user.has_perm("wallet.view_pass"):
        return None
    passes = with_rest(Pass.objects.filter(card=card).shown(), request).order_by("platform")
    return CardSection("passes", "Passes", "No pass was made for this card yet.", [_fact(one) for one in passes])


def _fact(wallet_pass: Any) -> CardFact:
    page = reverse("admin:wallet_pass_change", args=[wallet_pass.pk])
    return CardFact(wallet_pass.get_platform_display(), page, _how_it_is(wallet_pass))


def _how_it_is(wallet_pass: Any) -> str:
    condition = condition_of(wallet_pass)
    said = [str(condition.label)]
    if wallet_pass.last_error_code:
        said.append(f"last problem {wallet_pass.last_error_code}")
    if wallet_pass.rests_since and condition in WAITING:
        said.append(f"calls rest, {rest_reason(wallet_pass)}")
    return "; ".join(said)


card_sections.append(passes_of)
