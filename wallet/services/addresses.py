"""Where phones and platforms find us. The doors are in `wallet.public`; a test compares the two."""

from django.conf import settings


def apple_web_service() -> str:
    """What goes into passes for good: phones append /v1/... to it."""
    return f"{settings.PUBLIC_URL}/wallet/apple"


def logo(digest: str) -> str:
    """The picture that Google fetches for a program; an empty digest names our own."""
    return f"{settings.PUBLIC_URL}/wallet/logos/{digest or 'default'}.png"


def google_callback() -> str:
    """Where Google tells who keeps a pass. Empty: it cannot reach us, and is not asked to."""
    return f"{settings.PUBLIC_URL}/wallet/google/callback" if settings.GOOGLE_CALLBACKS else ""


def link(platform: str, token: str) -> str:
    """Where a customer adds a card to a phone."""
    return f"{settings.PUBLIC_URL}/wallet/{platform}/get/{token}"
