"""Apple passes in the newest state of their cards: for phones, and to see whether anything has changed."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from django.conf import settings

from wallet.apple import packages
from wallet.apple.signing import Signer
from wallet.content import Face, face_of
from wallet.models import Artwork, Pass
from wallet.sealing import authentication_token
from wallet.services import addresses

LOGOS_KEPT = 256


def newest_face(wallet_pass: Pass) -> Face:
    """What the pass is to show, as it was read with its card."""
    return face_of(wallet_pass.card, logo=wallet_pass.logo_digest)


def told_to_apple(wallet_pass: Pass, face: Face) -> Mapping[str, Any]:
    """What a phone learns from the pass: the same for faces that look the same."""
    return packages.told(_said(wallet_pass, face, token=""), packages.pictures(logo_png(face.look.logo)))


def apple_package(wallet_pass: Pass, face: Face, signer: Signer) -> bytes:
    """The signed pass.

    Raises:
        SecretUnreadable: the key of its token is gone.
    """
    token = authentication_token(wallet_pass.identifier, key_version=wallet_pass.token_key_version)
    pictures = packages.pictures(logo_png(face.look.logo))
    return packages.build(_said(wallet_pass, face, token=token), pictures, signer)


def _said(wallet_pass: Pass, face: Face, *, token: str) -> dict[str, Any]:
    return packages.pass_json(
        face,
        identifier=wallet_pass.identifier,
        pass_type=wallet_pass.issued_under,
        team=settings.APPLE_TEAM_ID,
        token=token,
        web_service_url=addresses.apple_web_service(),
    )


def logo_png(digest: str) -> bytes | None:
    """The logo with this digest; None for ours, or for one that was replaced a moment ago."""
    try:
        return _logo(digest) if digest else None
    except Artwork.DoesNotExist:
        return None


@lru_cache(maxsize=LOGOS_KEPT)
def _logo(digest: str) -> bytes:
    """What a digest names never changes."""
    return bytes(Artwork.objects.filter(digest=digest).values_list("logo", flat=True)[:1].get())
