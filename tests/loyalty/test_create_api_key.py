"""The command as scripts meet it: the key on standard output, and nothing else."""

from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone

from loyalty.models import Merchant, StoreApiKey, UserApiKey
from loyalty.services import keys
from tests.factories import make_store
from tests.loyalty.admin.rows import make_user

pytestmark = pytest.mark.django_db


def run(*words: str) -> str:
    output = StringIO()
    call_command("create_api_key", *words, stdout=output)
    return output.getvalue()


def test_a_user_s_key_is_printed_alone():
    user = make_user()

    output = run(user.username, "--label", "Accounting")

    assert output.count("\n") == 1
    found = keys.user_signed_in(key=output.rstrip("\n"), at=timezone.now())
    assert found
    assert found.user == user
    assert (UserApiKey.objects.get().label, UserApiKey.objects.get().expires_at) == ("Accounting", None)


def test_a_till_s_key_is_printed_alone():
    store = make_store()

    output = run("--store", f"{store.merchant.slug}/{store.code}", "--label", "Till 1")

    found = keys.till_signed_in(key=output.rstrip("\n"), session_token=None, at=timezone.now())
    assert found
    assert (found.store, found.label) == (store, "Till 1")


def test_a_key_can_be_given_some_days():
    run(make_user().username, "--label", "x", "--days", "30")

    key = UserApiKey.objects.get()
    assert key.expires_at == key.created_at + timedelta(days=30)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--label", "x"], "Name either a user or, with --store, a store."),
        (["ana", "--store", "a/b", "--label", "x"], "Name either a user or, with --store, a store."),
        (["nobody", "--label", "x"], "There is no user 'nobody'."),
        (["caf\udcff", "--label", "x"], r"There is no user 'caf\udcff'."),
        (["ana", "--label", " "], "Please give 1 to 80 characters."),
        (["ana", "--label", "caf\udcff"], "This holds characters that are no text."),
        (["ana", "--label", "x", "--days", "0"], "--days is from 1 to 3650."),
        (["ana", "--label", "x", "--days", "9999999999"], "--days is from 1 to 3650."),
        (["--store", "nobody/main", "--label", "x"], "There is no merchant 'nobody'."),
        (["--store", "shop/other", "--label", "x"], "There is no store 'shop/other'"),
        (["--store", "shop", "--label", "x"], "There is no store 'shop'"),
        (["--store", "shop/caf\udcff", "--label", "x"], r"There is no store 'shop/caf\udcff'"),
    ],
)
def test_a_mistyped_command_is_one_clear_line_and_exit_2(words, sentence):
    User.objects.create_user("ana")
    make_store()
    Merchant.objects.update(slug="shop")

    with pytest.raises(CommandError) as refusal:
        run(*words)

    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert refusal.value.returncode == 2
    assert not UserApiKey.objects.exists()
    assert not StoreApiKey.objects.exists()
