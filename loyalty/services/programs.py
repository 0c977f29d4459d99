"""A merchant's program, its campaigns and its rewards. When points expire is decided in `policies`."""

from collections.abc import Collection, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TypedDict

import structlog
from django.db import models, transaction

from loyalty.errors import InvalidInput, NothingToChange, ProgramChanged, ProgramExists
from loyalty.models import Campaign, CardBalance, Merchant, Program, Reward, Store
from loyalty.services.keys import require_text
from loyalty.services.saving import save_checked

log = structlog.get_logger()


class ProgramSettings(TypedDict, total=False):
    """The rules of a program, under the names that they have there; when points expire apart."""

    name: str
    kind: str
    is_active: bool
    points_per_unit: Decimal
    minimum_purchase_minor: int
    welcome_bonus_points: int
    minimum_redemption_points: int
    point_value_minor: int
    max_points_per_transaction: int | None
    max_daily_earns: int | None
    stamps_target: int
    stamps_reward: str
    cooldown_minutes: int
    max_daily_stamps: int
    staff_pin_policy: str
    pin_attempts: int
    pin_lock_minutes: int
    allow_void: bool
    void_window_hours: int
    refund_policy: str
    require_receipt_number: bool
    allow_self_enrollment: bool
    allow_cross_store: bool
    log_client_address: bool
    barcode: str
    background_colour: str
    text_colour: str
    logo_url: str
    terms_text: str
    terms_url: str
    privacy_url: str


class CampaignSettings(TypedDict, total=False):
    """What a campaign gives, and when."""

    name: str
    multiplier: Decimal
    bonus_points: int
    starts_at: datetime
    ends_at: datetime
    weekdays: str
    minimum_purchase_minor: int
    is_active: bool


class RewardSettings(TypedDict, total=False):
    """What a reward costs, and who can have it until when."""

    name: str
    points_cost: int
    stock: int | None
    active_from: date | None
    active_to: date | None
    is_active: bool


@transaction.atomic
def create_program(*, merchant: Merchant, settings: ProgramSettings) -> Program:
    """Give a merchant its program. Points do not expire until somebody changes the policy.

    Raises:
        ProgramExists: the merchant has one.
        InvalidInput: a value cannot be used; `field` names it.
    """
    # Two who ask at the same moment take turns.
    Merchant.objects.select_for_update(no_key=True).get(pk=merchant.pk)
    if Program.objects.filter(merchant=merchant).exists():
        raise ProgramExists("This merchant has a program already. Change that one.")
    program = save_checked(Program(merchant=merchant), **_usable(settings))
    log.info("loyalty.program_created", merchant_id=merchant.pk, program_id=program.pk)
    return program


@transaction.atomic
def update_program(*, program: Program, settings: ProgramSettings, seen_version: int | None = None) -> Program:
    """Change what is given and leave the rest. Passes on phones are looked at again.

    A program that is switched on again warns its customers again, in full time, before anything expires. Days that
    were promised stay promised. `seen_version` is the version on which a person decided; None changes whatever
    there is.

    Raises:
        ProgramChanged: the program has another version than the one seen.
        NothingToChange: nothing is given, or it is like this already.
        InvalidInput: a value cannot be used; `field` names it.
    """
    programs = Program.objects.select_for_update(of=("self",), no_key=True).select_related("merchant")
    locked = programs.get(pk=program.pk)
    require_version_seen(locked, seen_version)
    changed = _changed(locked, _usable(settings))
    if not changed:
        raise NothingToChange("Nothing is different from what is there.")
    save_checked(locked, **changed, version=locked.version + 1)
    if changed.get("is_active"):
        # Their promised days have passed while nobody could use the points.
        warned = CardBalance.objects.filter(program=locked, last_expiration_warning_at__isnull=False)
        warned.filter(points_balance__gt=0).update(last_expiration_warning_at=None)
    log.info("loyalty.program_changed", merchant_id=locked.merchant_id, program_id=locked.pk, fields=sorted(changed))
    return locked


