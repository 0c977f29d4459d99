"""Programs, campaigns and rewards as back offices set them up."""

from datetime import date, timedelta
from decimal import Decimal
from typing import Any, cast

import pytest
from django.db import connection

from loyalty.errors import InvalidInput, NothingToChange, ProgramChanged, ProgramExists
from loyalty.models import Campaign, Merchant, Program, Reward
from loyalty.services import policies, programs
from loyalty.services.policies import POLICY_FIELDS, PolicyTerms
from loyalty.services.programs import CampaignSettings, ProgramSettings
from tests.factories import NOON, balance_of, days, make_card, make_merchant, make_reward, make_store
from tests.loyalty.parallel import in_parallel
from tests.loyalty.runs import counts, expire

pytestmark = pytest.mark.django_db


@pytest.fixture
def merchant():
    return make_merchant()


@pytest.fixture
def program(merchant):
    return merchant.program


def make_bare_merchant() -> Merchant:
    return Merchant.objects.create(name="New", slug="new", currency="EUR")


# --- programs


def test_the_settings_are_all_fields_but_those_of_expiry():
    own = {"id", "merchant", "version"}

    assert set(ProgramSettings.__annotations__) == {f.name for f in Program._meta.concrete_fields} - POLICY_FIELDS - own


def test_a_new_program_has_what_is_given_and_lets_nothing_expire():
    program = programs.create_program(
        merchant=make_bare_merchant(), settings={"name": " Gold ", "points_per_unit": Decimal("1.5")}
    )

    program.refresh_from_db()
    assert (program.name, program.points_per_unit, program.version) == ("Gold", Decimal("1.5"), 1)
    assert (program.kind, program.is_active, program.expires) == ("points", True, False)


def test_a_merchant_has_one_program(merchant):
    with pytest.raises(ProgramExists):
        programs.create_program(merchant=merchant, settings={"name": "Second"})


