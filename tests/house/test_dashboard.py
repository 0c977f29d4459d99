import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from loyalty.models import ExpirationRun, Membership
from loyalty.services import earning
from loyalty_site.dashboard import CHART_DAYS
from loyalty_site.models import JobRun
from notifications.models import Message
from tests.factories import make_card, make_merchant, make_store
from tests.loyalty.admin.rows import make_message, make_run

pytestmark = pytest.mark.django_db


def staff(*codenames: str) -> tuple[Client, User]:
    user = User.objects.create_user("bea", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client, user


def make_job(task: str, status: str = "succeeded", *, ago: timedelta = timedelta(0)) -> JobRun:
    moment = timezone.now() - ago
    finished = None if status == "running" else moment
    number = JobRun.objects.count()
    return JobRun.objects.create(
        task=task, task_id=f"t{number}", status=status, started_at=moment, finished_at=finished
    )


def text_of(page) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page.content.decode()).split())


def test_an_empty_installation_has_a_first_page(admin_client):
    page = admin_client.get("/admin/")

    assert page.status_code == 200
    assert [tile.figure for tile in page.context["tiles"]] == ["0", "-", "0", "0", "0"]
    assert "No run over all merchants yet." in text_of(page)


def test_points_outstanding_their_value_and_what_expires(admin_client):
    merchant = make_merchant(point_value_minor=2)
    make_card(merchant, points=1200, at=timezone.now())
    make_card(merchant, points=300, at=timezone.now() - timedelta(days=160))

    page = admin_client.get("/admin/")

    assert [(tile.figure, tile.note) for tile in page.context["tiles"]] == [
        ("1,500", "on 2 cards"),
        ("€30.00", "at the programs' value of a point"),
        ("0", "0% of all"),
        ("300", "20% of all"),
        ("300", "20% of all"),
    ]
    assert f"Points card {merchant.name} 2 1,500 €30.00 0 300 300" in text_of(page)


def test_every_currency_has_its_value(admin_client):
    for currency in ("EUR", "JPY"):
        make_card(make_merchant(currency=currency, point_value_minor=1), points=100, at=timezone.now())

    tile = admin_client.get("/admin/").context["tiles"][1]

    assert (tile.figure, tile.note) == ("€1.00", "¥100")


def test_the_chart_is_drawn_for_eyes_and_readers(admin_client):
    store = make_store()
    card = make_card(store.merchant, at=timezone.now())
    earning.earn(store=store, card_id=card.pk, amount_minor=123400, at=timezone.now())

    page = admin_client.get("/admin/")
    svg = page.content.decode().partition('<svg class="chart"')[2].partition("</svg>")[0]

    assert len(re.findall(r"<rect", svg)) == 1
    assert "1,234 earned</title>" in svg
    assert 'aria-labelledby="chart-title chart-description"' in svg
    assert "In 30 days: 1,234 points earned; 0 points redeemed; 0 points expired." in svg
    assert len(page.context["chart"]["days"]) == CHART_DAYS
    assert f"{timezone.now():%Y} 1,234 0 0" in text_of(page)


def test_nothing_on_the_page_needs_a_lax_content_policy(admin_client):
    page = admin_client.get("/admin/").content.decode()
    own = page.partition('<div class="overview">')[2].partition('id="content-main"')[0]

    assert not re.search(r'style="|<script|onclick=', own)


def test_each_entry_of_the_schedule_shows_its_last_run_and_age(admin_client):
    make_job("loyalty.expire_points", ago=timedelta(hours=30))
    make_job("loyalty.expire_points", "failed", ago=timedelta(hours=5))
    PeriodicTask.objects.filter(task="loyalty.check_ledger").update(enabled=False)

    jobs = {job.entry.task: job for job in admin_client.get("/admin/").context["jobs"]}

    assert (jobs["loyalty.expire_points"].run.status, jobs["loyalty.expire_points"].age) == ("failed", "5\xa0hours ago")
    assert (jobs["loyalty.check_ledger"].run, jobs["loyalty.check_ledger"].age) == (None, "never")
    assert "loyalty.check_ledger no never -" in text_of(admin_client.get("/admin/"))


def test_a_renamed_entry_still_finds_its_runs(admin_client):
    make_job("loyalty.expire_points")
    PeriodicTask.objects.filter(task="loyalty.expire_points").update(name="Expiry")

    assert "Expiry yes just now Succeeded" in text_of(admin_client.get("/admin/"))


def test_the_last_whole_run_and_whether_it_was_complete(admin_client):
    now = timezone.now()
    yesterday = now - timedelta(days=1)
    make_run(cards_expired=3, points_expired=4500, warnings=12, as_of=yesterday, started_at=yesterday, finished_at=now)
    assert "3 cards and 4,500 points expired, 12 warnings." in text_of(admin_client.get("/admin/"))
    assert "Last complete run" not in text_of(admin_client.get("/admin/"))

    make_run(status="refused", as_of=now, started_at=now, finished_at=now)
    make_run(make_merchant(), as_of=now, started_at=now, finished_at=now)

    shown = text_of(admin_client.get("/admin/"))
    assert "Last run over all merchants: just now. Refused" in shown
    assert (
        "Last complete run for the day on which it ran: 1\xa0day ago." in admin_client.get("/admin/").content.decode()
    )


