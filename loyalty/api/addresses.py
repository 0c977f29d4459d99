"""Which network address a request came from."""

from ipaddress import ip_address

from django.conf import settings
from django.http import HttpRequest
from rest_framework.request import Request


def client_address(request: HttpRequest | Request) -> str:
    """The address that the proxy saw, or the other end of the connection where there is no proxy to believe."""
    peer = str(request.META.get("REMOTE_ADDR", ""))
    if not settings.BEHIND_PROXY:
        return peer
    # The proxy adds what it saw at the end; what stands before was sent by the client.
    _, _, last = request.META.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")
    return _address(last) or peer


def _address(text: str) -> str | None:
    # A zone, as in fe80::1%eth0, may be of any length and says nothing outside of its machine.
    text, _, _ = text.strip().partition("%")
    try:
        return str(ip_address(text))
    except ValueError:
        return None
