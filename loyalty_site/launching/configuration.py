"""Settings that are left from development or from an example."""

import re
from collections.abc import Iterator
from email.utils import parseaddr
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks

from loyalty_site.findings import Finding, address_findings
from loyalty_site.starting import require_room_for_counts
from loyalty_site.unreachable import without_secret
from loyalty_site.unusable import SettingsUnusable
from notifications import services

SHORTEST_SECRET = 50
SHORTEST_TOKEN = 30
LEFT_FROM_AN_EXAMPLE = re.compile(r"change-me|for-development-only|example|password|secret-key|xxxxx", re.IGNORECASE)
SMTP = "django.core.mail.backends.smtp.EmailBackend"
# Names that RFC 2606 and RFC 6761 keep for examples and for the own machine; .test is for the tests of whoever asks.
EXAMPLE = re.compile(r"(^|\.)(invalid|example|example\.(com|net|org))$", re.IGNORECASE)
OWN = re.compile(r"(^|\.)localhost$", re.IGNORECASE)
MAIL_SECONDS = 5


def configuration_findings() -> Iterator[Finding]:
    yield from _modes()
    yield from _address()
    yield from _secrets()
    yield from _mail()
    yield from _static_files()
    yield from _metrics_folder()
    yield from _checks()


def _modes() -> Iterator[Finding]:
    if settings.DEVELOPMENT:
        yield Finding("development_mode", "This is a development installation. Take DEVELOPMENT away.")
    if settings.DEBUG:
        yield Finding("debug_mode", "DEBUG shows settings and data to whoever causes an error. Take it away.")
    if settings.LOYALTY_ALLOW_AS_OF:
        yield Finding("expiry_as_of_allowed", "LOYALTY_ALLOW_AS_OF lets a command expire points for another day.")
    if not (settings.LOYALTY_EXPIRY_GUARD_PERCENT and settings.LOYALTY_EXPIRY_GUARD_CARDS):
        yield Finding(
            "expiry_guard_off", "The guard against mass expiry is off. Set both LOYALTY_EXPIRY_GUARD_... again."
        )


def _address() -> Iterator[Finding]:
    public = urlsplit(settings.PUBLIC_URL)
    if public.scheme != "https":
        yield Finding("public_url_insecure", f"PUBLIC_URL is {settings.PUBLIC_URL}; it has to begin with https://.")
    if is_nowhere(public.hostname or ""):
        yield Finding("public_url_nowhere", f"PUBLIC_URL is {settings.PUBLIC_URL}, where no customer comes to.")
    if "*" in settings.ALLOWED_HOSTS:
        yield Finding("any_host_allowed", "ALLOWED_HOSTS lets every host name pass. Name those of this installation.")
    yield from address_findings()


def _secrets() -> Iterator[Finding]:
    for name, shortest in (("SECRET_KEY", SHORTEST_SECRET), ("PIN_PEPPER", SHORTEST_SECRET)):
        secret = getattr(settings, name)
        if len(secret) < shortest or LEFT_FROM_AN_EXAMPLE.search(secret):
            yield Finding("secret_weak", f"{name} is short or left from an example. Set {shortest} random characters.")
    if settings.SECRET_KEY and settings.SECRET_KEY == settings.PIN_PEPPER:
        yield Finding("secret_shared", "SECRET_KEY and PIN_PEPPER are the same. Each needs its own.")
    if len(settings.METRICS_TOKEN) < SHORTEST_TOKEN or LEFT_FROM_AN_EXAMPLE.search(settings.METRICS_TOKEN):
        yield Finding(
            "metrics_token_missing",
            f"METRICS_TOKEN is empty, short or left from an example. Without one of {SHORTEST_TOKEN} random characters "
            "Prometheus sees nothing, and no alert fires.",
        )
    password = settings.DATABASES["default"].get("PASSWORD") or ""
    if LEFT_FROM_AN_EXAMPLE.search(password):
        yield Finding("database_password_weak", "The password in DATABASE_URL is left from an example.")


def _mail() -> Iterator[Finding]:
    sender = parseaddr(settings.DEFAULT_FROM_EMAIL)[1]
    domain = sender.rpartition("@")[2]
    if "@" not in sender or is_nowhere(domain):
        yield Finding(
            "mail_sender_nowhere",
            f"DEFAULT_FROM_EMAIL is {settings.DEFAULT_FROM_EMAIL}; mail servers refuse mail from there.",
        )
    if settings.EMAIL_BACKEND.startswith("django.core.mail.backends.") and settings.EMAIL_BACKEND != SMTP:
        yield Finding("mail_goes_nowhere", f"Mail is not sent: EMAIL_URL leads to {settings.EMAIL_BACKEND}.")
    if settings.EMAIL_BACKEND == SMTP:
        yield from _mail_server()


def _mail_server() -> Iterator[Finding]:
    """Whether it lets us in; one that is left from an example is not asked. A relay on this machine may be meant."""
    place, password = f"{settings.EMAIL_HOST}:{settings.EMAIL_PORT}", settings.EMAIL_HOST_PASSWORD or ""
    if EXAMPLE.search(settings.EMAIL_HOST or ""):
        yield Finding("mail_server_nowhere", f"EMAIL_URL names {settings.EMAIL_HOST}, which is left from an example.")
    elif LEFT_FROM_AN_EXAMPLE.search(password):
        yield Finding("mail_password_weak", "The password in EMAIL_URL is left from an example.")
    elif why := _refusal_of_mail():
        yield Finding("mail_server_refuses", f"No mail leaves: {place} does not let us in ({why}). Check EMAIL_URL.")


def _refusal_of_mail() -> str:
    try:
        services.try_server(timeout_seconds=MAIL_SECONDS)
    except services.ServerUnavailable as error:
        return without_secret(" ".join(error.reason.split()), settings.EMAIL_HOST_PASSWORD)
    return ""


def _static_files() -> Iterator[Finding]:
    if not any(Path(settings.STATIC_ROOT).glob("*")):
        yield Finding("static_files_missing", "The admin has no style. Run manage.py collectstatic --noinput.")


def _metrics_folder() -> Iterator[Finding]:
    try:
        require_room_for_counts()
    except SettingsUnusable as error:
        yield Finding("metrics_folder_unusable", f"Neither web nor workers start. {error}")


def _checks() -> Iterator[Finding]:
    for message in checks.run_checks(include_deployment_checks=True):
        if message.level >= checks.WARNING and not message.is_silenced():
            hint = f" {message.hint}" if message.hint else ""
            yield Finding("check_failed", f"{message.id}: {' '.join(f'{message.msg}{hint}'.split())}")


def is_nowhere(host: str) -> bool:
    """Whether a host name is of this machine, or of an example."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return not host or bool(EXAMPLE.search(host) or OWN.search(host))
