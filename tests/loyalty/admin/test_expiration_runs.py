import pytest
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from loyalty.models import Card, ExpirationRun, Transaction
from tests.factories import balance_of, days, make_card, make_cards, make_merchant
from tests.loyalty.admin.rows import make_run
from tests.loyalty.runs import expire, table_hashes

pytestmark = pytest.mark.django_db

RUNS = "/admin/loyalty/expirationrun/"
DRY_RUN = reverse("admin:loyalty_expirationrun_dry_run")
START = reverse("admin:loyalty_expirationrun_start")
VIEW, START_PERMISSION, RESTORE = (f"loyalty.{name}_expirationrun" for name in ("view", "add", "change"))


def page_of(run: ExpirationRun, name: str = "change") -> str:
    return reverse(f"admin:loyalty_expirationrun_{name}", args=[run.pk])


def make_due_card(points: int = 300, **options) -> Card:
    """Warned in time, and past its last day."""
    card = make_card(points=points, at=timezone.now() - days(200), **options)
    expire(timezone.now() - days(20), merchant=card.program.merchant)
    return card


def make_run_that_took(cards: list[Card]) -> ExpirationRun:
    report = expire(timezone.now())
    assert report.tally.cards_expired == len(cards)
    return ExpirationRun.objects.latest("pk")


def make_unwarned_base(cards: int = 4):
    """Cards that would all go without a notice: the plain rule was switched on for a dormant base."""
    merchant = make_merchant(require_expiration_notice=False)
    make_cards(merchant, cards, points=10, at=timezone.now() - days(200))
    return merchant


@pytest.fixture
def small_guard(settings):
    settings.LOYALTY_EXPIRY_GUARD_CARDS = 2


def texts(answer) -> list[str]:
    return [str(message) for message in get_messages(answer.wsgi_request)]


# --- the list and the page of a run


def test_the_list_shows_what_each_run_did(admin_client):
    make_run(cards_expired=1200, points_expired=34567, warnings=8)

    page = admin_client.get(RUNS).content.decode()

    assert 'field-cards nowrap">1,200<' in page or 'field-cards">1,200<' in page
    assert 'field-points">34,567<' in page
    assert DRY_RUN in page
    assert START in page


def test_failed_cards_are_linked(admin_client):
    card = make_card()
    run = make_run(status="partial", failed=1, failed_card_ids=[card.pk], error="Merchant x has no zone.")

    page = admin_client.get(page_of(run)).content.decode()

    assert f'<a href="/admin/loyalty/card/{card.pk}/change/">{card.card_number}</a>' in page
    assert "<div>Merchant x has no zone.</div>" in page


def test_expired_cards_are_one_click_away(admin_client):
    run = make_run_that_took([make_due_card()])

    page = admin_client.get(page_of(run)).content.decode()
    rows = admin_client.get(reverse("admin:loyalty_transaction_changelist"), {"expiration_run": run.pk})

    assert f'<a href="/admin/loyalty/transaction/?expiration_run={run.pk}">1</a>' in page
    assert [row.type for row in rows.context["cl"].result_list] == ["POINTS_EXPIRED"]


@pytest.mark.parametrize("fields", [{"status": "running", "finished_at": None, "cards_expired": 3}, {}])
def test_a_run_that_works_or_took_nothing_has_no_button(fields, admin_client):
    assert admin_client.get(page_of(make_run(**fields))).context["buttons"] == []


# --- dry run


def test_a_dry_run_tells_what_a_run_would_do_and_writes_nothing(admin_client):
    due = make_due_card()
    make_card(due.program.merchant, points=50, at=timezone.now() - days(170))
    before = table_hashes()

    page = admin_client.get(DRY_RUN, {"merchant": due.program.merchant_id})

    figures = {verb: figure for verb, figure, _ in page.context["figures"]}
    assert (figures["expire"], figures["take"], figures["warn"]) == ("1", "300", "1")
    assert table_hashes() == before


def test_a_dry_run_may_be_over_all_merchants(admin_client):
    make_due_card()
    make_due_card()

    page = admin_client.get(DRY_RUN, {"merchant": ""})

    assert page.context["report"].tally.cards_expired == 2


def test_the_form_alone_runs_nothing(admin_client):
    assert admin_client.get(DRY_RUN).context["report"] is None


def test_a_dry_run_says_until_when_those_past_their_limit_keep_their_points(admin_client):
    merchant = make_merchant()
    make_card(merchant, points=50, at=timezone.now() - days(300))

    page = admin_client.get(DRY_RUN, {"merchant": merchant.pk})

    assert page.context["past_limit"].startswith("Of those to warn, 1 card with 50 points are past the limit")


