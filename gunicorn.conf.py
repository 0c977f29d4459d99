"""What gunicorn does beside serving: it takes this file from the folder that it is started in."""

from typing import Any

from loyalty_site import draining


def on_starting(server: Any) -> None:
    draining.before_ending(server)
