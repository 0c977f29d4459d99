from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower

from loyalty.models.contact import E164
from loyalty.models.merchant import Merchant


class CustomerQuerySet(models.QuerySet["Customer"]):
    def known_as(
        self, *, merchant: Merchant, email: str = "", phone: str = "", external_id: str = ""
    ) -> CustomerQuerySet:
        """Customers of the merchant with this e-mail address, whatever its case, phone number or external id.

        Three at most. In the words of the unique indexes and without an order, or the planner, told to find the
        first one, would read all customers.
        """
        same = Q(pk=None)
        if email:
            same |= Q(lowered=email.lower()) & ~Q(email="") & Q(merchant=merchant)
        if phone:
            same |= Q(phone=phone) & ~Q(phone="") & Q(merchant=merchant)
        if external_id:
            same |= Q(external_id=external_id) & ~Q(external_id="") & Q(merchant=merchant)
        return self.alias(lowered=Lower("email")).filter(same).order_by()


class Customer(models.Model):
    """A person who has, or had, a card of a merchant. Missing values are empty strings."""

    merchant = models.ForeignKey(Merchant, on_delete=models.PROTECT, related_name="customers")
    first_name = models.CharField(max_length=80, blank=True)
    last_name = models.CharField(max_length=80, blank=True)
    email = models.EmailField("e-mail", blank=True)
    phone = models.CharField(max_length=16, blank=True, help_text="E.164, such as +352621123456.")
    birth_date = models.DateField(null=True, blank=True)
    locale = models.CharField(max_length=16, blank=True)
    external_id = models.CharField(max_length=80, blank=True, help_text="The customer's name in another system.")
    terms_accepted_at = models.DateTimeField(null=True, blank=True)
    marketing_consent_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()
    erased_at = models.DateTimeField(null=True, blank=True)

    objects = CustomerQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                "merchant", Lower("email"), condition=~Q(email=""), name="customer_email_once_per_merchant"
            ),
            models.UniqueConstraint(
                fields=["merchant", "phone"], condition=~Q(phone=""), name="customer_phone_once_per_merchant"
            ),
            models.UniqueConstraint(
                fields=["merchant", "external_id"],
                condition=~Q(external_id=""),
                name="customer_external_id_once_per_merchant",
            ),
            models.CheckConstraint(
                condition=Q(phone="") | Q(phone__regex=f"^{E164}$"),
                name="customer_phone_is_e164",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.first_name} {self.last_name}".strip() or self.external_id or f"customer {self.pk}"
