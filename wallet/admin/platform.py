"""What the screens of the whole installation have in common."""

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest

from loyalty.admin.screens import ViewOnly
from loyalty.models import Merchant


class ForPlatformAdmins(ViewOnly):
    """Rows that belong to no merchant: platform admins see them, and nobody else, whatever their permissions."""

    menu = "Wallet"

    def of_merchants(self, rows: "QuerySet[Any]", merchants: QuerySet[Merchant]) -> "QuerySet[Any]":
        return rows.none()

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.is_superuser
