"""The screens of the back office. Importing them registers them."""

from loyalty.admin import access, cards, customers, expiration, imports, ledger, merchants, offers, programs

__all__ = ["access", "cards", "customers", "expiration", "imports", "ledger", "merchants", "offers", "programs"]
