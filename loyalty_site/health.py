"""Is this process alive, and may it get traffic?"""

import structlog
from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe

from loyalty_site.backup import unproven
from loyalty_site.draining import is_draining
from loyalty_site.unreachable import first_line

log = structlog.get_logger()


@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """200 while the process serves requests, whatever its neighbours do."""
    return HttpResponse("ok\n", content_type="text/plain")


@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """200 when the database answers, is no half restored one and has all migrations, 503 with the reason otherwise.

    A server that was told to end is not ready either, while it still serves who comes.
    """
    if is_draining():
        return JsonResponse({"ready": False, "reason": "this server is about to end"}, status=503)
    try:
        if unproven.is_marked():
            return JsonResponse({"ready": False, "reason": "this database was restored and not proven"}, status=503)
        executor = MigrationExecutor(connection)
        missing = [str(migration) for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes())]
    except Error as error:
        log.warning("loyalty_site.database_unreachable", reason=first_line(error))
        return JsonResponse({"ready": False, "reason": "the database does not answer"}, status=503)
    if missing:
        return JsonResponse({"ready": False, "reason": "migrations are missing", "missing": missing}, status=503)
    return JsonResponse({"ready": True})
