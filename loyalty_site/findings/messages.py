"""Mail that is owed to customers."""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta

from django.db.models import Q

from loyalty_site.findings.finding import Finding
from notifications.models import Message, MessageQuerySet

# A server repeats whom it refuses, and findings are mailed and pasted.
ADDRESS = re.compile(r"<?[^\s<>]+@[^\s<>]+>?")
MAIL_AGE = timedelta(minutes=15)


def message_findings(at: datetime) -> Iterator[Finding]:
    """Mail that waits too long, and mail that was given up."""
    # A mail server that is down puts messages off minute by minute, without counting attempts.
    put_off = Q(attempts=0, resends=0, created_at__lt=at - MAIL_AGE)
    stuck = Message.objects.waiting().filter(Q(next_attempt_at__lt=at - MAIL_AGE) | put_off)
    # Both in any case: the admin's first page costs the same on a bad day.
    count, reason = stuck.count(), _newest_reason(stuck)
    if count:
        yield Finding(
            "messages_stuck",
            f"{count} messages have been waiting for more than 15 minutes.{reason} Check that a worker "
            "takes the queue `notifications` and that the mail server answers, then run manage.py send_messages.",
        )
    dead = Message.objects.filter(status=Message.Status.DEAD, next_attempt_at__gt=at - timedelta(days=1)).count()
    if dead:
        yield Finding(
            "messages_dead",
            f"{dead} messages were given up in the last 24 hours. Look at them in the admin, which says why, "
            "and send them again when the cause is gone.",
        )


def _newest_reason(messages: MessageQuerySet) -> str:
    told = messages.exclude(last_error="").order_by("-next_attempt_at").values_list("last_error", flat=True).first()
    return f" The newest reason: {ADDRESS.sub('...', ' '.join(told.split()))}." if told else ""
