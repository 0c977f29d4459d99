from datetime import timedelta

from django.utils import timezone
from django_celery_beat.models import PeriodicTask
from playwright.sync_api import Page, expect

from loyalty.models import PolicyChange
from tests.factories import balance_of, days, make_card, make_merchant
from tests.loyalty.runs import expire


def test_points_that_expired_are_restored_and_the_card_tells_it(signed_in: Page):
    now = timezone.now()
    card = make_card(points=350, at=now - days(200), first_name="Ana", email="ana.mueller@example.com")
    expire(now - days(20))
    expire(now)
    page = signed_in

    page.locator("#loyalty-card").get_by_role("link").click()
    page.locator("#searchbar").fill("Ana.Mueller@example.com")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name=card.card_number).click()
    expect(page.get_by_text("The card holds 0 points.")).to_be_visible()

    page.get_by_role("link", name="Restore points").click()
    expect(page.get_by_label("Points:")).to_have_value("350")
    page.get_by_role("button", name="Restore points").click()
    expect(page.get_by_text("This field is required.")).to_be_visible()

    page.get_by_label("Reason:").fill("She was in hospital")
    page.get_by_role("button", name="Restore points").click()
    expect(page.get_by_text("Restored 350 points. The card now holds 350 points.")).to_be_visible()
    expect(page.get_by_role("row", name="ana restored the balance by +350 points: She was in hospital")).to_be_visible()
    assert balance_of(card).points_balance == 350


def test_a_shorter_expiry_shows_its_impact_before_it_is_saved(signed_in: Page):
    merchant = make_merchant()
    make_card(merchant, points=70, at=timezone.now() - days(100))
    page = signed_in

    page.goto(f"/admin/loyalty/program/{merchant.program.pk}/change/")
    page.get_by_label("Points expire after (days)").fill("90")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("heading", name="Points would expire sooner")).to_be_visible()
    expect(page.get_by_role("row", name="Cards past the limit today 1")).to_be_visible()
    assert not PolicyChange.objects.exists()

    page.get_by_label("Why:").fill("The others do it too")
    page.get_by_role("button", name="Yes, change it for 1 card").click()
    expect(page.get_by_text("was changed successfully")).to_be_visible()

    page.get_by_role("link", name="Points card").first.click()
    expect(page.get_by_role("row", name="90 days, warned 14 days before")).to_contain_text("The others do it too")


def test_the_night_run_is_moved_to_another_hour(signed_in: Page):
    page = signed_in

    page.get_by_role("link", name="loyalty.expire_points").click()
    with page.expect_popup() as opened:
        page.locator("#change_id_crontab").click()
    popup = opened.value
    popup.get_by_label("Hour(s):").fill("4")
    popup.get_by_label("Minute(s):").fill("30")
    popup.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("#id_crontab option:checked")).to_contain_text("30 4 * * *")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was changed successfully")).to_be_visible()

    entry = PeriodicTask.objects.select_related("crontab").get(task="loyalty.expire_points")
    assert (entry.enabled, entry.crontab.hour, entry.crontab.minute) == (True, "4", "30")


def test_a_run_is_tried_out_started_and_given_back(signed_in: Page):
    now = timezone.now()
    card = make_card(points=350, at=now - days(200))
    expire(now - timedelta(days=20))
    page = signed_in

    page.get_by_role("link", name="Expiration runs").click()
    page.get_by_role("link", name="Dry run").click()
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("row", name="take 350 points")).to_be_visible()
    assert balance_of(card).points_balance == 350

    page.get_by_role("link", name="Back").click()
    page.get_by_role("link", name="Run for one merchant").click()
    page.get_by_label("Merchant:").select_option(label=card.program.merchant.name)
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_text("Expired 1 cards, 350 points, 0 warnings.")).to_be_visible()

    page.get_by_role("link", name="Give everything back").click()
    page.get_by_label("Reason:").fill("The wrong merchant")
    page.get_by_role("button", name="Give everything back").click()
    expect(page.get_by_text("Gave 350 points back to 1 card.")).to_be_visible()
    assert balance_of(card).points_balance == 350
