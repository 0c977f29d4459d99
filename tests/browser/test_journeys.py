from datetime import timedelta
from io import BytesIO

from django.utils import timezone
from django_celery_beat.models import PeriodicTask
from PIL import Image
from playwright.sync_api import FilePayload, Page, expect

from loyalty.models import PolicyChange
from tests.factories import balance_of, days, make_card, make_merchant
from tests.loyalty.runs import expire
from tests.wallet.rows import make_failing_pass
from wallet.models import Artwork, Pass


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


def test_a_logo_is_uploaded_and_seen_on_the_colour_of_the_card(signed_in: Page):
    program = make_merchant().program
    picture = BytesIO()
    Image.new("RGB", (640, 200), "white").save(picture, "JPEG")
    page = signed_in

    page.locator("#wallet-artwork").get_by_role("link", name="Logos").click()
    page.get_by_role("link", name="Add logo").click()
    page.locator(".field-program .select2-selection").click()
    page.get_by_role("option", name="Points card").click()
    page.get_by_label("Picture:").set_input_files(FilePayload(name="l.gif", mimeType="image/gif", buffer=b"GIF89a"))
    page.get_by_role("button", name="Save and view").click()
    expect(page.get_by_text("The file is no PNG, JPEG or WebP picture.")).to_be_visible()
    assert not Artwork.objects.exists()

    logo = FilePayload(name="logo.jpg", mimeType="image/jpeg", buffer=picture.getvalue())
    page.get_by_label("Picture:").set_input_files(logo)
    page.get_by_role("button", name="Save and view").click()
    shown = page.locator("svg.logo image")
    expect(page.get_by_role("img", name="The logo on the card's colour")).to_be_visible()
    assert shown.evaluate("image => image.getBBox().width") == 480
    assert Artwork.objects.get().program == program


def test_a_pass_that_was_given_up_is_told_again(signed_in: Page):
    now = timezone.now()
    dead = make_failing_pass(dead_at=now, next_attempt_at=None, last_error="Google does not take this object.")
    page = signed_in

    page.locator("#wallet-pass").get_by_role("link", name="Passes").click()
    page.get_by_role("link", name="Given up").click()
    page.get_by_role("link", name=dead.card.card_number).click()
    expect(page.get_by_text("http_503: Google does not take this object.")).to_be_visible()
    page.get_by_role("link", name="Sync again").click()
    page.get_by_role("button", name="Sync again").click()

    expect(page.get_by_text("Phones are told within a minute.")).to_be_visible()
    expect(page.get_by_text("behind", exact=True)).to_be_visible()
    assert Pass.objects.due(timezone.now()).get() == dead
