"""What the APIs do with wallets. Importing this brings along how its refusals are answered."""

from wallet.api import problems

__all__ = ["problems"]
