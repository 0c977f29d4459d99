import re

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from loyalty.models import Card, CardBalance, Transaction
from tests.factories import balance_of, days, give, make_card, make_merchant
from tests.loyalty.runs import expire, table_hashes

pytestmark = pytest.mark.django_db

REASON = "She called us"
OF_STATUS = ("suspend", "reactivate", "close")
ACTIONS = ("adjust", "restore-points", "exempt", "end-exemption", *OF_STATUS, "replace", "merge")
every_action = pytest.mark.parametrize("action", ACTIONS)


def page_of(card: Card, action: str = "change") -> str:
    return reverse(f"admin:loyalty_card_{action.replace('-', '_')}", args=[card.pk])


def make_card_for(action: str) -> Card:
    card = make_card(points=300, at=timezone.now())
    if action == "end-exemption":
        Card.objects.filter(pk=card.pk).update(expiration_exempt=True, expiration_exempt_reason="A friend")
    if action == "reactivate":
        Card.objects.filter(pk=card.pk).update(status="suspended")
    return card


def make_expired_card() -> Card:
    """300 points, warned and expired in time."""
    now = timezone.now()
    card = make_card(points=300, at=now - days(200))
    expire(now - days(20))
    expire(now)
    assert balance_of(card).points_balance == 0
    return card


def filled(client: Client, card: Card, action: str, **answers) -> dict[str, str]:
    """The form as the page shows it, with these answers."""
    if action == "merge" and "target" not in answers:
        answers["target"] = str(make_card(card.program.merchant).pk)
    page = client.get(page_of(card, action)).content.decode()
    seen = re.search(r'name="seen_version" value="(\d+)"', page)
    shown = {"points": "40", "reason": REASON, **({"seen_version": seen[1]} if seen else {})}
    return {**shown, **answers}


def errors_of(page) -> str:
    return " ".join(re.findall(r'<ul class="errorlist[^>]*>(.*?)</ul>', page.content.decode(), re.DOTALL))


def test_adjusting_writes_who_did_it_and_why(admin_client):
    card = make_card(points=300)

    page = admin_client.post(page_of(card, "adjust"), filled(admin_client, card, "adjust", points="-120"), follow=True)

    row = card.transactions.latest("seq")
    assert (row.type, row.points_delta, row.actor, row.reason) == ("ADMIN_ADJUSTMENT", -120, "admin", REASON)
    assert page.redirect_chain == [(page_of(card), 302)]
    assert "Adjusted. The card now holds 180 points." in page.content.decode()
    assert f"admin adjusted the balance by -120 points: {REASON}" in page.content.decode()


def test_stamps_are_adjusted_beside_points(admin_client):
    card = make_card(points=300)

    admin_client.post(page_of(card, "adjust"), filled(admin_client, card, "adjust", points="", stamps="3"))

    assert (balance_of(card).points_balance, balance_of(card).stamp_count) == (300, 3)


def test_restoring_gives_back_and_links_to_the_expiry(admin_client):
    card = make_expired_card()

    answers = filled(admin_client, card, "restore-points", points="300")
    page = admin_client.post(page_of(card, "restore-points"), answers, follow=True)

    row = card.transactions.latest("seq")
    assert (row.points_delta, row.actor) == (300, "admin")
    assert row.reverses == card.transactions.get(type="POINTS_EXPIRED")
    assert "Restored 300 points. The card now holds 300 points." in page.content.decode()
    assert f"admin restored the balance by +300 points: {REASON}" in page.content.decode()


def test_the_points_that_last_expired_are_suggested(admin_client):
    card = make_expired_card()

    page = admin_client.get(page_of(card, "restore-points"))

    assert page.context["form"]["points"].value() == 300
    assert any("300 points expired" in fact for fact in page.context["facts"])


def test_more_than_ever_expired_is_restored_with_a_warning(admin_client):
    card = make_expired_card()

    answers = filled(admin_client, card, "restore-points", points="301")
    page = admin_client.post(page_of(card, "restore-points"), answers, follow=True)

    warnings = [str(message) for message in page.context["messages"] if message.level_tag == "warning"]
    assert warnings == ["301 points have now been restored on this card, but only 300 ever expired."]