def test_a_dry_run_names_the_number_to_confirm_and_leads_to_the_run(small_guard, admin_client):
    merchant = make_unwarned_base()

    page = admin_client.get(DRY_RUN, {"merchant": merchant.pk}).content.decode()

    assert f"{merchant.slug}: 4 of 4 cards with points would expire without a notice in time." in page
    assert f"{START}?merchant={merchant.pk}&amp;confirmed_cards=4" in page
    prefilled = admin_client.get(START, {"merchant": merchant.pk, "confirmed_cards": "4"}).context["form"]
    assert (prefilled["merchant"].value(), prefilled["confirmed_cards"].value()) == (str(merchant.pk), "4")


def test_a_dry_run_with_the_number_is_not_refused(small_guard, admin_client):
    merchant = make_unwarned_base()

    page = admin_client.get(DRY_RUN, {"merchant": merchant.pk, "confirmed_cards": "4"})

    assert page.context["report"].refusals == []


@pytest.mark.parametrize(
    "query", [{"merchant": "x"}, {"merchant": "9" * 30}, {"confirmed_cards": "-1"}, {"confirmed_cards": "9" * 30}]
)
def test_a_dry_run_of_nonsense_is_an_error_in_the_form(query, admin_client):
    page = admin_client.get(DRY_RUN, query)

    assert page.status_code == 200
    assert page.context["form"].errors
    assert page.context["report"] is None


def test_a_merchant_s_staff_try_out_their_own_merchants_only(client_for):
    own, foreign = make_merchant(), make_merchant()
    client = client_for(VIEW, supporting=[own])

    page = client.get(DRY_RUN, {"merchant": own.pk})

    assert list(page.context["form"].fields["merchant"].queryset) == [own]
    assert page.context["report"] is not None
    assert START not in page.content.decode()
    for other in (foreign.pk, ""):
        assert client.get(DRY_RUN, {"merchant": other}).context["report"] is None


def test_a_dry_run_needs_the_permission_to_see_runs(client_for):
    assert client_for("loyalty.view_card").get(DRY_RUN).status_code == 403


# --- a run for one merchant


def test_a_run_for_one_merchant_leaves_the_others_alone(admin_client):
    card, other = make_due_card(), make_due_card()

    done = admin_client.post(START, {"merchant": card.program.merchant_id})

    run = ExpirationRun.objects.latest("pk")
    assert (run.trigger, run.initiated_by, run.merchant, run.as_of) == (
        "admin",
        "admin",
        card.program.merchant,
        run.started_at,
    )
    assert (balance_of(card).points_balance, balance_of(other).points_balance) == (0, 300)
    assert done.url == page_of(run)
    assert texts(done) == ["Expired 1 cards, 300 points, 0 warnings."]


def test_looking_at_the_form_starts_nothing(admin_client):
    card = make_due_card()
    before = table_hashes()

    admin_client.get(START, {"merchant": card.program.merchant_id})

    assert table_hashes() == before


def test_a_refused_run_says_which_number_to_confirm(small_guard, admin_client):
    merchant = make_unwarned_base()

    refused = admin_client.post(START, {"merchant": merchant.pk})
    confirmed = admin_client.post(START, {"merchant": merchant.pk, "confirmed_cards": "4"})

    assert f"manage.py expire_points --merchant {merchant.slug} --confirm 4" in texts(refused)[0]
    assert refused.url != confirmed.url
    assert [run.status for run in ExpirationRun.objects.order_by("pk")] == ["refused", "succeeded"]
    assert ExpirationRun.objects.latest("pk").cards_expired == 4


def test_points_go_without_a_notice_only_with_a_reason(admin_client):
    card = make_card(points=300, at=timezone.now() - days(200))
    form = {"merchant": card.program.merchant_id, "without_notice": "on"}

    refused = admin_client.post(START, form)
    done = admin_client.post(START, {**form, "reason": "The shop closes"})

    assert refused.context["form"].errors["reason"] == ["Please say why points go without a notice."]
    run = ExpirationRun.objects.get()
    assert (run.without_notice, run.reason, run.cards_expired) == (True, "The shop closes", 1)
    assert done.url == page_of(run)


@pytest.mark.parametrize("form", [{}, {"merchant": "0"}, {"merchant": "x"}])
def test_there_is_no_run_over_all_merchants_from_the_browser(form, admin_client):
    page = admin_client.post(START, form)

    assert "merchant" in page.context["form"].errors
    assert not ExpirationRun.objects.exists()


