"""Anticipated refusals of the wallet."""

from loyalty.errors import LoyaltyError


class WalletNotConfigured(LoyaltyError):
    """No credential of this platform is active, so it is switched off."""


class CredentialNotFound(LoyaltyError):
    """No credential has this number."""


class CredentialRefused(LoyaltyError):
    """The credential cannot be used; nothing was kept. The sentence says why and what to do."""


class CredentialNotUsable(LoyaltyError):
    """The credential cannot become the active one now; the active one stays."""


class SecretUnreadable(LoyaltyError):
    """A kept secret cannot be read: the key or the file that opens it is missing."""


class PassNotFound(LoyaltyError):
    """There is no such pass."""


class SyncRunNotFound(LoyaltyError):
    """No sync run has this number."""


class InvalidLogo(LoyaltyError):
    """The file is no picture that can be a logo."""


class LinkNotValid(LoyaltyError):
    """The link is none of ours, too old, or of a card that was replaced since."""


class GoogleNotReachable(LoyaltyError):
    """Google cannot be told about the pass now; `retry_after_seconds` says when to try again."""
