"""Links that customers open on a phone, and the page that says in words why one leads nowhere."""

import functools
from collections.abc import Callable

import structlog
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from loyalty.errors import CardNotActive
from wallet.errors import GoogleNotReachable, LinkNotValid
from wallet.public.apple import LATER_SECONDS, OUT_OF_ORDER, package_response
from wallet.services import issuing, links, saving

log = structlog.get_logger()

View = Callable[[HttpRequest, str], HttpResponse]


def for_customers(view: View) -> View:
    """Answer whoever has a link, and say in words what is wrong. Nothing on the way keeps a copy."""

    # Whoever posts is told that nothing is to be posted here, and not that a token is missing.
    @csrf_exempt
    @require_safe
    @functools.wraps(view)
    def answering(request: HttpRequest, token: str) -> HttpResponse:
        response = _answer(view, request, token)
        response.headers["Cache-Control"] = "no-store"
        return response

    return answering


def _answer(view: View, request: HttpRequest, token: str) -> HttpResponse:
    try:
        return view(request, token)
    except LinkNotValid as refusal:
        return _page(request, 404, "This link does not work", refusal.sentence)
    except CardNotActive:
        return _page(request, 410, "This card is no longer in use", "Please ask in the shop for a new one.")
    except GoogleNotReachable as refusal:
        return _later(request, refusal.details["retry_after_seconds"])
    except OUT_OF_ORDER as refusal:
        log.error("wallet.customer_put_off", problem=refusal.code)
        return _later(request, LATER_SECONDS)


@for_customers
def apple(request: HttpRequest, token: str) -> HttpResponse:
    """The pass itself, which an iPhone shows with a button to add it."""
    at = timezone.now()
    package = issuing.hand_out(card=links.card_of_link(token=token, at=at), at=at)
    response = package_response(request, package.content)
    response.headers["Content-Disposition"] = 'attachment; filename="card.pkpass"'
    return response


@for_customers
def google(request: HttpRequest, token: str) -> HttpResponse:
    """The way to Google, where the customer adds the pass."""
    at = timezone.now()
    return HttpResponseRedirect(saving.save_address(card=links.card_of_link(token=token, at=at), at=at))


def _later(request: HttpRequest, seconds: int) -> HttpResponse:
    response = _page(
        request,
        503,
        "One moment, please",
        "Your card cannot be added just now. Please open the link again a little later.",
    )
    response.headers["Retry-After"] = str(seconds)
    return response


def _page(request: HttpRequest, status: int, title: str, sentence: str) -> HttpResponse:
    return render(request, "wallet/no_pass.html", {"title": title, "sentence": sentence}, status=status)