def test_an_exemption_is_given_and_ended(admin_client):
    card = make_card(points=300)

    given = admin_client.post(page_of(card, "exempt"), {"reason": REASON}, follow=True).content.decode()
    ended = admin_client.post(page_of(card, "end-exemption"), {"reason": "Enough"}, follow=True).content.decode()

    changes = card.exemption_changes.order_by("pk").values_list("exempt", "reason", "actor")
    assert list(changes) == [(True, REASON, "admin"), (False, "Enough", "admin")]
    assert f"It is exempt from expiry: {REASON}" in given
    assert "It is exempt from expiry" not in ended
    assert "ended the exemption: Enough" in ended


def test_a_card_is_suspended_reactivated_and_closed(admin_client):
    card = make_card(points=300)

    said = [
        (admin_client.post(page_of(card, action), filled(admin_client, card, action), follow=True).content.decode())
        for action in OF_STATUS
    ]

    rows = card.transactions.filter(type__startswith="CARD_").order_by("seq")[1:]
    assert [(row.details["status"], row.actor, row.reason) for row in rows] == [
        (status, "admin", REASON) for status in ("suspended", "active", "closed")
    ]
    assert "The card is suspended." in said[0]
    assert "The card is active. The customer is warned in time" in said[1]
    assert "The card is closed." in said[2]
    assert "It still holds 300 points." in said[2]


def test_a_replaced_card_shows_its_new_number(admin_client):
    card = make_card(points=300)

    page = admin_client.post(page_of(card, "replace"), filled(admin_client, card, "replace"), follow=True)

    replaced = Card.objects.get(pk=card.pk)
    assert replaced.card_number != card.card_number
    assert f"Replaced. The card&#x27;s number is now {replaced.card_number}." in page.content.decode()
    assert replaced.qr_token not in page.content.decode()


# --- merging


def test_a_merge_shows_what_would_move_before_it_is_made(admin_client):
    card = make_card(points=300, first_name="Ana")
    target = make_card(card.program.merchant, points=40, first_name="Bea", phone="+352621123456")
    before = table_hashes()

    asked = admin_client.get(page_of(card, "merge"))
    shown = [admin_client.get(page_of(card, "merge"), {"other": q}) for q in (target.card_number, "+352 621 123 456")]

    assert "Show what would move" in asked.content.decode()
    for page in shown:
        moves, holds, leads = page.context["facts"]
        assert moves == f"300 points and 0 stamps would move from card {card} of Ana to card {target} of Bea."
        assert holds.startswith(f"Card {target} would then hold 340 points and 0 stamps, and its points keep at least")
        assert leads == f"Whoever asks for card {card} would find card {target}. This cannot be undone."
    assert table_hashes() == before


def test_a_merge_is_made_with_what_the_page_before_showed(admin_client):
    card = make_card(points=300)
    target = make_card(card.program.merchant, points=40)
    shown = admin_client.get(page_of(card, "merge"), {"other": target.card_number}).content.decode()
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="(\d+)"', shown))

    page = admin_client.post(page_of(card, "merge"), {**hidden, "reason": REASON}, follow=True).content.decode()
    again = admin_client.post(page_of(card, "merge"), {**hidden, "reason": REASON})

    merged = Card.objects.get(pk=card.pk)
    assert (merged.status, merged.merged_into) == ("merged", target)
    assert f"Merged into {target}, which now holds 340 points." in page
    assert card.transactions.latest("seq").reason == target.transactions.latest("seq").reason == REASON
    assert f'<a href="{page_of(target)}">{target}</a>' in page
    assert "The card has changed since you opened this page" in errors_of(again)


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        ("itself", "A card cannot be merged into itself. Choose another one."),
        ("foreign", "This card is not known here."),
        ("nobody@example.com", "This card is not known here."),
        ("closed", "is Closed and cannot be merged."),
        ("", "This field is required."),
        ("x" * 300, "Ensure this value has at most 254 characters"),
        ("a\0b", "Null characters are not allowed."),
    ],
)
def test_a_card_that_cannot_take_over_is_told_in_the_form(other, sentence, admin_client):
    card, foreign = make_card(points=300), make_card()
    closed = make_card(card.program.merchant)
    Card.objects.filter(pk=closed.pk).update(status="closed")
    numbers = {"itself": card.card_number, "foreign": foreign.card_number, "closed": closed.card_number}

    page = admin_client.get(page_of(card, "merge"), {"other": numbers.get(other, other)})

    assert page.status_code == 200
    assert sentence in errors_of(page)


def test_a_forged_merge_is_refused_in_words(admin_client):
    card, foreign = make_card(points=300), make_card()

    for target, sentence in ((card.pk, "into itself"), (foreign.pk, "not known here"), (10**30, "not known here")):
        page = admin_client.post(page_of(card, "merge"), filled(admin_client, card, "merge", target=str(target)))
        assert sentence in errors_of(page)
    assert Card.objects.get(pk=card.pk).status == "active"


