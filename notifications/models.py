"""The outbox: one row for each e-mail we owe somebody."""

from __future__ import annotations

from datetime import datetime

from django.contrib.postgres.indexes import OpClass
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Upper

ERASED = "erased"


class Status(models.TextChoices):
    DUE = "due", "Due"
    LEASED = "leased", "Being sent"
    SENT = "sent", "Sent"
    CANCELLED = "cancelled", "Cancelled"
    UNDELIVERABLE = "undeliverable", "No address"
    DEAD = "dead", "Given up"


WAITING = (Status.DUE, Status.LEASED)
GIVEN_UP = (Status.CANCELLED, Status.DEAD)


class MessageQuerySet(models.QuerySet["Message"]):
    def due(self, at: datetime) -> MessageQuerySet:
        """Messages to send now, with those whose sender let its lease run out."""
        # In the words of the index message_due, or the planner would read everything ever sent.
        return self.filter(Q(lease_until=None) | Q(lease_until__lte=at), status__in=WAITING, next_attempt_at__lte=at)

    def waiting(self) -> MessageQuerySet:
        """Messages that are still to be sent, now or later."""
        return self.filter(status__in=WAITING)

    def undelivered(self) -> MessageQuerySet:
        """Messages that reached nobody and will not without a person's help."""
        return self.filter(status__in=(Status.UNDELIVERABLE, Status.DEAD))

    def about(self, reference: str) -> MessageQuerySet:
        """Messages about one thing of the caller's."""
        return self.filter(reference=reference)

    def leased_until(self, moment: datetime) -> MessageQuerySet:
        """Messages held by the sender whose lease ends at exactly this moment.

        Nobody can take a message over before a lease has ended, so a later lease ends later: its end names its owner.
        """
        return self.filter(status=Status.LEASED, lease_until=moment)


class Message(models.Model):
    """An e-mail we owe somebody, with all that is needed to write it.

    It knows no customer and no card: `scope` and `reference` mean something to the caller only. The text is made
    when it is sent, from `context` in the language `locale`.
    """

    Status = Status

    class Kind(models.TextChoices):
        ENROLLMENT = "loyalty_enrollment", "Welcome"
        POINTS_EXPIRING = "loyalty_points_expiring", "Points will expire"
        POINTS_EXPIRED = "loyalty_points_expired", "Points have expired"
        POINTS_RESTORED = "loyalty_points_restored", "Points given back"

    kind = models.CharField(max_length=40, choices=Kind.choices)
    # Free text without a length: a long address must not fail the caller's transaction.
    scope = models.TextField(help_text="On whose behalf it is sent: the merchant's id.")
    reference = models.TextField(help_text="What it is about: the card's id.")
    recipient = models.TextField(blank=True)
    locale = models.CharField(max_length=20)
    context = models.JSONField(help_text="Figures and names for the text; dates as YYYY-MM-DD.")
    dedupe_key = models.TextField(help_text="Two messages with the same key are one message.")
    status = models.CharField(max_length=16, choices=Status.choices)
    attempts = models.PositiveSmallIntegerField(help_text="How often a mail server was asked to take it.")
    resends = models.PositiveSmallIntegerField(help_text="How often a person asked for it to be sent again.")
    next_attempt_at = models.DateTimeField()
    lease_until = models.DateTimeField(null=True, blank=True, help_text="Until when one sender has it to itself.")
    last_error = models.TextField(blank=True, help_text="Why it has not arrived.")
    created_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True, help_text="When a mail server took it.")
    cancelled_at = models.DateTimeField(null=True, blank=True)

    objects = MessageQuerySet.as_manager()

    class Meta:
        default_permissions = ("view",)
        permissions = [("send_again_message", "Can send a message again")]
        constraints = [
            # Not unique=True on the field: that adds a second index for LIKE, written with every message.
            models.UniqueConstraint(fields=["dedupe_key"], name="message_once_per_dedupe_key"),
            models.CheckConstraint(condition=Q(status__in=Status.values), name="message_status_known"),
            models.CheckConstraint(
                condition=Q(status=Status.LEASED, lease_until__isnull=False)
                | (~Q(status=Status.LEASED) & Q(lease_until__isnull=True)),
                name="message_leased_until_some_moment",
            ),
            models.CheckConstraint(
                condition=Q(status=Status.SENT, sent_at__isnull=False)
                | (~Q(status=Status.SENT) & Q(sent_at__isnull=True)),
                name="message_sent_at_some_moment",
            ),
            models.CheckConstraint(
                condition=Q(status=Status.CANCELLED, cancelled_at__isnull=False)
                | (~Q(status=Status.CANCELLED) & Q(cancelled_at__isnull=True)),
                name="message_cancelled_at_some_moment",
            ),
            models.CheckConstraint(
                condition=Q(status=Status.UNDELIVERABLE, recipient="")
                | (~Q(status=Status.UNDELIVERABLE) & ~Q(recipient="")),
                name="message_undeliverable_without_recipient",
            ),
        ]
        indexes = [
            models.Index(fields=["next_attempt_at", "id"], condition=Q(status__in=WAITING), name="message_due"),
            models.Index(fields=["id"], condition=Q(status__in=GIVEN_UP), name="message_given_up"),
            models.Index(fields=["reference"], name="message_about_reference"),
            models.Index("scope", F("id").desc(), name="message_newest_of_scope"),
            # The admin's search by the beginning of an address, whatever its case.
            models.Index(OpClass(Upper(F("recipient")), name="text_pattern_ops"), name="message_to_recipient"),
        ]

    def __str__(self) -> str:
        # Ends up in the admin's log, which must not hold personal data.
        return f"{self.get_kind_display()} {self.pk}"
