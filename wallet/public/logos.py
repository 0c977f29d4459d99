"""Logos for Google, which fetches them and shows them in a circle."""

from functools import lru_cache

from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from wallet import drawing
from wallet.services.rendering import logo_png

SIDE_PIXELS = 660  # what Google asks for
LOGOS_KEPT = 64
DEFAULT = "default"
A_DAY, A_YEAR = 24 * 3600, 365 * 24 * 3600


@csrf_exempt
@require_safe
def logo(request: HttpRequest, digest: str) -> HttpResponse:
    """The logo with this digest, which never changes; `default` is our own."""
    picture = drawing.icon(SIDE_PIXELS) if digest == DEFAULT else _square(digest)
    if picture is None:
        raise Http404
    age = A_DAY if digest == DEFAULT else A_YEAR
    return HttpResponse(picture, content_type="image/png", headers={"Cache-Control": f"public, max-age={age}"})


def _square(digest: str) -> bytes | None:
    png = logo_png(digest)
    return png and _on_square(png)


@lru_cache(maxsize=LOGOS_KEPT)
def _on_square(png: bytes) -> bytes:
    return drawing.on_square(png, side=SIDE_PIXELS)
