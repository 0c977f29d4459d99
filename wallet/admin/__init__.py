"""The screens of the wallet. Importing them registers them."""

from wallet.admin import artwork, credentials, passes, runs

__all__ = ["artwork", "credentials", "passes", "runs"]
