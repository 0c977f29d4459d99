import hashlib

import psycopg
import pytest
from django.contrib.auth.models import User
from django.db import connection

from loyalty.errors import InvalidInput, KeyNotFound, NothingToChange
from loyalty.models import Merchant, Program, StaffMember, StaffSession, Store, StoreApiKey, UserApiKey
from loyalty.services import keys, staff
from tests.factories import NOON, days, make_merchant, make_store
from tests.fakes.celery_process import database_url
from tests.loyalty.admin.rows import make_user

pytestmark = pytest.mark.django_db
MINUTE = days(1) / 1440
PIN = "730418"


def issue(store: Store | None = None, **terms) -> str:
    return keys.issue_store_key(store=store or make_store(), label="Till 1", actor="ana", at=NOON, **terms).key


def signed_in(key: str, *, token: str | None = None, at=NOON) -> keys.TillSignIn | None:
    return keys.till_signed_in(key=key, session_token=token, at=at)


def known(key: str, *, token: str | None = None, at=NOON) -> keys.TillSignIn:
    found = signed_in(key, token=token, at=at)
    assert found
    return found


def columns_of(row) -> list[object]:
    return [getattr(row, field.attname) for field in row._meta.fields]


def open_shift(store: Store, *stores: Store) -> tuple[StaffMember, str]:
    """A cashier of these stores who has just signed in at the first one, and the token."""
    added = staff.add_staff_member(
        merchant=store.merchant, display_name="Bea", role="cashier", stores=stores, pin=PIN, actor="ana", at=NOON
    )
    member = added.staff_member
    return member, staff.open_session(store=store, staff_member_id=member.pk, pin=PIN, at=NOON).token


def test_of_a_key_only_its_beginning_and_its_hash_are_kept():
    store = make_store()

    issued = keys.issue_store_key(store=store, label=" Till 1 ", actor="ana", at=NOON)

    kept = StoreApiKey.objects.get()
    assert kept == issued.record
    assert (kept.store, kept.label, kept.created_at, kept.expires_at) == (store, "Till 1", NOON, None)
    assert (kept.prefix, kept.key_hash) == (issued.key[:12], hashlib.sha256(issued.key.encode()).hexdigest())
    assert issued.key.startswith("till_")
    assert len(issued.key) == 48
    assert issued.key not in repr(issued)


def test_a_user_s_key_is_made_alike():
    user = make_user()

    issued = keys.issue_user_key(user=user, label="Accounting", at=NOON, expires_at=NOON + days(30))

    kept = UserApiKey.objects.get()
    assert (kept.user, kept.label, kept.expires_at) == (user, "Accounting", NOON + days(30))
    assert (kept.prefix, kept.key_hash) == (issued.key[:12], hashlib.sha256(issued.key.encode()).hexdigest())
    assert issued.key.startswith("user_")


def test_no_two_keys_are_alike():
    store = make_store()

    assert len({issue(store) for _ in range(20)}) == 20


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        ({"label": " "}, "label"),
        ({"label": "x" * 81}, "label"),
        ({"label": "a\0b"}, "label"),
        ({"label": "a\udcffb"}, "label"),
        ({"expires_at": NOON}, "expires_at"),
        ({"expires_at": NOON - days(1)}, "expires_at"),
    ],
)
def test_a_key_that_makes_no_sense_is_refused(terms, field):
    terms = {"label": "Till 1", "at": NOON, **terms}

    with pytest.raises(InvalidInput) as of_store:
        keys.issue_store_key(store=make_store(), actor="ana", **terms)
    with pytest.raises(InvalidInput) as of_user:
        keys.issue_user_key(user=make_user(), **terms)

    assert of_store.value.details["field"] == of_user.value.details["field"] == field
    assert not StoreApiKey.objects.exists()
    assert not UserApiKey.objects.exists()


def test_a_user_who_is_switched_off_gets_no_key():
    with pytest.raises(InvalidInput, match="switched off"):
        keys.issue_user_key(user=make_user(is_active=False), label="x", at=NOON)


def test_a_till_is_known_by_its_key_in_one_statement(django_assert_num_queries):
    store = make_store(make_merchant(staff_pin_policy="optional"), throttle_factor=3)
    other = make_store(store.merchant)
    issue(other)
    key = issue(store)
    member, token = open_shift(store)

    with django_assert_num_queries(1):
        found = known(key, token=token)
        assert found.store.merchant.program.staff_pin_policy == "optional"
        assert found.program
        assert found.program.merchant.name == store.merchant.name
        assert found.staff_member
        assert found.staff_member.merchant.slug == store.merchant.slug

    assert (found.store, found.store.throttle_factor, found.store.merchant) == (store, 3, store.merchant)
    assert (found.program, found.label) == (store.merchant.program, "Till 1")
    assert found.key_id == StoreApiKey.objects.get(store=store).pk
    assert (found.staff_member, found.staff_session_id) == (member, StaffSession.objects.get().pk)
    assert not found.is_token_refused
    for read in (found.store, found.store.merchant, found.program, found.staff_member):
        assert columns_of(read) == columns_of(type(read)._default_manager.get(pk=read.pk))


