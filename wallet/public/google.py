"""What Google tells us: who keeps a pass and who does not."""

import structlog
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from wallet.google.callbacks import CallbackRefused, KeysUnavailable
from wallet.public.apple import TOO_LARGE, body_of
from wallet.services import saving

log = structlog.get_logger()

AGAIN_AFTER_SECONDS = 60


@csrf_exempt
@require_POST
def callback(request: HttpRequest) -> HttpResponse:
    """A customer added a pass or removed it. Google repeats what we do not answer with 200."""
    try:
        saving.hear(body=_sent(request), at=timezone.now())
    except CallbackRefused as refusal:
        log.warning("wallet.callback_refused", reason=str(refusal))
        return HttpResponse(status=400)
    except KeysUnavailable as problem:
        log.error("wallet.callback_put_off", reason=str(problem))
        return HttpResponse(status=503, headers={"Retry-After": str(AGAIN_AFTER_SECONDS)})
    return HttpResponse(status=200)


def _sent(request: HttpRequest) -> bytes:
    body = body_of(request)
    if body is None:
        raise CallbackRefused(TOO_LARGE)
    return body
