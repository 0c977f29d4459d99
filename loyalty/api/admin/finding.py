"""What the paths and bodies of the admin API name, found only where the user may do what was asked."""

from collections.abc import Collection

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import DateTimeField, OuterRef, Q, QuerySet, Value

from loyalty.api.views import AskedByUser
from loyalty.errors import (
    CampaignNotFound,
    CardNotFound,
    CustomerNotFound,
    KeyNotFound,
    MembershipNotFound,
    MerchantNotFound,
    ProgramNotFound,
    RewardNotFound,
    RunNotFound,
    StaffMemberNotFound,
    StoreNotFound,
    TransactionNotFound,
)
from loyalty.models import (
    Campaign,
    Card,
    Customer,
    ExpirationRun,
    Membership,
    Merchant,
    Program,
    Reward,
    StaffMember,
    Store,
    StoreApiKey,
    Transaction,
)
from notifications.errors import MessageNotFound
from notifications.models import Message


def find_card(asked: AskedByUser, card_id: int) -> Card:
    """The card with all that is shown of it.

    Raises:
        CardNotFound: it is unknown or of a merchant that the user does not look after. PermissionDenied.
    """
    return asked.find(cards_shown(asked), card_id, "program__merchant", CardNotFound("This card is not known here."))


def cards_shown(asked: AskedByUser) -> "QuerySet[Card]":
    """Cards with all that is shown of them, and `asked_at`: until when points keep depends on the day."""
    cards = Card.objects.select_related("balance", "customer", "program__merchant")
    return cards.annotate(asked_at=Value(asked.at, output_field=DateTimeField()))


def find_customer(asked: AskedByUser, customer_id: int) -> Customer:
    """The customer with their merchant and `card_ids`.

    Raises:
        CustomerNotFound: they are unknown or of a merchant that the user does not look after. PermissionDenied.
    """
    unknown = CustomerNotFound("This customer is not known here.")
    return asked.find(customers_shown(), customer_id, "merchant", unknown)


def customers_shown() -> "QuerySet[Customer]":
    """Customers with their merchant, and `card_ids`: all cards that they have or had, the oldest first."""
    of_customer = Card.objects.filter(customer=OuterRef("pk")).order_by("pk")
    return Customer.objects.select_related("merchant").annotate(card_ids=ArraySubquery(of_customer.values("pk")))


def find_transaction(asked: AskedByUser, transaction_id: int) -> Transaction:
    """The ledger row with what its sentence names.

    Raises:
        TransactionNotFound: it is unknown or of a merchant that the user does not look after. PermissionDenied.
    """
    unknown = TransactionNotFound("This transaction is not known here.")
    return asked.find(transactions_shown(), transaction_id, "merchant", unknown)


def transactions_shown() -> "QuerySet[Transaction]":
    """Ledger rows with what their sentences name."""
    return Transaction.objects.select_related("store", "reward", "merchant", "card__program__merchant")


def in_sight(asked: AskedByUser, merchant_path: str, merchant_id: int | None) -> Q:
    """Of a list: rows of the merchant that its query names, or of all merchants that the user looks after.

    In ids, which tell the planner whether that is most of a table or next to nothing.

    Raises:
        MerchantNotFound: it is unknown or not the user's.
    """
    if merchant_id is not None:
        return Q(**{merchant_path: asked.merchant(merchant_id).pk})
    if asked.user.is_superuser:
        return Q()
    return Q(**{f"{merchant_path}__in": list(asked.merchants.values_list("pk", flat=True))})


def find_store(asked: AskedByUser, store_id: int) -> Store:
    """The store with its merchant.

    Raises:
        StoreNotFound: it is unknown or of a merchant that the user does not look after. PermissionDenied.
    """
    stores = Store.objects.select_related("merchant")
    return asked.find(stores, store_id, "merchant", StoreNotFound("This store is not known here."))


def find_stores(merchant: Merchant, store_ids: Collection[int]) -> list[Store]:
    """These stores of a merchant that was found before.

    Raises:
        StoreNotFound: one of them is unknown, or another merchant's.
    """
    found = list(Store.objects.filter(merchant=merchant, pk__in=store_ids))
    if len(found) < len(set(store_ids)):
        raise StoreNotFound("This store is not known here.")
    return found


