from django.conf import settings
from django.db import models
from django.db.models import Q

from loyalty.models.card import Card
from loyalty.models.merchant import Merchant


class IdempotencyKey(models.Model):
    """A request that was answered: the same key gets the same answer, from the rows that it wrote.

    A till's key belongs to its merchant, a back office's to its user.
    """

    merchant = models.ForeignKey(
        Merchant, null=True, blank=True, on_delete=models.CASCADE, related_name="+", db_index=False
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE, related_name="+", db_index=False
    )
    card = models.ForeignKey(Card, null=True, blank=True, on_delete=models.CASCADE, related_name="+", db_index=False)
    key = models.CharField(max_length=128)
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of method, path and body.")
    status = models.PositiveSmallIntegerField(help_text="The HTTP status that was answered.")
    answer = models.JSONField(help_text="What the answer is rendered from: ids of rows, or the body itself.")
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["merchant", "key"], condition=Q(user=None), name="idempotency_key_once_per_merchant"
            ),
            models.UniqueConstraint(
                fields=["user", "key"], condition=Q(user__isnull=False), name="idempotency_key_once_per_user"
            ),
            models.CheckConstraint(
                condition=Q(merchant__isnull=False) | Q(user__isnull=False), name="idempotency_key_has_an_owner"
            ),
        ]
        indexes = [
            # An erasure looks for a card's answers, the nightly purge for old ones.
            models.Index(fields=["card"], condition=Q(card__isnull=False), name="idempotency_key_about_card"),
            models.Index(fields=["created_at"], name="idempotency_key_oldest"),
        ]

    def __str__(self) -> str:
        return self.key
