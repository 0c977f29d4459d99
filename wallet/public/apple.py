"""The web service that iPhones ask about their passes, as Apple lays it down."""

import functools
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import structlog
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.utils.http import http_date, parse_http_date_safe
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from loyalty.api import throttling
from loyalty.api.problems import Throttled
from loyalty.errors import InvalidInput
from wallet.errors import CredentialNotUsable, PassNotFound, SecretUnreadable, WalletNotConfigured
from wallet.models import Pass
from wallet.services import issuing, registering

log = structlog.get_logger()

View = Callable[..., HttpResponse]
MEDIA_TYPE = "application/vnd.apple.pkpass"
SCHEME = "ApplePass"
LARGEST_BODY_BYTES = 16 * 1024
TOO_LARGE = "The body is larger than 16 KiB."
LATER_SECONDS = 300
OUT_OF_ORDER = (WalletNotConfigured, CredentialNotUsable, SecretUnreadable)


def contract(*methods: str) -> Callable[[View], View]:
    """Answer phones as the contract says, refusals too. What is answered is for one phone and one moment."""

    def wrap(view: View) -> View:
        @csrf_exempt
        @require_http_methods(methods)
        @functools.wraps(view)
        def answering(request: HttpRequest, **path: str) -> HttpResponse:
            response = _answer(view, request, path)
            response.headers["Cache-Control"] = "no-store"
            return response

        return answering

    return wrap


def _answer(view: View, request: HttpRequest, path: dict[str, str]) -> HttpResponse:
    try:
        return view(request, **path)
    except PassNotFound:
        return HttpResponse(status=401, headers={"WWW-Authenticate": SCHEME})
    except InvalidInput as refusal:
        return HttpResponse(f"{refusal.sentence}\n", status=400, content_type="text/plain; charset=utf-8")
    except Throttled as refusal:
        return HttpResponse(status=429, headers={"Retry-After": str(getattr(refusal, "wait", 0))})
    except OUT_OF_ORDER as refusal:
        log.error("wallet.phone_put_off", problem=refusal.code)
        return HttpResponse(status=503, headers={"Retry-After": str(LATER_SECONDS)})


@contract("POST", "DELETE")
def registration(request: HttpRequest, *, device: str, pass_type: str, serial: str) -> HttpResponse:
    """A phone wants to hear of changes of a pass (201; 200 when it was known), or no longer (200)."""
    wallet_pass = _let_in(request, pass_type=pass_type, serial=serial)
    if request.method == "DELETE":
        registering.unregister(wallet_pass=wallet_pass, device=device)
        return HttpResponse(status=200)
    throttling.take("wallet_registrations", f"pass:{wallet_pass.pk}")
    push_token = _text(_sent(request), "pushToken")
    is_new = registering.register(wallet_pass=wallet_pass, device=device, push_token=push_token, at=timezone.now())
    return HttpResponse(status=201 if is_new else 200)


@contract("GET")
def changes(request: HttpRequest, *, device: str, pass_type: str) -> HttpResponse:
    """The passes on a phone that changed since it asked last. Whoever knows the name of the device may ask."""
    since = request.GET.get("passesUpdatedSince", "")
    found = registering.changes_for(device=device, pass_type=pass_type, since=since)
    if found is None:
        return HttpResponse(status=204)
    # The tag is a string: an iPhone that gets a number never fetches anything.
    return JsonResponse({"serialNumbers": found.serials, "lastUpdated": found.tag})


@contract("GET", "HEAD")
def wallet_pass(request: HttpRequest, *, pass_type: str, serial: str) -> HttpResponse:
    """The pass as its card is now, unless nothing was told since the phone got it."""
    asked_about = _let_in(request, pass_type=pass_type, serial=serial)
    if _is_known(asked_about.modified_at, request.headers.get("If-Modified-Since", "")):
        return HttpResponse(status=304, headers={"Last-Modified": _http_date(asked_about.modified_at)})
    package = issuing.fetch(wallet_pass=asked_about, at=timezone.now())
    response = package_response(request, package.content)
    response.headers["Last-Modified"] = _http_date(package.modified_at)
    return response


@contract("POST")
def complaints(request: HttpRequest) -> HttpResponse:
    """What went wrong in a phone's eyes."""
    throttling.take("wallet_log", "everybody")
    lines = _sent(request).get("logs")
    if not isinstance(lines, list):
        raise InvalidInput('Send {"logs": ["..."]}.')
    registering.note_complaints(lines=[line for line in lines if isinstance(line, str)], at=timezone.now())
    return HttpResponse(status=200)


def package_response(request: HttpRequest, content: bytes) -> HttpResponse:
    """The package, or for HEAD what is said about it."""
    body = b"" if request.method == "HEAD" else content
    return HttpResponse(body, content_type=MEDIA_TYPE, headers={"Content-Length": str(len(content))})


def body_of(request: HttpRequest) -> bytes | None:
    """What was sent. None: more than phones and platforms ever send."""
    try:
        body = request.body
    except RequestDataTooBig:
        return None
    return body if len(body) <= LARGEST_BODY_BYTES else None


def _let_in(request: HttpRequest, *, pass_type: str, serial: str) -> Pass:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    shown = token.strip() if scheme.lower() == SCHEME.lower() else ""
    return registering.let_in(pass_type=pass_type, serial=serial, token=shown)


def _sent(request: HttpRequest) -> dict[str, Any]:
    """The JSON object in the body.

    Raises:
        InvalidInput: there is none, or one that no phone sends.
    """
    body = body_of(request)
    if body is None:
        raise InvalidInput(TOO_LARGE)
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError):
        sent = None
    if not isinstance(sent, dict):
        raise InvalidInput("The body is no JSON object.")
    return sent


def _text(sent: dict[str, Any], name: str) -> str:
    if isinstance(text := sent.get(name), str):
        return text
    raise InvalidInput(f"The body has no text {name}.")


def _is_known(modified_at: datetime, header: str) -> bool:
    since = parse_http_date_safe(header)
    return since is not None and int(modified_at.timestamp()) <= since


def _http_date(moment: datetime) -> str:
    return http_date(moment.timestamp())
