"""What phones, platforms and customers reach without signing in to anything."""

from django.urls import path

from wallet.public import apple

# These addresses are in every pass and link that was ever given out.
urlpatterns = [
    path("apple/v1/devices/<str:device>/registrations/<str:pass_type>/<str:serial>", apple.registration),
    path("apple/v1/devices/<str:device>/registrations/<str:pass_type>", apple.changes),
    path("apple/v1/passes/<str:pass_type>/<str:serial>", apple.wallet_pass),
    path("apple/v1/log", apple.complaints),
]
