"""Passes in the admin: how true each is, and having one told again."""

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.urls import reverse

from tests.factories import NOON, days, give, make_card, make_cards, make_merchant
from tests.fakes.pki import ISSUER_ID
from tests.loyalty.admin.test_lists import statements
from tests.wallet.rows import make_breaker, make_credential, make_failing_pass, make_pass
from wallet.models import Pass, Registration

pytestmark = pytest.mark.django_db
LIST = "/admin/wallet/pass/"
VIEW, SYNC = "wallet.view_pass", "wallet.sync_pass"


def page(name: str, *args) -> str:
    return reverse(f"admin:wallet_pass_{name}", args=args)


def listed(client, **query) -> dict[int, str]:
    """What the list says of each pass in "how it is", by the pass."""
    answer = client.get(LIST, query)
    screen, rows = answer.context["cl"].model_admin, answer.context["cl"].result_list
    return {row.pk: str(screen.condition(row)) for row in rows}


def due() -> set[int]:
    return set(Pass.objects.due(NOON).values_list("pk", flat=True))


def test_the_list_says_how_each_pass_is(admin_client):
    behind = make_pass(make_card(points=10))
    give(behind.card, 5, at=NOON)
    of_old_look = make_pass(synced_look=0)
    told = {
        make_pass().pk: "up to date",
        behind.pk: "behind",
        of_old_look.pk: "behind",
        make_failing_pass().pk: "failing",
        make_failing_pass(dead_at=NOON).pk: '<span class="status failed">given up</span>',
        make_pass(platform="google", saved=False).pk: "no phone has it",
        make_pass(status=Pass.Status.REMOVED).pk: "no phone has it",
    }

    assert listed(admin_client) == told
    text = admin_client.get(LIST).content.decode()
    assert "2 of 3" in text
    assert "1, older look" in text


def test_the_list_can_be_cut_down_to_what_needs_somebody(admin_client):
    make_pass()
    failing, dead = make_failing_pass(), make_failing_pass(dead_at=NOON)
    of_old_look = make_pass(synced_look=0)
    make_pass(platform="google", saved=False, synced_version=0)

    assert listed(admin_client, trouble="behind") == {failing.pk: "failing", of_old_look.pk: "behind"}
    assert list(listed(admin_client, trouble="failing")) == [failing.pk]
    assert list(listed(admin_client, trouble="given-up")) == [dead.pk]


def test_those_behind_are_counted_up_to_the_limit(admin_client):
    make_pass(synced_look=0)

    counts = [sql for sql in statements(admin_client, f"{LIST}?trouble=behind") if "COUNT(" in sql]

    assert [sql for sql in counts if "wallet_pass" in sql]
    assert all("LIMIT 10001" in sql for sql in counts if "wallet_pass" in sql)


def why(client) -> dict[int, str]:
    """What the list says of each pass in "why", by the pass."""
    shown = client.get(LIST).context["cl"]
    return {row.pk: str(shown.model_admin.why(row)) for row in shown.result_list}


def test_the_list_says_that_calls_rest_and_why(admin_client):
    credential = make_credential(identifier=ISSUER_ID)
    make_breaker(reason="The account is no user of the issuer." + " Ask again." * 30)
    behind = make_pass(platform="google", synced_look=0)
    failing = make_failing_pass(platform="google")
    fine, of_apple = make_pass(platform="google"), make_pass(synced_look=0)

    told = why(admin_client)

    leads_to = f'calls rest</span>: <a href="/admin/wallet/credential/{credential.pk}/change/">The account is no user'
    assert leads_to in told[behind.pk]
    assert told[behind.pk].endswith("…</a>")
    assert told[failing.pk].startswith("http_503; ")
    assert leads_to in told[failing.pk]
    assert (told[fine.pk], told[of_apple.pk]) == ("-", "-")


def test_passes_whose_calls_rest_cost_the_list_no_more_statements(admin_client):
    make_credential(identifier=ISSUER_ID)
    make_breaker()
    merchant = make_merchant()
    make_pass(make_card(merchant), platform="google", synced_look=0)
    statements(admin_client, LIST)  # caches of content types
    with_one = statements(admin_client, LIST)

    for _ in range(2):
        make_pass(make_card(merchant), platform="google", synced_look=0)

    assert len(statements(admin_client, LIST)) == len(with_one)


def test_the_page_says_since_when_calls_rest_and_leads_to_the_credential(admin_client):
    credential = make_credential(identifier=ISSUER_ID)
    resting, other = make_pass(platform="google"), make_pass()
    make_breaker()

    text = admin_client.get(page("change", resting.pk)).content.decode()

    assert "rest since 2026-03-02 12:00 (UTC)" in text
    assert f'/admin/wallet/credential/{credential.pk}/change/">permission_denied: The account is no user' in text
    assert "go on" in admin_client.get(page("change", other.pk)).content.decode()


def test_users_of_a_merchant_read_why_calls_rest_without_a_link_to_the_credential(client_for):
    make_credential(identifier=ISSUER_ID)
    make_breaker()
    resting = make_pass(platform="google", synced_look=0)
    client = client_for(VIEW, managing=[resting.card.program.merchant])

    text = client.get(page("change", resting.pk)).content.decode()

    assert "The account is no user of the issuer." in text
    assert "/admin/wallet/credential/" not in text
    assert why(client)[resting.pk].endswith("calls rest</span>: The account is no user of the issuer.")


