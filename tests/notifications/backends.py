"""Mail backends that fail in ways SMTP does not."""

from collections.abc import Sequence

from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend


class TakesNothing(BaseEmailBackend):
    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        return 0


class ProviderSaysNo(BaseEmailBackend):
    """As an HTTP provider's client raises what its author thought of."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        raise RuntimeError("quota exceeded")
