from django.db import models


class Platform(models.TextChoices):
    """Whose phone shows the pass."""

    APPLE = "apple", "Apple Wallet"
    GOOGLE = "google", "Google Wallet"