# --- several cards at once

LIST = "admin:loyalty_card_changelist"


def choose(client: Client, *cards: Card, **answers):
    chosen = {"action": "suspend_selected", "_selected_action": [card.pk for card in cards], **answers}
    return client.post(reverse(LIST), chosen, follow=True)


def test_selected_cards_are_suspended_with_a_reason(admin_client):
    merchant = make_merchant()
    cards = [make_card(merchant, points=10) for _ in range(3)]
    Card.objects.filter(pk=cards[2].pk).update(status="suspended")

    asked = choose(admin_client, *cards, index="0").content.decode()
    assert all(card.card_number in asked for card in cards)
    assert set(Card.objects.values_list("status", flat=True)) == {"active", "suspended"}
    hidden = re.findall(r'<input type="hidden" name="(action|_selected_action)" value="(\w+)"', asked)
    again = {name: [value for other, value in hidden if other == name] for name, _ in hidden}
    done = admin_client.post(reverse(LIST), {**again, "reason": REASON}, follow=True)

    assert [str(message) for message in done.context["messages"]] == [
        "Suspended 2 cards.",
        "Left 1 card alone: This card is already suspended.",
    ]
    rows = Transaction.objects.filter(type="CARD_DEACTIVATED")
    assert {(row.card_id, row.actor, row.reason) for row in rows} == {(card.pk, "admin", REASON) for card in cards[:2]}
    assert "Suspend." in admin_client.get(page_of(cards[0], "history")).content.decode()
    assert "Suspend." not in admin_client.get(page_of(cards[2], "history")).content.decode()


def test_a_card_on_which_the_bulk_fails_is_named(admin_client):
    card = make_card(points=10)
    CardBalance.objects.update(version=2**31 - 1)

    done = choose(admin_client, card, reason=REASON)

    assert "Failed, see the log: " + str(card.pk) in done.content.decode()


def test_several_cards_are_not_suspended_without_a_reason(admin_client):
    card = make_card(points=10)
    before = table_hashes()

    page = choose(admin_client, card, reason=" ")

    assert "This field is required." in errors_of(page)
    assert table_hashes() == before


def test_cards_of_two_merchants_or_too_many_are_not_suspended_together(admin_client, monkeypatch):
    merchant = make_merchant()
    ours, ours_too, foreign = make_card(merchant), make_card(merchant), make_card()

    refused = [choose(admin_client, ours, foreign, reason=REASON)]
    monkeypatch.setattr("loyalty.admin.cards.MOST_AT_ONCE", 1)
    refused.append(choose(admin_client, ours, ours_too, reason=REASON))

    for page in refused:
        assert "cards of one merchant" in page.content.decode()
    assert set(Card.objects.values_list("status", flat=True)) == {"active"}


def test_only_managers_suspend_several_cards(client_for):
    card = make_card()
    merchant = card.program.merchant
    reader = client_for("loyalty.view_card", managing=[merchant])
    support = client_for("loyalty.view_card", "loyalty.change_card", supporting=[merchant])
    stranger = client_for("loyalty.view_card", "loyalty.change_card", managing=[make_merchant()])
    manager = client_for("loyalty.view_card", "loyalty.change_card", managing=[merchant])

    choose(reader, card, reason=REASON)
    assert choose(support, card, reason=REASON).status_code == 403
    choose(stranger, card, reason=REASON)
    assert Card.objects.get().status == "active"
    assert "suspend_selected" not in reader.get(reverse(LIST)).content.decode()
    choose(manager, card, reason=REASON)
    assert Card.objects.get().status == "suspended"


def test_a_verb_that_moves_the_card_leaves_a_trace_in_its_history(admin_client):
    card = make_card(points=300)
    admin_client.post(page_of(card, "adjust"), filled(admin_client, card, "adjust"))

    history = admin_client.get(page_of(card, "history")).content.decode()

    assert "Adjust." in history
    assert REASON not in history  # an erasure finds reasons in the ledger, and nowhere else