def test_mail_that_waits_was_given_up_or_had_no_address(admin_client):
    for status, change in (
        ("dead", {}),
        ("undeliverable", {"recipient": ""}),
        ("undeliverable", {"recipient": ""}),
        ("due", {}),
    ):
        Message.objects.filter(pk=make_message().pk).update(status=status, **change)

    page = admin_client.get("/admin/")

    assert [mail["count"] for mail in page.context["outbox"]] == ["1", "1", "2"]
    for mail, listed in zip(page.context["outbox"], (1, 1, 2), strict=True):
        shown = admin_client.get(f"/admin/notifications/message/?{mail['query']}")
        assert len(shown.context["cl"].result_list) == listed


def test_what_needs_a_person_stands_at_the_top(admin_client):
    PeriodicTask.objects.filter(task="loyalty.expire_points").update(enabled=False)

    page = admin_client.get("/admin/")

    assert "expiration_switched_off" in [finding.code for finding in page.context["findings"]]
    assert "No schedule entry for loyalty.expire_points is switched on." in text_of(page)


def test_a_merchant_s_staff_see_their_figures_and_nothing_of_the_machinery():
    own = make_card(points=5, at=timezone.now()).program.merchant
    make_card(points=70, at=timezone.now())
    client, user = staff("view_program")
    Membership.objects.create(user=user, merchant=own, role="support")

    page = client.get("/admin/")

    assert page.context["tiles"][0].figure == "5"
    assert [line["merchant"] for line in page.context["programs"]] == [own.name]
    for machinery in ("jobs", "findings", "outbox", "last_run"):
        assert machinery not in page.context


def test_operators_without_merchants_see_the_machinery_and_no_figures():
    make_card(points=5, at=timezone.now())
    client, _ = staff("view_jobrun")

    page = client.get("/admin/")

    assert page.context["jobs"]
    assert "tiles" not in page.context


def test_who_looks_after_nobody_is_told_whom_to_ask():
    client, _ = staff("view_program")

    page = client.get("/admin/")

    assert "You look after no merchant yet." in text_of(page)
    assert page.context["tiles"][0].figure == "0"


def test_staff_without_permissions_have_a_first_page():
    client, _ = staff()

    assert client.get("/admin/").status_code == 200


def test_the_page_costs_the_same_however_much_there_is(admin_client):
    def statements() -> int:
        with CaptureQueriesContext(connection) as captured:
            admin_client.get("/admin/")
        return len(captured)

    make_card(points=5, at=timezone.now())
    for task in ("loyalty.expire_points", "loyalty.check_ledger", "loyalty_site.heartbeat"):
        make_job(task)
    make_run()
    statements()  # fills the cache of content types
    first = statements()

    for _ in range(3):
        make_card(points=5, at=timezone.now())
        make_job("loyalty.check_ledger")
        make_run()
        make_message()

    assert statements() == first


def test_many_programs_are_summed_and_the_largest_listed(admin_client):
    for points in range(1, 23):
        make_card(points=points, at=timezone.now())

    page = admin_client.get("/admin/")

    assert len(page.context["programs"]) == 20
    assert "2 more programs have fewer points." in text_of(page)


def test_the_menu_is_in_the_order_of_use(admin_client):
    sections = {section["name"]: section["models"] for section in admin_client.get("/admin/").context["app_list"]}

    assert list(sections)[:3] == ["Cards", "Expiry", "Merchants"]
    assert [model["name"] for model in sections["Cards"]] == ["Cards", "Customers", "Transactions"]
    assert [model["name"] for model in sections["Operations"]] == ["Job runs"]
    assert {"Messages", "Schedules", "Users and groups"} <= set(sections)
    assert all(model["object_name"] != "CardBalance" for models in sections.values() for model in models)


def test_an_app_s_own_page_lists_its_screens(admin_client):
    for label in ("loyalty", "notifications", "loyalty_site", "django_celery_beat"):
        assert admin_client.get(f"/admin/{label}/").status_code == 200


def test_a_failed_job_says_why_on_its_page(admin_client):
    job = make_job("notifications.send_messages", "failed")
    JobRun.objects.filter(pk=job.pk).update(error="ConnectionRefusedError: nobody listens")

    assert "nobody listens" in admin_client.get(f"/admin/loyalty_site/jobrun/{job.pk}/change/").content.decode()


def test_a_running_expiry_shows_what_it_did_so_far(admin_client):
    make_run(status="running", finished_at=None, cards_expired=500)

    run = ExpirationRun.objects.get()
    assert "500 cards and 0 points expired" in text_of(admin_client.get("/admin/"))
    assert "still running" in admin_client.get(f"/admin/loyalty/expirationrun/{run.pk}/change/").content.decode()
