"""How the APIs say no about wallets."""

from loyalty.api.problems import answers
from wallet.errors import CredentialNotFound, CredentialNotUsable, SyncRunNotFound

answers(404, CredentialNotFound, SyncRunNotFound)
answers(409, CredentialNotUsable)
