from __future__ import annotations

from django.db import models
from django.db.models.functions import Now

from loyalty.models.merchant import Merchant


class CardImport(models.Model):
    """One file of cards and balances for one merchant. The same file continues where it was interrupted."""

    merchant = models.ForeignKey(Merchant, on_delete=models.PROTECT, related_name="+")
    file_name = models.CharField(max_length=255)
    sha256 = models.CharField(max_length=64)
    actor = models.CharField(max_length=150)
    rows = models.PositiveIntegerField(default=0)
    imported = models.PositiveIntegerField(default=0)
    skipped = models.PositiveIntegerField(default=0, help_text="Rows with problems, left out on request.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["merchant", "sha256"], name="card_import_once_per_file"),
        ]

    def __str__(self) -> str:
        return self.file_name


class CardImportRowQuerySet(models.QuerySet["CardImportRow"]):
    def waiting(self, card_import: CardImport) -> CardImportRowQuerySet:
        """Lines without problems; each of them is to become a card."""
        return self.filter(card_import=card_import, problems=[])

    def with_problems(self, card_import: CardImport) -> CardImportRowQuerySet:
        return self.filter(card_import=card_import).exclude(problems=[])


class CardImportRow(models.Model):
    """A line of a file that waits to become a card. It goes when it has become one, or when the import ends."""

    card_import = models.ForeignKey(CardImport, on_delete=models.CASCADE, related_name="lines", db_index=False)
    line = models.PositiveIntegerField()
    external_id = models.TextField(blank=True)
    first_name = models.TextField(blank=True)
    last_name = models.TextField(blank=True)
    email = models.TextField(blank=True)
    phone = models.TextField(blank=True)
    birth_date = models.TextField(blank=True)
    locale = models.TextField(blank=True)
    points = models.TextField(blank=True)
    stamps = models.TextField(blank=True)
    last_activity_on = models.TextField(blank=True)
    problems = models.JSONField(default=list, blank=True, help_text='A list of {"column", "reason"}.')

    objects = CardImportRowQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["card_import", "line"], name="card_import_row_once_per_line")]

    def __str__(self) -> str:
        return f"line {self.line}"