def find_store_key(asked: AskedByUser, store_id: int, key_id: int) -> StoreApiKey:
    """The key with its store and merchant.

    Raises:
        KeyNotFound: the store has no such key, or is itself not known to the user. PermissionDenied.
    """
    keys = StoreApiKey.objects.select_related("store__merchant").filter(store=store_id)
    return asked.find(keys, key_id, "store__merchant", KeyNotFound("This key is not known here."))


def find_staff_member(asked: AskedByUser, staff_member_id: int) -> StaffMember:
    """The staff member with their merchant.

    Raises:
        StaffMemberNotFound: they are unknown or of a merchant that the user does not look after. PermissionDenied.
    """
    members = StaffMember.objects.select_related("merchant")
    unknown = StaffMemberNotFound("This staff member is not known here.")
    return asked.find(members, staff_member_id, "merchant", unknown)


def find_membership(asked: AskedByUser, membership_id: int) -> Membership:
    """The membership with its merchant and user.

    Raises:
        MembershipNotFound: it is unknown or of a merchant that the user does not look after. PermissionDenied.
    """
    memberships = Membership.objects.select_related("merchant", "user")
    return asked.find(memberships, membership_id, "merchant", MembershipNotFound("This membership is not known here."))


def find_program(asked: AskedByUser, program_id: int) -> Program:
    """The program with its merchant.

    Raises:
        ProgramNotFound: it is unknown or of a merchant that the user does not look after. PermissionDenied.
    """
    programs = Program.objects.select_related("merchant")
    return asked.find(programs, program_id, "merchant", ProgramNotFound("This program is not known here."))


def find_campaign(asked: AskedByUser, campaign_id: int) -> Campaign:
    """The campaign with its program, merchant and stores.

    Raises:
        CampaignNotFound: it is unknown or of a merchant that the user does not look after. PermissionDenied.
    """
    campaigns = Campaign.objects.select_related("program__merchant").prefetch_related("stores")
    unknown = CampaignNotFound("This campaign is not known here.")
    return asked.find(campaigns, campaign_id, "program__merchant", unknown)


def find_reward(asked: AskedByUser, reward_id: int) -> Reward:
    """The reward with its program.

    Raises:
        RewardNotFound: it is unknown or of a merchant that the user does not look after. PermissionDenied.
    """
    rewards = Reward.objects.select_related("program")
    return asked.find(rewards, reward_id, "program__merchant", RewardNotFound("This reward is not known here."))


def find_run(asked: AskedByUser, run_id: int) -> ExpirationRun:
    """The run with its merchant. Runs over all merchants are the platform's.

    Raises:
        RunNotFound: it is unknown, or not of a merchant that the user looks after.
    """
    found = ExpirationRun.objects.select_related("merchant").filter(in_sight(asked, "merchant", None), pk=run_id)
    return _known_run(found.first())


def find_run_over(merchant: Merchant, run_id: int) -> ExpirationRun:
    """A run that took in a merchant who was found before: the merchant's own, or one over all.

    Raises:
        RunNotFound: it is unknown, or another merchant's.
    """
    found = ExpirationRun.objects.filter(Q(merchant=merchant) | Q(merchant=None), pk=run_id)
    return _known_run(found.first())


def _known_run(found: ExpirationRun | None) -> ExpirationRun:
    if found is None:
        raise RunNotFound("This run is not known here.")
    return found


def find_message(asked: AskedByUser, message_id: int) -> Message:
    """A message that is sent on behalf of a merchant.

    Raises:
        MessageNotFound: it is unknown or of a merchant that the user does not look after. PermissionDenied.
    """
    message = Message.objects.filter(pk=message_id).first()
    if message is None or not message.scope.isdecimal():
        raise MessageNotFound
    try:
        asked.merchant(int(message.scope))
    except MerchantNotFound:
        raise MessageNotFound from None
    return message
