"""Anticipated refusals: what a verb answers when the rules say no.

Each has a stable `code` (the snake_case of its class), a sentence that can be read aloud, and plain details.
"""

import re
from typing import Any


class LoyaltyError(Exception):
    """A refusal with a sentence for people and a code for machines."""

    def __init__(self, sentence: str, **details: Any) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.details = details

    @property
    def code(self) -> str:
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()


class MerchantNotFound(LoyaltyError):
    """No merchant has this id or slug."""


class MerchantExists(LoyaltyError):
    """A merchant with this slug is there already."""


class CurrencyFixed(LoyaltyError):
    """Customers have collected in this currency, so it stays."""


class StoreNotFound(LoyaltyError):
    """The merchant has no such store."""


class StoreExists(LoyaltyError):
    """The merchant has another store with this code."""


class ProgramNotFound(LoyaltyError):
    """No program has this number."""


class ProgramExists(LoyaltyError):
    """The merchant has a program already; each has one."""


class ProgramChanged(LoyaltyError):
    """The program has changed since it was looked at; `version` is the one it has now."""


class CampaignNotFound(LoyaltyError):
    """No campaign has this number."""


class RewardNotFound(LoyaltyError):
    """No reward has this number."""


class CardNotFound(LoyaltyError):
    """The merchant has no such card."""


class CardNotActive(LoyaltyError):
    """The card is suspended, closed, merged or erased."""


class CardOfAnotherStore(LoyaltyError):
    """The program keeps cards to the store that enrolled them."""


class IdempotencyKeyReused(LoyaltyError):
    """The key names another request, which was answered."""


class IdempotencyKeyExpired(LoyaltyError):
    """The request was carried out so long ago that its answer is not kept; `transaction_id` names what it did."""


class CardChanged(LoyaltyError):
    """The card has moved since it was looked at, so what was decided about it may be wrong or done already."""


class AlreadyEnrolled(LoyaltyError):
    """The customer has a card; `card_id` names it."""


class EnrolmentClosed(LoyaltyError):
    """The merchant or its program takes no new cards."""


class TermsNotAccepted(LoyaltyError):
    """Who gets a card accepts the program's terms first."""


class ConflictingCustomer(LoyaltyError):
    """E-mail, phone and external id given belong to different customers."""


class CustomerNotFound(LoyaltyError):
    """The merchant has no such customer."""


class ContactTaken(LoyaltyError):
    """Another customer of the merchant has this e-mail address, phone number or external id; `customer_id` says who."""


class AlreadyErased(LoyaltyError):
    """The customer's personal data has been erased; there is nothing left to erase, or to give a card to."""


class InvalidInput(LoyaltyError):
    """A value has a form that cannot be used; the sentence says which and why."""


class InvalidAmount(InvalidInput):
    """An amount is not a decimal that the currency can hold."""


class NotInThisProgram(LoyaltyError):
    """The program collects stamps and not points, or points and not stamps."""


class BelowMinimumPurchase(LoyaltyError):
    """The program earns nothing under its minimum."""


class ReceiptRequired(LoyaltyError):
    """The program wants a receipt number with every sale."""


class DuplicateReceipt(LoyaltyError):
    """The store already earned on this receipt; `transaction_id` names the sale."""


class DailyLimitReached(LoyaltyError):
    """The card has earned as often today as the program allows."""


class MomentNotAccepted(LoyaltyError):
    """The time of the sale is too long ago or in the future."""


class InsufficientPoints(LoyaltyError):
    """The balance is smaller than what was asked for."""


class BelowMinimumRedemption(LoyaltyError):
    """The program redeems only larger amounts of points."""


class RewardNotAvailable(LoyaltyError):
    """The reward is unknown, switched off or outside its dates."""


class OutOfStock(LoyaltyError):
    """The last of this reward is gone."""


class TransactionNotFound(LoyaltyError):
    """The merchant has no such transaction."""


class NotVoidable(LoyaltyError):
    """Transactions of this type are not taken back; a wrong one is put right by an adjustment."""


class AlreadyVoided(LoyaltyError):
    """The transaction was taken back in full already; `transaction_id` says by which one."""


class VoidNotAllowed(LoyaltyError):
    """The program lets no till void."""


class VoidWindowPassed(LoyaltyError):
    """It happened too long ago for a cashier to void it."""


class PointsAlreadySpent(LoyaltyError):
    """The card no longer holds what would be taken back, and the program does not take less."""


class RefundExceedsPurchase(LoyaltyError):
    """The refunds of a purchase would be more than it; `refundable` is what is left."""


class StampCooldown(LoyaltyError):
    """The card got a stamp only a moment ago; `next_stamp_at` says when it may have another."""


class DailyStampsReached(LoyaltyError):
    """The card may not have this many more stamps today; `remaining_stamps_today` says how many."""


class NotEnoughStamps(LoyaltyError):
    """The card has fewer stamps than the reward takes."""


class KeyNotFound(LoyaltyError):
    """Nobody here has a key with this number."""


class UserNotFound(LoyaltyError):
    """Nobody of this name can be given a membership."""


class MembershipNotFound(LoyaltyError):
    """The merchant has no such membership."""


class AlreadyMember(LoyaltyError):
    """The user has a membership of the merchant already; change that one."""


class OwnMembership(LoyaltyError):
    """Nobody changes or removes their own membership."""


class StaffMemberNotFound(LoyaltyError):
    """No staff member with this number works here."""


class StaffPinsDisabled(LoyaltyError):
    """The program asks nobody at the till for a PIN."""


class InvalidPin(LoyaltyError):
    """The PIN is wrong; `attempts_left` says how often it may be wrong until the staff member is locked."""


class PinLocked(LoyaltyError):
    """Too many wrong PINs; until `locked_until` none is compared."""


class StaffSessionNotFound(LoyaltyError):
    """No session of this store has this token, or it is over."""


class MoreThanExpired(LoyaltyError):
    """More would come back than ever expired on the card."""


class ReasonRequired(LoyaltyError):
    """Who changes a card by hand says why."""


class NothingToChange(LoyaltyError):
    """It already is as asked for."""


class RunNotFound(LoyaltyError):
    """No expiration run has this number."""


class RunNotFinished(LoyaltyError):
    """The expiration run is still working; give it back afterwards."""


class InvalidPolicy(LoyaltyError):
    """Days, warning and notice of an expiry policy contradict each other."""


class ConfirmationRequired(LoyaltyError):
    """The change takes points sooner; `impact` says from how many cards."""


class ImportRefused(LoyaltyError):
    """A file has problems; `problems` names them by line."""
