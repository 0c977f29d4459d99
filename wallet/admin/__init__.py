"""The screens of the wallet. Importing them registers them."""

from wallet.admin import credentials, passes, runs

__all__ = ["credentials", "passes", "runs"]