def test_a_pass_is_found_by_what_people_read_out_and_by_its_own_name(admin_client):
    card = make_card(email="ana@example.com")
    own = make_pass(card)
    make_pass()

    for text in (card.card_number, "Ana@example.com", own.identifier):
        assert list(listed(admin_client, q=text)) == [own.pk]


def test_a_search_reads_no_whole_table(admin_client):
    cards = make_cards(make_merchant(), 1000)
    for card in cards:
        card.refresh_from_db()
    Pass.objects.bulk_create(
        Pass(
            card=card,
            platform="apple",
            identifier=card.card_number,
            issued_under="p",
            modified_at=NOON,
            created_at=NOON,
        )
        for card in cards
    )
    with connection.cursor() as cursor:
        for table in ("loyalty_card", "loyalty_customer", "wallet_pass"):
            cursor.execute(f"ANALYZE {table}")

    for sql in statements(admin_client, f"{LIST}?q={cards[7].card_number}"):
        if sql.startswith(("SELECT", "(SELECT")):
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN {sql}")
                plan = "\n".join(line for (line,) in cursor.fetchall())
            assert "Seq Scan on wallet_pass" not in plan, plan
            assert "Seq Scan on loyalty_card" not in plan, plan


def test_the_page_says_what_went_wrong_and_how_many_phones_have_it(admin_client):
    failing = make_failing_pass(last_error="Apple is busy.")
    for number in range(2):
        Registration.objects.create(
            wallet_pass=failing, device=f"f00d{number}", push_token=f"c0ffee{number}", registered_at=NOON
        )

    text = admin_client.get(page("change", failing.pk)).content.decode()

    assert "http_503: Apple is busy." in text
    assert "2 phones to be told of changes; the newest since 2026-03-02 12:00 (UTC)." in text
    assert "c0ffee" not in text
    assert "f00d" not in text


def test_the_page_of_a_pass_that_never_failed_says_nothing_of_failing(admin_client, settings):
    settings.GOOGLE_CALLBACKS = True
    google = make_pass(platform="google")

    text = admin_client.get(page("change", google.pk)).content.decode()

    assert "What went wrong" not in text
    assert "A customer has saved it." in text


def test_without_callbacks_a_link_that_was_opened_is_all_that_is_known(admin_client, settings):
    settings.GOOGLE_CALLBACKS = False

    text = admin_client.get(page("change", make_pass(platform="google").pk)).content.decode()

    assert "Its link was opened; Google does not tell us who keeps it." in text
    assert "A customer has saved it." not in text


def test_one_pass_is_told_again(admin_client):
    dead = make_failing_pass(dead_at=NOON)

    answer = admin_client.post(page("sync_again", dead.pk), follow=True)

    assert "Phones are told within a minute." in answer.content.decode()
    assert due() == {dead.pk}
    assert LogEntry.objects.get().change_message == "Sync again."


def test_there_is_no_button_for_what_no_phone_has(admin_client):
    answer = admin_client.get(page("change", make_pass(platform="google", saved=False).pk))

    assert answer.context["buttons"] == []


def test_selected_passes_are_told_again(admin_client):
    chosen = [make_pass(), make_failing_pass(next_attempt_at=NOON + days(1)), make_pass(platform="google", saved=False)]
    make_pass()

    answer = admin_client.post(
        LIST, {"action": "sync_selected_again", "_selected_action": [one.pk for one in chosen]}, follow=True
    )

    text = answer.content.decode()
    assert "2 passes will be told again within a minute." in text
    assert "Left 1 pass alone that no phone has, or that you do not manage." in text
    assert due() == {chosen[0].pk, chosen[1].pk}
    assert LogEntry.objects.count() == 2


def test_users_of_a_merchant_see_its_passes_and_managers_have_them_told_again(client_for):
    merchant = make_merchant()
    own, foreign = make_pass(make_card(merchant)), make_pass()
    manager, support = client_for(VIEW, SYNC, managing=[merchant]), client_for(VIEW, SYNC, supporting=[merchant])

    for client in (manager, support):
        assert list(listed(client)) == [own.pk]
        assert client.get(page("change", foreign.pk)).status_code == 302
        assert client.post(page("sync_again", foreign.pk)).status_code == 404
        client.post(LIST, {"action": "sync_selected_again", "_selected_action": [foreign.pk]})
    assert support.post(page("sync_again", own.pk)).status_code == 403
    support.post(LIST, {"action": "sync_selected_again", "_selected_action": [own.pk]})
    assert due() == set()

    assert manager.post(page("sync_again", own.pk)).status_code == 302
    assert due() == {own.pk}


def test_who_may_only_look_has_no_button_and_no_action(client_for):
    merchant = make_merchant()
    client, own = client_for(VIEW, managing=[merchant]), make_pass(make_card(merchant))

    assert client.get(page("change", own.pk)).context["buttons"] == []
    assert client.post(page("sync_again", own.pk)).status_code == 403
    client.post(LIST, {"action": "sync_selected_again", "_selected_action": [own.pk]})
    assert due() == set()
