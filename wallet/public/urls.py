"""What phones, platforms and customers reach without signing in to anything."""

from django.urls import path, re_path

from wallet.public import apple, google, links, logos

# These addresses are in every pass and link that was ever given out.
urlpatterns = [
    path("apple/v1/devices/<str:device>/registrations/<str:pass_type>/<str:serial>", apple.registration),
    path("apple/v1/devices/<str:device>/registrations/<str:pass_type>", apple.changes),
    path("apple/v1/passes/<str:pass_type>/<str:serial>", apple.wallet_pass),
    path("apple/v1/log", apple.complaints),
    path("apple/get/<str:token>", links.apple),
    path("google/get/<str:token>", links.google),
    path("google/callback", google.callback),
    re_path(r"^logos/(?P<digest>default|[0-9a-f]{64})\.png$", logos.logo),
]