def require_version_seen(program: Program, seen_version: int | None) -> None:
    """Refuse to act on a locked program that was changed since it was shown with this version.

    Raises:
        ProgramChanged: it was.
    """
    if seen_version is not None and program.version != seen_version:
        raise ProgramChanged(
            "Somebody else has changed the program meanwhile. Nothing was done. Look again, then decide.",
            version=program.version,
        )


@transaction.atomic
def create_campaign(*, program: Program, settings: CampaignSettings, stores: Collection[Store] = ()) -> Campaign:
    """Plan a time in which purchases are worth more, in these stores or, if none is named, in all.

    Raises:
        InvalidInput: a value cannot be used, or a store is not the merchant's; `field` names it.
    """
    values = _usable(settings)
    _require_order(values.get("starts_at"), values.get("ends_at"))
    _require_own(stores, program)
    campaign = save_checked(Campaign(program=program), **values)
    campaign.stores.set(stores)
    log.info("loyalty.campaign_created", program_id=program.pk, campaign_id=campaign.pk)
    return campaign


@transaction.atomic
def update_campaign(
    *, campaign: Campaign, settings: CampaignSettings, stores: Collection[Store] | None = None
) -> Campaign:
    """Change what is given and leave the rest. Sales that have earned keep what they earned.

    Raises:
        NothingToChange: nothing is given, or it is like this already.
        InvalidInput: a value cannot be used, or a store is not the merchant's; `field` names it.
    """
    campaigns = Campaign.objects.select_for_update(of=("self",), no_key=True).select_related("program__merchant")
    locked = campaigns.get(pk=campaign.pk)
    changed = _changed(locked, _usable(settings))
    _require_order(changed.get("starts_at", locked.starts_at), changed.get("ends_at", locked.ends_at))
    moved = stores is not None and set(stores) != set(locked.stores.all())
    if not changed and not moved:
        raise NothingToChange("Nothing is different from what is there.")
    if changed:
        save_checked(locked, **changed)
    if stores is not None and moved:
        _require_own(stores, locked.program)
        locked.stores.set(stores)
    log.info("loyalty.campaign_changed", program_id=locked.program_id, campaign_id=locked.pk)
    return locked


def create_reward(*, program: Program, settings: RewardSettings) -> Reward:
    """Offer something that points can be exchanged for.

    Raises:
        InvalidInput: a value cannot be used; `field` names it.
    """
    values = _usable(settings)
    _require_days(values.get("active_from"), values.get("active_to"))
    reward = save_checked(Reward(program=program), **values)
    log.info("loyalty.reward_created", program_id=program.pk, reward_id=reward.pk)
    return reward


@transaction.atomic
def update_reward(*, reward: Reward, settings: RewardSettings) -> Reward:
    """Change what is given and leave the rest; a stock that is not given keeps counting down meanwhile.

    Raises:
        NothingToChange: nothing is given, or it is like this already.
        InvalidInput: a value cannot be used; `field` names it.
    """
    locked = Reward.objects.select_for_update(of=("self",), no_key=True).select_related("program").get(pk=reward.pk)
    changed = _changed(locked, _usable(settings))
    _require_days(changed.get("active_from", locked.active_from), changed.get("active_to", locked.active_to))
    save_checked(locked, **changed)
    log.info("loyalty.reward_changed", program_id=locked.program_id, reward_id=locked.pk, fields=sorted(changed))
    return locked


def _usable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The models check the form of each value, but not for control characters. Only terms have several lines."""
    return {
        name: require_text(value, field=name) if isinstance(value, str) and name != "terms_text" else value
        for name, value in settings.items()
    }


def _changed(row: models.Model, values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if getattr(row, name) != value}


def _require_order(starts_at: datetime | None, ends_at: datetime | None) -> None:
    if starts_at and ends_at and ends_at <= starts_at:
        raise InvalidInput("A campaign ends after it starts.", field="ends_at")


def _require_days(first: date | None, last: date | None) -> None:
    if first and last and last < first:
        raise InvalidInput("The last day of a reward cannot be before its first.", field="active_to")


def _require_own(stores: Collection[Store], program: Program) -> None:
    if any(store.merchant_id != program.merchant_id for store in stores):
        raise InvalidInput("Choose only stores of the program's merchant.", field="stores")
