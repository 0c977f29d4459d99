"""The one place where balances move. Each move is a ledger row and a new balance, in one transaction.

`lock`, decide on what it returned, `post`; or `post_expirations` for a chunk. The database repeats the rules as
constraints and triggers.
"""

from loyalty.services.ledger.cards import MAX_BALANCE, Move, Opening, foresee, joined_cycle, open_balances, post
from loyalty.services.ledger.chunks import Expired, Expiry, Imported, open_imported, post_expirations
from loyalty.services.ledger.locking import lock

__all__ = [
    "MAX_BALANCE",
    "Expired",
    "Expiry",
    "Imported",
    "Move",
    "Opening",
    "foresee",
    "joined_cycle",
    "lock",
    "open_balances",
    "open_imported",
    "post",
    "post_expirations",
]
