"""Passes, and the phones that have them."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import F, OuterRef, Q, Subquery, Value
from django.db.models.functions import Coalesce

from loyalty.models import Card, Merchant, Program
from wallet.models.artwork import Artwork
from wallet.models.platform import Platform


class PassQuerySet(models.QuerySet["Pass"]):
    def of(self, merchant: Merchant) -> PassQuerySet:
        return self.filter(card__program__merchant=merchant)

    def in_phones(self) -> PassQuerySet:
        """Passes that phones may have."""
        return self.filter(Q(platform=Platform.APPLE) | Q(saved=True)).exclude(status=Pass.Status.REMOVED)

    def with_card(self) -> PassQuerySet:
        """Adds all that a pass shows, with `look` and `logo`, as of one moment: none of it is older than the rest."""
        logo = Artwork.objects.filter(program=OuterRef("card__program")).values("digest")
        cards = self.with_look().annotate(logo=Coalesce(Subquery(logo), Value("")))
        return cards.select_related("card__balance", "card__customer", "card__program__merchant")

    def synced(self) -> PassQuerySet:
        """Passes that phones may have, and that nobody gave up."""
        return self.in_phones().filter(dead_at=None)

    def failing(self) -> PassQuerySet:
        """Passes whose last sync failed: tried again, or given up."""
        # In the words of the index pass_failing.
        return self.exclude(last_error_code="")

    def with_look(self) -> PassQuerySet:
        """Adds `look`: a number that grows whenever what all cards of the program show changes."""
        artwork = Artwork.objects.filter(program=OuterRef("card__program")).values("version")
        return self.annotate(look=F("card__program__version") + Coalesce(Subquery(artwork), 0))

    def shown(self) -> PassQuerySet:
        """Passes with what it takes to say how true they are: the newest `look`, and their card's balance."""
        return self.with_look().select_related("card__balance", "card__program__merchant")

    def stale(self) -> PassQuerySet:
        """Passes that may show something older than their card or its program."""
        return (
            self.synced()
            .with_look()
            .filter(Q(synced_version__lt=F("card__balance__version")) | Q(synced_look__lt=F("look")))
        )

    def due(self, at: datetime) -> PassQuerySet:
        """Passes to sync now: older than their card or its program, in nobody's hands, and not put off or given up.

        What was put off or given up is tried again at once when the card changes.
        """
        is_behind = Q(synced_version__lt=F("card__balance__version")) | Q(synced_look__lt=F("look"))
        is_new = Q(tried_version__lt=F("card__balance__version")) | Q(tried_look__lt=F("look"))
        is_its_time = Q(next_attempt_at=None) | Q(next_attempt_at__lte=at)
        is_free = Q(lease_until=None) | Q(lease_until__lte=at)
        return self.in_phones().with_look().filter(is_behind, is_free, is_new | (is_its_time & Q(dead_at=None)))


