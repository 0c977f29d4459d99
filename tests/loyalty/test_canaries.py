"""Keys, tokens and PINs leave no trace: not in a table, not in a log, not on a page after the one that shows them."""

import io
import logging
from collections.abc import Iterator

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from loyalty.errors import InvalidPin
from loyalty.models import StaffMember, StaffSession, Store, StoreApiKey, UserApiKey
from loyalty.services import keys, staff
from tests.factories import make_store
from tests.loyalty.admin.test_access_actions import key_form, page, secret_of, staff_form

pytestmark = pytest.mark.django_db
# So long that no hash and no clock has them by chance.
FIRST_PIN, WRONG_PIN, SECOND_PIN = "493817260583", "618203947155", "580392716402"


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """All that is logged, at every level, in the form of production."""
    root, text = logging.getLogger(), io.StringIO()
    [formatter] = {id(handler.formatter): handler.formatter for handler in root.handlers if _is_ours(handler)}.values()
    handler = logging.StreamHandler(text)
    handler.setFormatter(formatter)
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield text
    root.removeHandler(handler)
    root.setLevel(level)


def _is_ours(handler: logging.Handler) -> bool:
    return type(handler.formatter).__name__ == "ProcessorFormatter"


def issue_all(client: Client, store: Store) -> dict[str, str]:
    """Everything that is shown once, by the admin and by the command."""
    command = io.StringIO()
    call_command("create_api_key", "admin", label="Script", stdout=command)
    till = secret_of(client.post(page(StoreApiKey, "add"), key_form(store)))
    user = secret_of(client.post(page(UserApiKey, "add"), key_form(user=client.session["_auth_user_id"])))
    first = secret_of(client.post(page(StaffMember, "add"), staff_form(store.merchant, pin=FIRST_PIN)))
    return {"till": till, "user": user, "script": command.getvalue().strip(), "first PIN": first}


def use_all(client: Client, store: Store, secrets: dict[str, str]) -> dict[str, str]:
    """Use them, rightly and wrongly, and replace the PIN."""
    member, now = StaffMember.objects.get(), timezone.now()
    with pytest.raises(InvalidPin):
        staff.open_session(store=store, staff_member_id=member.pk, pin=WRONG_PIN, at=now)
    token = staff.open_session(store=store, staff_member_id=member.pk, pin=FIRST_PIN, at=now).token
    found = keys.till_signed_in(key=secrets["till"], session_token=token, at=now)
    assert found
    assert found.staff_member == member
    assert keys.user_signed_in(key=secrets["user"], at=now)
    assert keys.user_signed_in(key=secrets["script"], at=now)
    staff.close_session(store=store, token=token, at=now)
    second = secret_of(client.post(page(StaffMember, "new-pin", member.pk), {"pin": SECOND_PIN}))
    return {**secrets, "token": token, "wrong PIN": WRONG_PIN, "second PIN": second}


def tables_with(secret: str) -> list[str]:
    """Tables of which a row has the secret anywhere in it."""
    found = []
    with connection.cursor() as cursor:
        for model in apps.get_models(include_auto_created=True):
            table = model._meta.db_table
            cursor.execute(f"SELECT EXISTS (SELECT FROM {table} t WHERE strpos(t::text, %s) > 0)", [secret])
            if cursor.fetchone()[0]:
                found.append(table)
    return found


def pages() -> list[str]:
    """The pages about keys and staff, and those that tell what was done."""
    found = [reverse("admin:index")]
    for model in (StoreApiKey, UserApiKey, StaffMember, StaffSession):
        found.append(page(model, "changelist"))
        rows = model._default_manager.values_list("pk", flat=True)
        found += [page(model, name, row) for row in rows for name in ("change", "history")]
    found += [page(StaffMember, "new-pin", member.pk) for member in StaffMember.objects.all()]
    return found


def test_what_is_shown_once_is_nowhere_afterwards(admin_client, logged):
    store = make_store()

    secrets = use_all(admin_client, store, issue_all(admin_client, store))

    assert len(set(secrets.values())) == 7
    assert "loyalty_storeapikey" in tables_with(StoreApiKey.objects.get().prefix)  # so the search finds what there is
    assert {name: tables_with(secret) for name, secret in secrets.items() if tables_with(secret)} == {}
    for path in pages():
        shown = admin_client.get(path)
        assert shown.status_code == 200
        assert [name for name, secret in secrets.items() if secret in shown.content.decode()] == [], path
    lines = logged.getvalue()
    for event in ("store_key_issued", "user_key_issued", "staff_member_added", "pin_refused", "pin_reset"):
        assert f'"loyalty.{event}"' in lines
    assert [name for name, secret in secrets.items() if secret in lines] == []
