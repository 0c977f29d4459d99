from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from loyalty.models.card import Card
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


class CardImportRow(models.Model):
    """A line of the file as it was written, waiting to become a card; deleted when the import ends."""

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
    problem = models.TextField(blank=True)
    card = models.ForeignKey(Card, null=True, on_delete=models.PROTECT, related_name="+", db_index=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["card_import", "line"], name="card_import_row_once_per_line")]
        indexes = [
            models.Index(
                fields=["card_import", "line"], condition=Q(problem="", card=None), name="card_import_row_waiting"
            )
        ]

    def __str__(self) -> str:
        return f"line {self.line}"