@pytest.mark.parametrize(
    ("action", "answers", "sentence"),
    [
        ("adjust", {"points": "-301"}, "The card has 300 points, which is fewer than 301."),
        ("adjust", {"points": "0"}, "An adjustment of 0 changes nothing."),
        ("adjust", {"points": "2000000000"}, "A card holds at most 2,000,000,000 points and stamps."),
        ("adjust", {"points": "9" * 5000}, "Enter a whole number."),
        ("adjust", {"points": "many"}, "Enter a whole number."),
        ("restore-points", {"points": "0"}, "Ensure this value is greater than or equal to 1."),
        ("restore-points", {"points": "2000000000"}, "A card holds at most 2,000,000,000 points and stamps."),
        ("restore-points", {"reason": "a\0b"}, "Null characters are not allowed."),
        ("end-exemption", {}, "This card is not exempt from expiry."),
    ],
)
def test_a_refusal_is_told_in_the_form_and_changes_nothing(action, answers, sentence, admin_client):
    card = make_card(points=300)
    form = filled(admin_client, card, action, **answers)
    before = table_hashes()

    page = admin_client.post(page_of(card, action), form)

    assert page.status_code == 200
    assert sentence in errors_of(page)
    assert table_hashes() == before


def test_an_exempt_card_is_not_exempted_again(admin_client):
    card = make_card_for("end-exemption")

    page = admin_client.post(page_of(card, "exempt"), {"reason": REASON})

    assert "This card is already exempt from expiry." in errors_of(page)


@every_action
@pytest.mark.parametrize("reason", ["", "   "])
def test_nothing_happens_without_a_reason(action, reason, admin_client):
    card = make_card_for(action)
    form = filled(admin_client, card, action, reason=reason)
    before = table_hashes()

    page = admin_client.post(page_of(card, action), form)

    assert "This field is required." in errors_of(page)
    assert table_hashes() == before


@every_action
def test_looking_at_a_form_changes_nothing(action, admin_client):
    card = make_card_for(action)
    before = table_hashes()

    assert admin_client.get(page_of(card, action), {"points": "5", "reason": REASON}).status_code == 200
    assert table_hashes() == before


@every_action
def test_a_form_of_another_site_is_refused(action, admin_user):
    card = make_card_for(action)
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    before = table_hashes()

    assert client.post(page_of(card, action), {"points": "5", "reason": REASON}).status_code == 403
    assert table_hashes() == before


@every_action
def test_reading_a_card_is_not_changing_it(action, client_for):
    card = make_card_for(action)
    client = client_for("loyalty.view_card", managing=[card.program.merchant])
    before = table_hashes()

    assert client.get(page_of(card, action)).status_code == 403
    assert client.post(page_of(card, action), {"points": "5", "reason": REASON}).status_code == 403
    assert client.get(page_of(card)).context["buttons"] == []
    assert table_hashes() == before


@every_action
def test_a_card_of_a_foreign_merchant_is_unknown(action, client_for):
    card = make_card_for(action)
    client = client_for("loyalty.view_card", "loyalty.change_card", managing=[make_merchant()])
    before = table_hashes()

    assert client.get(page_of(card, action)).status_code == 404
    assert client.post(page_of(card, action), {"points": "5", "reason": REASON}).status_code == 404
    assert table_hashes() == before


@pytest.mark.parametrize("action", [action for action in ACTIONS if action != "restore-points"])
def test_support_only_restores(action, client_for):
    card = make_card_for(action)
    client = client_for("loyalty.view_card", "loyalty.change_card", supporting=[card.program.merchant])

    assert client.post(page_of(card, action), {"points": "5", "reason": REASON}).status_code == 403
    assert [button["label"] for button in client.get(page_of(card)).context["buttons"]] == ["Restore points"]
    restored = client.post(page_of(card, "restore-points"), filled(client, card, "restore-points"))
    assert restored.status_code == 302


@every_action
def test_an_unknown_card_is_not_found(action, admin_client):
    for unknown in ("0", "x", "9" * 30):
        path = reverse(f"admin:loyalty_card_{action.replace('-', '_')}", args=[unknown])
        assert admin_client.get(path).status_code == 404


@every_action
def test_who_is_not_signed_in_is_asked_to(action, client):
    card = make_card_for(action)

    answer = client.post(page_of(card, action), {"points": "5", "reason": REASON})

    assert answer.status_code == 302
    assert answer.url.startswith("/admin/login/")


@pytest.mark.parametrize("action", ["adjust", "restore-points"])
def test_a_form_that_is_sent_twice_moves_the_card_once(action, admin_client):
    card = make_card(points=300)
    form = filled(admin_client, card, action)

    first = admin_client.post(page_of(card, action), form)
    second = admin_client.post(page_of(card, action), form)

    assert first.status_code == 302
    assert "The card has changed since you opened this page and now holds 340 points." in errors_of(second)
    assert balance_of(card).points_balance == 340


