"""Which phones have which Apple passes, and what has changed for each of them since it last asked."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.db import connection

from loyalty.errors import InvalidInput
from wallet.errors import PassNotFound
from wallet.models import DeviceLog, Pass, Platform, Registration
from wallet.models.passes import PassQuerySet
from wallet.sealing import is_token, newest_token_key
from wallet.services.reading import apple_pass

log = structlog.get_logger()

DEVICES_PER_PASS = 50
LINES_PER_COMPLAINT = 20
# A phone may need so long from the download to the registration.
DOWNLOADED_WITHIN = timedelta(days=1)
DEVICE = re.compile(r"[!-~]{1,100}")
PUSH_TOKEN = re.compile(r"[0-9A-Fa-f]{1,200}")
TAG = re.compile(r"[0-9]{1,18}")
# Phones complain in sentences that name themselves, and may quote what they were let in by.
SECRETS = re.compile(r"\b[0-9A-Fa-f]{32,}\b|[\w-]{43,}", re.ASCII)


@dataclass(frozen=True)
class Changes:
    """The serial numbers of passes that changed, and the tag by which to ask for later ones."""

    serials: list[str]
    tag: str


def let_in(*, pass_type: str, serial: str, token: str) -> Pass:
    """The pass that somebody shows the token of, with its card as of the same moment.

    Raises:
        PassNotFound: there is no such pass, or its token is another; nothing tells which.
        SecretUnreadable: tokens cannot be reckoned.
    """
    found = apple_pass(pass_type=pass_type, serial=serial) if _is_plain(pass_type, serial) else None
    # Somebody who guesses serial numbers waits as long for a wrong one as for a right one.
    key_version = found.token_key_version if found else newest_token_key()
    is_shown = is_token(token, serial, key_version=key_version)
    if found is None or not is_shown:
        raise PassNotFound("There is no such pass, or this is not its token.")
    return found


def register(*, wallet_pass: Pass, device: str, push_token: str, at: datetime) -> bool:
    """Tell this phone of changes of the pass from now on. Returns whether it is new; a known one renews its push token.

    The 50 phones that came or renewed last are kept. A new one may have missed a change between its download and now,
    so a pass that changed lately is told again.

    Raises:
        InvalidInput: the device or the push token has not the form of one.
    """
    _require(DEVICE, device, "A device is named by 1 to 100 visible characters.")
    _require(PUSH_TOKEN, push_token, "A push token is 1 to 200 hexadecimal digits.")
    renewed = {"push_token": push_token, "registered_at": at}
    _, is_new = Registration.objects.update_or_create(wallet_pass=wallet_pass, device=device, defaults=renewed)
    if is_new:
        _let_the_oldest_go(wallet_pass)
        # Only now that the phone can be seen: whoever tells of a change after this statement tells this phone too.
        missed = Pass.objects.filter(pk=wallet_pass.pk, update_seq__gt=0, modified_at__gte=at - DOWNLOADED_WITHIN)
        missed.update(synced_version=0, content_hash="", lease_until=None)
    log.info("wallet.device_registered", pass_id=wallet_pass.pk, card_id=wallet_pass.card_id, is_new=is_new)
    return is_new


def unregister(*, wallet_pass: Pass, device: str) -> None:
    """Tell this phone nothing more of the pass. One that was not registered stays so."""
    if not _is_plain(device):
        return
    deleted, _ = Registration.objects.filter(wallet_pass=wallet_pass, device=device).delete()
    if deleted:
        log.info("wallet.device_unregistered", pass_id=wallet_pass.pk, card_id=wallet_pass.card_id)


def changes_for(*, device: str, pass_type: str, since: str) -> Changes | None:
    """The passes of this type on a phone that have changed since it got the tag; None when there are none.

    A tag that is none of ours means everything. So does one from before a backup was restored, which is higher
    than any that was given since.

    Raises:
        InvalidInput: the device has not the form of one.
    """
    _require(DEVICE, device, "A device is named by 1 to 100 visible characters.")
    if not _is_plain(pass_type):
        return None
    known = _known(since)
    on_phone = _passes(pass_type).filter(registrations__device=device, update_seq__gt=known)
    numbers = dict(on_phone.order_by("identifier").values_list("identifier", "update_seq"))
    return Changes(list(numbers), str(max(numbers.values()))) if numbers else None


def note_complaints(*, lines: Sequence[str], at: datetime) -> None:
    """Keep what a phone complains about, without what it is let in by: the first 20 lines, 1,000 characters of each."""
    kept = [DeviceLog(text=_readable(line), received_at=at) for line in lines[:LINES_PER_COMPLAINT]]
    DeviceLog.objects.bulk_create(kept)
    log.warning("wallet.device_complained", lines=len(lines), kept=len(kept))


def _passes(pass_type: str) -> PassQuerySet:
    return Pass.objects.filter(platform=Platform.APPLE, issued_under=pass_type)


def _known(tag: str) -> int:
    """The number up to which a phone knows the order of changes; -1: nothing."""
    if not TAG.fullmatch(tag):
        return -1
    with connection.cursor() as cursor:
        cursor.execute("SELECT last_value FROM wallet_update_seq")
        newest = int(cursor.fetchone()[0])
    return int(tag) if int(tag) <= newest else -1


def _let_the_oldest_go(wallet_pass: Pass) -> None:
    newest_first = Registration.objects.filter(wallet_pass=wallet_pass).order_by("-registered_at", "-pk")
    Registration.objects.filter(pk__in=list(newest_first.values_list("pk", flat=True)[DEVICES_PER_PASS:])).delete()


def _require(form: re.Pattern[str], text: str, sentence: str) -> None:
    if not form.fullmatch(text):
        raise InvalidInput(sentence)


def _is_plain(*texts: str) -> bool:
    """Whether these can be names that we gave: others may hold what no database takes."""
    return all(text.isascii() and text.isprintable() for text in texts)


def _readable(line: str) -> str:
    """The line as a database takes it: no NUL, no half of a character."""
    text = line.replace("\0", "").encode(errors="replace").decode()
    longest = DeviceLog._meta.get_field("text").max_length
    return SECRETS.sub("…", text)[:longest]
