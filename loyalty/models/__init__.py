"""The nouns: what there is, what must always be true of it, and how to find it."""

from loyalty.models.access import Membership, StaffMember, StaffSession, StoreApiKey, UserApiKey
from loyalty.models.card import Card, CardBalance, ExemptionChange
from loyalty.models.customer import Customer
from loyalty.models.expiration import ExpirationRun
from loyalty.models.idempotency import IdempotencyKey
from loyalty.models.imports import CardImport, CardImportRow
from loyalty.models.merchant import Merchant, MerchantChange, Store
from loyalty.models.policy import Cycle, ExpirationPolicy
from loyalty.models.program import Campaign, PolicyChange, Program, Reward
from loyalty.models.transaction import ReceiptClaim, Transaction, TransactionType

__all__ = [
    "Campaign",
    "Card",
    "CardBalance",
    "CardImport",
    "CardImportRow",
    "Customer",
    "Cycle",
    "ExemptionChange",
    "ExpirationPolicy",
    "ExpirationRun",
    "IdempotencyKey",
    "Membership",
    "Merchant",
    "MerchantChange",
    "PolicyChange",
    "Program",
    "ReceiptClaim",
    "Reward",
    "StaffMember",
    "StaffSession",
    "Store",
    "StoreApiKey",
    "Transaction",
    "TransactionType",
    "UserApiKey",
]
