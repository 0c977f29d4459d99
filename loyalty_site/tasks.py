from celery import shared_task


@shared_task(name="loyalty_site.heartbeat")
def heartbeat() -> dict[str, str]:
    """That it ran is the message: beat sent it, the broker kept it, a worker took it and wrote its JobRun."""
    return {}