def test_a_till_without_a_session_has_no_staff_member():
    found = known(issue())

    assert (found.staff_member, found.staff_session_id, found.is_token_refused) == (None, None, False)


@pytest.mark.parametrize("key", ["", "till_", "nobody's", "a\0b", "caf\udcff", "x" * 100_000, "' OR TRUE --", "%s"])
def test_an_unknown_key_opens_nothing(key):
    issue()
    keys.issue_user_key(user=make_user(), label="x", at=NOON)

    assert signed_in(key) is None
    assert keys.user_signed_in(key=key, at=NOON) is None


def test_the_hash_of_a_key_and_the_other_kind_of_key_open_nothing():
    till, user = issue(), keys.issue_user_key(user=make_user(), label="x", at=NOON).key

    assert signed_in(StoreApiKey.objects.get().key_hash) is None
    assert signed_in(user) is None
    assert keys.user_signed_in(key=till, at=NOON) is None


def test_a_key_ends_when_it_expires():
    key = issue(expires_at=NOON + days(1))
    user_key = keys.issue_user_key(user=make_user(), label="x", at=NOON, expires_at=NOON + days(1)).key

    assert signed_in(key, at=NOON + days(1) - MINUTE)
    assert keys.user_signed_in(key=user_key, at=NOON + days(1) - MINUTE)
    assert signed_in(key, at=NOON + days(1)) is None
    assert keys.user_signed_in(key=user_key, at=NOON + days(1)) is None


def test_a_revoked_key_opens_nothing_and_is_not_revoked_again():
    store = make_store()
    key, other = issue(store), issue(store)
    record = StoreApiKey.objects.get(prefix=key[:12])

    revoked = keys.revoke_store_key(merchant=store.merchant, key_id=record.pk, actor="ana", at=NOON)

    record.refresh_from_db()
    assert revoked.revoked_at == record.revoked_at == NOON
    assert signed_in(key) is None
    assert signed_in(other)
    with pytest.raises(NothingToChange):
        keys.revoke_store_key(merchant=store.merchant, key_id=record.pk, actor="ana", at=NOON + days(1))
    record.refresh_from_db()
    assert record.revoked_at == NOON


def test_a_revoked_key_of_a_user_opens_nothing():
    user = make_user()
    issued = keys.issue_user_key(user=user, label="x", at=NOON)

    keys.revoke_user_key(user=user, key_id=issued.record.pk, at=NOON)

    assert keys.user_signed_in(key=issued.key, at=NOON) is None
    with pytest.raises(NothingToChange):
        keys.revoke_user_key(user=user, key_id=issued.record.pk, at=NOON)


def test_a_foreign_key_is_as_unknown_as_one_that_never_was():
    issue()
    keys.issue_user_key(user=make_user(), label="x", at=NOON)
    told = set()

    for key_id in (StoreApiKey.objects.get().pk, 0, 10**30):
        with pytest.raises(KeyNotFound) as refusal:
            keys.revoke_store_key(merchant=make_merchant(), key_id=key_id, actor="ana", at=NOON)
        told.add(refusal.value.sentence)
    for key_id in (UserApiKey.objects.get().pk, 0, 10**30):
        with pytest.raises(KeyNotFound) as refusal:
            keys.revoke_user_key(user=make_user(), key_id=key_id, at=NOON)
        told.add(refusal.value.sentence)

    assert len(told) == 1
    assert not StoreApiKey.objects.exclude(revoked_at=None).exists()
    assert not UserApiKey.objects.exclude(revoked_at=None).exists()


def test_what_is_switched_off_is_told_by_what_is_returned():
    store = make_store(is_active=False)
    key = issue(store)
    Merchant.objects.update(is_active=False)
    Program.objects.update(is_active=False)

    found = known(key)

    assert found.program
    switches = [found.store.is_active, found.store.merchant.is_active, found.program.is_active]
    assert switches == [False, False, False]


def test_a_merchant_may_have_no_program_yet():
    merchant = Merchant.objects.create(name="New", slug="new", currency="EUR")

    found = known(issue(make_store(merchant)))

    assert found.program is None
    assert found.store.merchant == merchant