class Pass(models.Model):
    """A card's picture in a phone. It follows the card: `synced_version` is what phones were told about last.

    The identifier, what it was issued under and its authentication token never change: a phone asks by them for years.
    """

    class Status(models.TextChoices):
        PENDING = "pending", "Not handed out yet"
        ACTIVE = "active", "In use"
        VOIDED = "voided", "Void"
        REMOVED = "removed", "Forgotten"

    card = models.ForeignKey(Card, on_delete=models.PROTECT, related_name="+", db_index=False)
    platform = models.CharField(max_length=6, choices=Platform.choices)
    identifier = models.CharField(
        max_length=120, unique=True, help_text="The serial number of Apple's, the object id of Google's."
    )
    issued_under = models.CharField(
        max_length=120, help_text="The pass type of Apple's, the issuer of Google's: names the credential."
    )
    token_key_version = models.PositiveSmallIntegerField(default=0, help_text="The key behind the phone's token.")
    status = models.CharField(max_length=7, choices=Status.choices, default=Status.PENDING)
    saved = models.BooleanField(default=False, help_text="Google: a customer has it. Others are not pushed to.")
    synced_version = models.PositiveIntegerField(default=0, help_text="The version of the balance it shows.")
    synced_look = models.PositiveIntegerField(default=0, help_text="The version of the program's look it shows.")
    content_hash = models.CharField(max_length=64, blank=True, help_text="Of what was told last. Empty: tell again.")
    # Phones fetch whatever is newest. One that fetched more than was told has to be told even of a way back.
    fetched_version = models.PositiveIntegerField(
        default=0, help_text="The newest balance that a phone fetched untold."
    )
    fetched_look = models.PositiveIntegerField(default=0, help_text="The newest look that a phone fetched untold.")
    update_seq = models.BigIntegerField(default=0, help_text="Apple: grows over all passes with each change.")
    modified_at = models.DateTimeField(help_text="Apple's Last-Modified: whole seconds, grows with each change.")
    created_at = models.DateTimeField()
    synced_at = models.DateTimeField(null=True, blank=True)
    tried_version = models.PositiveIntegerField(default=0, help_text="The balance that could not be told last.")
    tried_look = models.PositiveIntegerField(default=0, help_text="The look that could not be told last.")
    attempts = models.PositiveSmallIntegerField(default=0, help_text="Runs in a row that failed.")
    next_attempt_at = models.DateTimeField(null=True, blank=True, help_text="Not before then.")
    lease_until = models.DateTimeField(null=True, blank=True, help_text="Until when one run has it to itself.")
    last_error_code = models.CharField(max_length=60, blank=True)
    last_error = models.CharField(max_length=500, blank=True)
    last_error_at = models.DateTimeField(null=True, blank=True)
    dead_at = models.DateTimeField(null=True, blank=True, help_text="When it was given up.")

    objects = PassQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "passes"
        default_permissions = ("view",)
        permissions = [("sync_pass", "Can have a pass told to phones again")]
        constraints = [
            models.UniqueConstraint(fields=["card", "platform"], name="pass_one_per_card_and_platform"),
            models.CheckConstraint(condition=Q(platform__in=Platform.values), name="pass_platform_known"),
            models.CheckConstraint(
                condition=Q(status__in=["pending", "active", "voided", "removed"]), name="pass_status_known"
            ),
        ]
        indexes = [
            models.Index(fields=["id"], condition=~Q(last_error_code=""), name="pass_failing"),
        ]

    def __str__(self) -> str:
        return f"{self.get_platform_display()} pass {self.pk}"

    @property
    def newest_look(self) -> int:
        """The version of the look that it should show, as `with_look` has read it."""
        return int(vars(self)["look"])

    @property
    def logo_digest(self) -> str:
        """The logo that it should show, as `with_card` has read it. Empty: ours."""
        return str(vars(self)["logo"])

    @property
    def is_in_phones(self) -> bool:
        """Whether a phone may have it."""
        return (self.platform == Platform.APPLE or self.saved) and self.status != Pass.Status.REMOVED


class Registration(models.Model):
    """A phone that has an Apple pass and wants to hear of changes."""

    # Whoever knows these asks and is pushed to in the phone's place.
    NOT_GIVEN_OUT = ("device", "push_token")

    wallet_pass = models.ForeignKey(Pass, on_delete=models.CASCADE, related_name="registrations", db_index=False)
    device = models.CharField(max_length=100, help_text="The device library identifier: the phone's secret.")
    push_token = models.CharField(max_length=200)
    registered_at = models.DateTimeField(help_text="When it came, or renewed its push token.")

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["wallet_pass", "device"], name="registration_once_per_device"),
        ]
        indexes = [models.Index(fields=["device"], name="registration_of_device")]

    def __str__(self) -> str:
        return f"registration {self.pk}"


class DeviceLog(models.Model):
    """What a phone complained about. Kept for 30 days."""

    text = models.CharField(max_length=1000)
    received_at = models.DateTimeField(db_index=True)

    class Meta:
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"device log {self.pk}"


class GoogleClassQuerySet(models.QuerySet["GoogleClass"]):
    def behind(self, issuer_id: str) -> GoogleClassQuerySet:
        """Classes of the issuer whose program may look otherwise than Google was told."""
        artwork = Artwork.objects.filter(program=OuterRef("program")).values("version")
        look = F("program__version") + Coalesce(Subquery(artwork), 0)
        return self.alias(look=look).filter(class_id__startswith=f"{issuer_id}.", synced_look__lt=F("look"))


class GoogleClass(models.Model):
    """What all Google passes of a program have in common, as Google was told last."""

    program = models.OneToOneField(Program, on_delete=models.PROTECT, related_name="+", primary_key=True)
    class_id = models.CharField(max_length=120, unique=True)
    synced_look = models.PositiveIntegerField(default=0)
    content_hash = models.CharField(max_length=64, blank=True)

    objects = GoogleClassQuerySet.as_manager()

    class Meta:
        default_permissions = ("view",)

    def __str__(self) -> str:
        return self.class_id


class CallbackNonce(models.Model):
    """A callback of Google's that was heard; it counts once."""

    nonce = models.CharField(max_length=200, unique=True)
    received_at = models.DateTimeField(db_index=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"callback {self.pk}"
