"""What gunicorn does beside serving: it takes this file from the folder that it is started in."""

from typing import Any

from loyalty_site import draining, unusable

# BEHIND_PROXY alone decides whether forwarded headers count: gunicorn would believe whoever comes from this host.
forwarded_allow_ips = ""


def on_starting(server: Any) -> None:
    unusable.end_as_the_first_worker_said(server)
    draining.before_ending(server)