@pytest.mark.django_db(transaction=True)
def test_of_two_who_create_a_program_at_once_one_is_refused():
    merchant = make_bare_merchant()
    outcomes: list[str] = []

    def create(number: int) -> None:
        try:
            programs.create_program(merchant=merchant, settings={"name": f"Card {number}"})
            outcomes.append("created")
        except ProgramExists:
            outcomes.append("refused")

    in_parallel(create, 4)

    assert sorted(outcomes) == ["created", "refused", "refused", "refused"]


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 81}, "name"),
        ({"name": "Gold\tCard"}, "name"),
        ({"kind": "coins"}, "kind"),
        ({"points_per_unit": Decimal("1.00001")}, "points_per_unit"),
        ({"stamps_target": 40_000}, "stamps_target"),
        ({"welcome_bonus_points": -1}, "welcome_bonus_points"),
        ({"pin_attempts": 0}, "pin_attempts"),
        ({"background_colour": "blue"}, "background_colour"),
        ({"logo_url": "javascript:alert(1)"}, "logo_url"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(program, settings, field):
    with pytest.raises(InvalidInput) as refused:
        programs.update_program(program=program, settings=settings)

    assert refused.value.details["field"] == field
    program.refresh_from_db()
    assert program.version == 1


def test_a_change_leaves_the_rest_as_somebody_else_has_made_it(program):
    stale = Program.objects.get(pk=program.pk)
    terms = PolicyTerms(
        points_expiration_days=200,
        expiration_warning_days=14,
        require_expiration_notice=True,
        expiration_paused_until=None,
    )
    policies.change_policy(program_id=program.pk, terms=terms, actor="kim", at=NOON)

    programs.update_program(program=stale, settings={"name": "Gold"})

    program.refresh_from_db()
    assert (program.name, program.points_expiration_days, program.version) == ("Gold", 200, 3)


@pytest.mark.parametrize("settings", [{}, {"name": "Points card"}, {"points_per_unit": Decimal("1.00")}])
def test_a_change_to_what_is_there_is_none(program, settings):
    with pytest.raises(NothingToChange):
        programs.update_program(program=program, settings=settings)


def test_a_change_that_was_decided_on_an_older_version_is_refused(program):
    programs.update_program(program=program, settings={"name": "Gold"}, seen_version=1)

    with pytest.raises(ProgramChanged) as refused:
        programs.update_program(program=program, settings={"name": "Silver"}, seen_version=1)

    assert refused.value.details == {"version": 2}


@pytest.mark.django_db(transaction=True)
def test_of_many_who_decided_on_one_version_one_changes_it(program):
    done: list[str] = []

    def change(number: int) -> None:
        try:
            done.append(programs.update_program(program=program, settings={"name": f"N{number}"}, seen_version=1).name)
        except ProgramChanged:
            return
        finally:
            connection.close()

    in_parallel(change, 4)

    program.refresh_from_db()
    assert (done, program.version) == ([program.name], 2)


def test_a_program_that_is_switched_on_again_warns_again_and_keeps_its_promises(program):
    card = make_card(program.merchant, points=10)
    expire(NOON + days(166))
    promised = balance_of(card).expiration_warned_for
    programs.update_program(program=program, settings={"is_active": False})
    assert counts(expire(NOON + days(200))) == (0, 0, 0)

    programs.update_program(program=program, settings={"is_active": True})

    assert balance_of(card).expiration_warned_for == promised
    assert counts(expire(NOON + days(200))) == (0, 0, 1)
    assert counts(expire(NOON + days(214))) == (0, 0, 0)
    assert counts(expire(NOON + days(215))) == (1, 10, 0)


def test_another_change_leaves_warnings_alone(program):
    make_card(program.merchant, points=10)
    expire(NOON + days(166))

    programs.update_program(program=program, settings={"name": "Gold"})

    assert counts(expire(NOON + days(181))) == (1, 10, 0)


# --- campaigns


def make_campaign(program: Program, **settings: Any) -> Campaign:
    settings = {"name": "Spring", "starts_at": NOON, "ends_at": NOON + days(7), **settings}
    return programs.create_campaign(program=program, settings=cast(CampaignSettings, settings))


def test_a_campaign_is_planned_for_some_stores(program):
    store = make_store(program.merchant)

    campaign = programs.create_campaign(
        program=program,
        settings={"name": "Double Friday", "multiplier": Decimal(2), "starts_at": NOON, "ends_at": NOON + days(7)},
        stores=[store],
    )

    campaign.refresh_from_db()
    assert (campaign.name, campaign.multiplier, list(campaign.stores.all())) == ("Double Friday", Decimal(2), [store])


@pytest.mark.parametrize("length", [timedelta(0), timedelta(seconds=-1)])
def test_a_campaign_ends_after_it_starts(program, length):
    with pytest.raises(InvalidInput, match="ends after it starts"):
        make_campaign(program, ends_at=NOON + length)
    with pytest.raises(InvalidInput, match="ends after it starts"):
        programs.update_campaign(campaign=make_campaign(program), settings={"ends_at": NOON + length})


def test_a_campaign_needs_a_beginning(program):
    with pytest.raises(InvalidInput) as refused:
        programs.create_campaign(program=program, settings={"name": "Spring", "ends_at": NOON})

    assert refused.value.details["field"] == "starts_at"


def test_a_store_of_another_merchant_takes_no_part(program):
    foreign = make_store()

    with pytest.raises(InvalidInput, match="only stores of the program's merchant"):
        programs.create_campaign(
            program=program, settings={"name": "S", "starts_at": NOON, "ends_at": NOON + days(1)}, stores=[foreign]
        )
    with pytest.raises(InvalidInput, match="only stores of the program's merchant"):
        programs.update_campaign(campaign=make_campaign(program), settings={}, stores=[foreign])
    assert list(Campaign.objects.values_list("stores", flat=True)) == [None]


def test_a_campaign_moves_to_other_stores_and_to_all(program):
    campaign, store = make_campaign(program), make_store(program.merchant)

    programs.update_campaign(campaign=campaign, settings={}, stores=[store])
    assert list(campaign.stores.all()) == [store]

    programs.update_campaign(campaign=campaign, settings={"name": "Summer"})
    assert list(campaign.stores.all()) == [store]

    assert list(programs.update_campaign(campaign=campaign, settings={}, stores=[]).stores.all()) == []


@pytest.mark.parametrize("stores", [None, []])
def test_a_campaign_that_stays_as_it_is_is_no_change(program, stores):
    campaign = make_campaign(program, weekdays="15")

    with pytest.raises(NothingToChange):
        programs.update_campaign(campaign=campaign, settings={"weekdays": "15"}, stores=stores)


@pytest.mark.parametrize("weekdays", ["8", "0", "11", "1 2", "12345671"])
def test_weekdays_are_digits_from_monday_to_sunday(program, weekdays):
    with pytest.raises(InvalidInput) as refused:
        make_campaign(program, weekdays=weekdays)

    assert refused.value.details["field"] == "weekdays"


# --- rewards


def test_a_reward_is_offered(program):
    reward = programs.create_reward(
        program=program, settings={"name": "Coffee", "points_cost": 50, "stock": 3, "active_to": date(2026, 12, 31)}
    )

    reward.refresh_from_db()
    assert (reward.name, reward.points_cost, reward.stock, reward.active_to) == ("Coffee", 50, 3, date(2026, 12, 31))


def test_a_reward_costs_something(program):
    with pytest.raises(InvalidInput) as refused:
        programs.create_reward(program=program, settings={"name": "Coffee", "points_cost": 0})

    assert refused.value.details["field"] == "points_cost"
    assert not Reward.objects.exists()


def test_a_reward_lasts_at_least_a_day(merchant, program):
    first = date(2026, 5, 1)
    with pytest.raises(InvalidInput, match="before its first"):
        programs.create_reward(
            program=program,
            settings={"name": "A", "points_cost": 1, "active_from": first, "active_to": first - days(1)},
        )
    reward = make_reward(merchant, active_from=first)
    with pytest.raises(InvalidInput, match="before its first"):
        programs.update_reward(reward=reward, settings={"active_to": first - days(1)})

    assert programs.update_reward(reward=reward, settings={"active_to": first}).active_to == first


def test_a_change_of_a_reward_leaves_the_stock_that_moved_meanwhile(merchant):
    stale = make_reward(merchant, stock=10)
    Reward.objects.update(stock=7)

    programs.update_reward(reward=stale, settings={"name": "Tea"})

    stale.refresh_from_db()
    assert (stale.name, stale.stock) == ("Tea", 7)


def test_a_stock_becomes_unlimited(merchant):
    reward = make_reward(merchant, stock=10)

    assert programs.update_reward(reward=reward, settings={"stock": None}).stock is None
    with pytest.raises(NothingToChange):
        programs.update_reward(reward=reward, settings={"stock": None})
