"""Merchants give their passes a logo of their own."""

import hashlib
from datetime import datetime

import structlog
from django.db import transaction

from loyalty.models import Program
from wallet import drawing
from wallet.models import Artwork

log = structlog.get_logger()


def replace_logo(*, program: Program, upload: bytes, actor: str, at: datetime) -> Artwork:
    """Show this logo on all passes of the program from now on. The same picture again changes nothing.

    What is kept is drawn anew: a PNG of 480 x 150 pixels at most, with nothing else that the file contained.

    Raises:
        InvalidLogo: it is no picture, none of a kind that we take, or too large.
    """
    return _change(program, drawing.read_logo(upload), actor=actor, at=at)


def remove_logo(*, program: Program, actor: str, at: datetime) -> Artwork:
    """Show the logo of ours again on all passes of the program."""
    return _change(program, b"", actor=actor, at=at)


def logo_of(program: Program) -> tuple[str, bytes | None]:
    """The digest and the PNG of the program's own logo; an empty digest and None when it has none."""
    found = Artwork.objects.filter(program=program).exclude(digest="").values_list("digest", "logo").first()
    return (found[0], bytes(found[1])) if found else ("", None)


@transaction.atomic
def _change(program: Program, logo: bytes, *, actor: str, at: datetime) -> Artwork:
    # The program's row stands for the artwork's, which may not be there yet.
    Program.objects.select_for_update(no_key=True).get(pk=program.pk)
    digest = hashlib.sha256(logo).hexdigest() if logo else ""
    artwork = Artwork.objects.filter(program=program).first() or Artwork(program=program, version=0, digest="")
    if artwork.version and artwork.digest == digest:
        return artwork
    artwork.logo, artwork.digest = logo, digest
    artwork.version += 1
    artwork.uploaded_at, artwork.uploaded_by = at, actor
    artwork.save()
    log.info("wallet.logo_replaced" if logo else "wallet.logo_removed", program_id=program.pk)
    return artwork
