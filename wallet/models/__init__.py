"""The nouns: passes and who has them, credentials, and what was done about both."""

from wallet.models.artwork import Artwork
from wallet.models.credentials import Breaker, Credential
from wallet.models.passes import CallbackNonce, DeviceLog, GoogleClass, Pass, Registration
from wallet.models.platform import Platform
from wallet.models.runs import SyncFailure, SyncRun

__all__ = [
    "Artwork",
    "Breaker",
    "CallbackNonce",
    "Credential",
    "DeviceLog",
    "GoogleClass",
    "Pass",
    "Platform",
    "Registration",
    "SyncFailure",
    "SyncRun",
]
