"""A task of ours is sent to a worker because somebody asks for it, and not because its time has come."""

from loyalty_site.celery import app
from loyalty_site.jobs import OURS


def known_tasks() -> list[str]:
    """Tasks of ours that workers know, which a name is checked against: the broker would take any."""
    app.loader.import_default_modules()
    return sorted(task for task in app.tasks if task.startswith(OURS))


def ask_for(task: str) -> str:
    """Send a known task to its queue, and say which that is.

    Raises:
        kombu.exceptions.OperationalError: the broker does not answer; nothing was sent.
    """
    queue: str = app.amqp.router.route({}, task)["queue"].name
    with app.connection_for_write() as connection:
        app.tasks[task].apply_async(connection=connection)
    return queue