@pytest.mark.parametrize("model", [StoreApiKey, UserApiKey])
def test_the_last_use_is_noted_every_five_minutes(model):
    def use(at):
        assert keys.user_signed_in(key=key, at=at) if model is UserApiKey else signed_in(key, at=at)
        return model.objects.get().last_used_at

    key = keys.issue_user_key(user=make_user(), label="x", at=NOON).key if model is UserApiKey else issue()

    assert use(NOON) == NOON
    assert use(NOON + 4.9 * MINUTE) == NOON
    assert use(NOON + 5 * MINUTE) == NOON + 5 * MINUTE
    assert use(NOON + 9 * MINUTE) == NOON + 5 * MINUTE


def test_the_use_of_one_key_is_not_noted_on_others():
    store = make_store()
    key, _other = issue(store), issue(store)

    signed_in(key)

    assert StoreApiKey.objects.get(last_used_at=None).prefix != key[:12]


def test_a_key_that_opens_nothing_is_not_noted_as_used():
    key = issue(expires_at=NOON + days(1))

    signed_in(key, at=NOON + days(2))

    assert StoreApiKey.objects.get().last_used_at is None


@pytest.mark.django_db(transaction=True)
def test_a_till_does_not_wait_for_who_holds_the_row_of_its_key():
    key = issue()

    with psycopg.connect(database_url()) as other, connection.cursor() as cursor:
        other.execute("SELECT * FROM loyalty_storeapikey FOR UPDATE")
        cursor.execute("SET lock_timeout = '2s'")
        try:
            assert signed_in(key)
        finally:
            cursor.execute("RESET lock_timeout")

    assert StoreApiKey.objects.get().last_used_at is None


@pytest.mark.parametrize("end", ["expired", "closed", "switched_off", "moved_away", "moved_merchant", "garbled"])
def test_a_session_that_is_over_is_refused(end):
    store = make_store()
    member, token = open_shift(store, store)
    key, at = issue(store), NOON + days(0.1)
    match end:
        case "expired":
            at = NOON + days(0.5)
        case "closed":
            staff.close_session(store=store, token=token, at=at)
        case "switched_off":
            StaffMember.objects.update(is_active=False)
        case "moved_away":
            member.stores.set([make_store(store.merchant)])
        case "moved_merchant":
            StaffMember.objects.update(merchant=make_merchant())
        case "garbled":
            token += "x"

    found = known(key, token=token, at=at)

    assert (found.store, found.staff_member, found.staff_session_id) == (store, None, None)
    assert found.is_token_refused


def test_a_session_lasts_to_its_end():
    store = make_store()
    member, token = open_shift(store)

    found = known(issue(store), token=token, at=NOON + days(0.5) - MINUTE)

    assert found.staff_member == member


def test_a_session_is_of_one_store():
    store = make_store()
    beside, foreign = make_store(store.merchant), make_store()
    _, token = open_shift(store)

    for other in (beside, foreign):
        found = known(issue(other), token=token)
        assert (found.staff_member, found.is_token_refused) == (None, True)


@pytest.mark.parametrize("token", ["", "x", "a\0b", "caf\udcff"])
def test_a_token_that_is_none_is_refused_and_no_error(token):
    store = make_store()
    open_shift(store)

    found = known(issue(store), token=token)

    assert (found.staff_member, found.is_token_refused) == (None, True)


def test_who_is_assigned_to_several_stores_works_in_each():
    store = make_store()
    second, third = make_store(store.merchant), make_store(store.merchant)
    member, _ = open_shift(store, store, second)

    token = staff.open_session(store=second, staff_member_id=member.pk, pin=PIN, at=NOON).token

    found = known(issue(second), token=token)
    assert found.staff_member == member
    member.stores.set([third])
    assert known(issue(second), token=token).is_token_refused


def test_a_user_is_known_by_a_key_in_one_statement(django_assert_num_queries):
    user = make_user(email="ana@example.com", is_staff=True)
    issued = keys.issue_user_key(user=user, label="x", at=NOON)

    with django_assert_num_queries(1):
        found = keys.user_signed_in(key=issued.key, at=NOON)

    assert found == (user, issued.record.pk)
    assert columns_of(found.user) == columns_of(User.objects.get(pk=user.pk))


def test_the_key_of_a_user_who_is_switched_off_opens_nothing():
    user = make_user()
    key = keys.issue_user_key(user=user, label="x", at=NOON).key
    User.objects.update(is_active=False)

    assert keys.user_signed_in(key=key, at=NOON) is None
