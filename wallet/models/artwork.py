from django.db import models
from django.db.models import Q

from loyalty.models import Program


class Artwork(models.Model):
    """A merchant's own logo for its passes, drawn anew by us from what was uploaded."""

    program = models.OneToOneField(Program, on_delete=models.PROTECT, related_name="+", primary_key=True)
    logo = models.BinaryField(help_text="PNG, at most 480 x 150 pixels: three times what a pass shows.")
    digest = models.CharField(max_length=64, help_text="SHA-256 of the PNG; also its name on the web.")
    version = models.PositiveIntegerField(default=1, help_text="Grows with every change.")
    uploaded_at = models.DateTimeField()
    uploaded_by = models.CharField(max_length=150)

    class Meta:
        verbose_name = "logo"
        constraints = [models.CheckConstraint(condition=Q(version__gte=1), name="artwork_has_a_version")]
        indexes = [models.Index(fields=["digest"], name="artwork_by_digest")]

    def __str__(self) -> str:
        return f"logo of program {self.pk}"
