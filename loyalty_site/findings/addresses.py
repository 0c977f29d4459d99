"""Whether whoever follows our own links is let in."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from django.conf import settings
from django.http.request import validate_host

from loyalty_site.findings.finding import Finding


def address_findings() -> Iterator[Finding]:
    host = urlsplit(settings.PUBLIC_URL).hostname or ""
    if not validate_host(host, settings.ALLOWED_HOSTS):
        yield Finding(
            "public_host_refused",
            f"ALLOWED_HOSTS does not name {host}, the host of PUBLIC_URL: whoever comes there gets an error 400.",
        )
