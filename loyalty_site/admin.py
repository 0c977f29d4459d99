"""The admin site of the platform."""

from django.contrib import admin


class LoyaltyAdminSite(admin.AdminSite):
    site_header = "Loyalty"
    site_title = "Loyalty"
    index_title = "How it stands"