def test_starting_needs_a_permission_of_its_own(client_for):
    card = make_due_card()
    runs = ExpirationRun.objects.count()
    client = client_for(VIEW, RESTORE, managing=[card.program.merchant])

    assert client.get(START).status_code == 403
    assert client.post(START, {"merchant": card.program.merchant_id}).status_code == 403
    assert START not in client.get(RUNS).content.decode()
    assert ExpirationRun.objects.count() == runs


def test_a_manager_starts_runs_of_managed_merchants_only(client_for):
    managed, supported, foreign = make_merchant(), make_merchant(), make_merchant()
    client = client_for(VIEW, START_PERMISSION, managing=[managed], supporting=[supported])

    for merchant in (supported, foreign):
        assert client.post(START, {"merchant": merchant.pk}).status_code == 200
    assert client.post(START, {"merchant": managed.pk}).status_code == 302
    assert [run.merchant for run in ExpirationRun.objects.all()] == [managed]


def test_a_run_from_another_site_is_refused(admin_user):
    card = make_due_card()
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)

    assert client.post(START, {"merchant": card.program.merchant_id}).status_code == 403
    assert balance_of(card).points_balance == 300


# --- giving everything back


def test_everything_a_run_took_is_given_back_once(admin_client):
    cards = [make_due_card(), make_due_card(points=40)]
    run = make_run_that_took(cards)

    first = admin_client.post(page_of(run, "give_back"), {"reason": "Wrong policy"})
    second = admin_client.post(page_of(run, "give_back"), {"reason": "Wrong policy"})

    assert [balance_of(card).points_balance for card in cards] == [300, 40]
    rows = Transaction.objects.filter(type="ADMIN_ADJUSTMENT")
    assert {(row.actor, row.reason) for row in rows} == {("admin", "Wrong policy")}
    assert texts(first) == ["Gave 340 points back to 2 cards."]
    assert texts(second)[-1] == "Gave 0 points back to 0 cards. 2 cards had theirs back already."
    assert "to 2 cards" in admin_client.get(page_of(run)).content.decode()
    assert (
        "2 cards got theirs back already, and no more now."
        in (admin_client.get(page_of(run, "give_back")).context["facts"])
    )


def test_cards_that_could_not_be_given_back_are_named(admin_client):
    closed, card = make_due_card(), make_due_card()
    run = make_run_that_took([closed, card])
    Card.objects.filter(pk=closed.pk).update(status="closed")

    done = admin_client.post(page_of(run, "give_back"), {"reason": "Wrong policy"})

    assert texts(done) == [
        "Gave 300 points back to 1 card.",
        f"1 card got nothing, being closed, merged or erased: {closed.card_number}",
    ]


def test_giving_back_needs_a_reason(admin_client):
    card = make_due_card()
    run = make_run_that_took([card])
    before = table_hashes()

    page = admin_client.post(page_of(run, "give_back"), {"reason": " "})

    assert page.context["form"].errors["reason"] == ["This field is required."]
    assert table_hashes() == before


def test_looking_at_giving_back_gives_nothing_back(admin_client):
    run = make_run_that_took([make_due_card()])
    before = table_hashes()

    assert admin_client.get(page_of(run, "give_back"), {"reason": "x"}).status_code == 200
    assert table_hashes() == before


def test_a_run_that_still_works_is_not_given_back(admin_client):
    run = make_run(status="running", finished_at=None, cards_expired=1)

    page = admin_client.post(page_of(run, "give_back"), {"reason": "Wrong policy"})

    assert "is still working" in str(page.context["form"].errors)


def test_giving_back_needs_its_permission(client_for):
    card = make_due_card()
    run = make_run_that_took([card])
    client = client_for(VIEW, START_PERMISSION, managing=[card.program.merchant])

    # A run over all merchants is not a merchant's to see.
    assert client.post(page_of(run, "give_back"), {"reason": "x"}).status_code == 404
    ExpirationRun.objects.filter(pk=run.pk).update(merchant=card.program.merchant)
    assert client.post(page_of(run, "give_back"), {"reason": "x"}).status_code == 403
    assert balance_of(card).points_balance == 0


def test_support_gives_a_run_of_its_merchant_back(client_for):
    card = make_due_card()
    run = make_run_that_took([card])
    ExpirationRun.objects.filter(pk=run.pk).update(merchant=card.program.merchant)
    client = client_for(VIEW, RESTORE, supporting=[card.program.merchant])

    assert client.post(page_of(run, "give_back"), {"reason": "Wrong policy"}).status_code == 302
    assert balance_of(card).points_balance == 300


def test_a_large_run_points_to_the_command(admin_client):
    run = make_run(make_merchant(), cards_expired=5001)

    facts = admin_client.get(page_of(run, "give_back")).context["facts"]

    assert any(f"manage.py restore_expiration_run {run.pk}" in fact for fact in facts)
