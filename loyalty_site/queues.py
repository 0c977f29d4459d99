"""The queues that tasks wait in. Each needs a worker that takes it."""

from django.conf import settings

QUEUES = (
    settings.CELERY_TASK_DEFAULT_QUEUE,
    *sorted({str(route["queue"]) for route in settings.CELERY_TASK_ROUTES.values()}),
)
