"""The screens of the wallet. Importing them registers them."""

from wallet.admin import artwork, cards, credentials, passes, runs

__all__ = ["artwork", "cards", "credentials", "passes", "runs"]