@pytest.mark.parametrize("action", [*OF_STATUS, "replace"])
def test_a_form_that_is_sent_twice_changes_the_card_once(action, admin_client):
    card = make_card_for(action)
    form = filled(admin_client, card, action)
    admin_client.post(page_of(card, action), form)
    before = table_hashes()

    second = admin_client.post(page_of(card, action), form)

    assert "The card has changed since you opened this page" in errors_of(second)
    assert table_hashes() == before


def test_who_looked_again_may_decide(admin_client):
    card = make_card(points=300)
    form = filled(admin_client, card, "adjust")
    give(card, 5, at=timezone.now())
    refused = admin_client.post(page_of(card, "adjust"), form).content.decode()
    [shown] = re.findall(r'name="seen_version" value="(\d+)"', refused)

    admin_client.post(page_of(card, "adjust"), {**form, "seen_version": shown})

    assert balance_of(card).points_balance == 345


@pytest.mark.parametrize(("status", "offered"), [("closed", ["Reactivate"]), ("erased", [])])
def test_a_card_out_of_use_has_hardly_a_button_and_refuses_in_words(status, offered, admin_client):
    card = make_card(points=300)
    Card.objects.filter(pk=card.pk).update(status=status)

    assert [button["label"] for button in admin_client.get(page_of(card)).context["buttons"]] == offered
    for action in ("adjust", "restore-points", "exempt", "suspend", "replace"):
        page = admin_client.post(page_of(card, action), filled(admin_client, card, action))
        assert f"This card is {status.capitalize()} and cannot be changed." in errors_of(page)


def test_buttons_offer_what_fits_the_card(admin_client):
    card = make_card(points=300)

    def buttons() -> list[str]:
        return [button["label"] for button in admin_client.get(page_of(card)).context["buttons"]]

    in_use = ["Replace", "Merge", "Close"]
    assert buttons() == ["Restore points", "Adjust", "Exempt from expiry", "Suspend", *in_use]
    admin_client.post(page_of(card, "exempt"), {"reason": REASON})
    assert buttons() == ["Restore points", "Adjust", "End exemption", "Suspend", *in_use]
    admin_client.post(page_of(card, "suspend"), {"reason": REASON})
    assert buttons() == ["Restore points", "Adjust", "End exemption", "Reactivate", *in_use]


def test_the_page_of_a_card_tells_its_story_and_has_nothing_to_type_into(admin_client):
    card = make_expired_card()

    page = admin_client.get(page_of(card)).content.decode()

    assert "The card holds 0 points." in page
    assert re.search(r"300 points expired\. They could be used until .+; the customer was warned on", page)
    form = page.partition('id="card_form"')[2].partition("</form>")[0]
    assert "Latest movements" in form
    assert not re.search(r'<(input type="(text|number)"|textarea|select)[^>]* name="', form)
    assert admin_client.post(page_of(card), {"points_balance": "9"}).status_code == 403


def test_the_customer_leads_to_the_card(admin_client):
    card = make_card(points=300)

    page = admin_client.get(reverse("admin:loyalty_customer_change", args=[card.customer_id])).content.decode()

    assert f'<a href="{page_of(card)}">{card.card_number}</a> (Active), 300 points' in page


@pytest.mark.parametrize("form_of", [str, str.upper, lambda text: f"  {text} "])
def test_a_card_is_found_by_what_people_read_out(form_of, admin_client):
    merchant = make_merchant()
    wanted = make_card(merchant, email="Ana@example.com", phone="+352621123456", external_id="X7")
    make_card(merchant, email="bea@example.com", phone="+352621123457", external_id="X8")

    for text in (wanted.card_number, "ana@example.com", "+352621123456", "X7"):
        page = admin_client.get(reverse("admin:loyalty_card_changelist"), {"q": form_of(text)})
        assert [card.pk for card in page.context["cl"].result_list] == [wanted.pk], text


def test_a_number_is_found_as_it_is_printed(admin_client):
    wanted = make_card(phone="+352621123456")
    number = wanted.card_number

    for text in (f"{number[:4]} {number[4:8]} {number[8:]}", "+352 621 123 456"):
        page = admin_client.get(reverse("admin:loyalty_card_changelist"), {"q": text})
        assert [card.pk for card in page.context["cl"].result_list] == [wanted.pk], text
