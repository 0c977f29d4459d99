"""Every runbook has one form, so that somebody who has never seen it finds the place."""

import re

import pytest

from loyalty.services.ledger_check import OVER_REVERSED, PROBLEMS
from tests.house.prometheus import alerts
from tests.house.runbook_pages import CHANGES, FENCE, FOLDER, INDEX, OURS, ROOT, pattern, sections
from tests.house.test_docs import anchors

HEADINGS = ["When you need this", "What it does", "Look first", "Do", "Check it worked", "Undo", "If it fails"]
SCREEN = 40
PAGES = sorted(path.name for path in FOLDER.glob("*.md") if path != INDEX)
READS = re.compile(
    r"python manage\.py (?:check_health|check_ledger|jobs$|expiration_runs|explain_card|wallet_status|"
    r"wallet_credentials (?:list|show)|export_customer|expire_points .*--dry-run|migrate --check|"
    r"erase_customer (?!.*--confirm-id)|shell (?!.*(?:delete|update)\(|.*pg_terminate)|"
    r"pgtrigger ls|throttled_stores)"
    r"|celery -A loyalty_site inspect|umask|unzip|openssl|curl -s |sudo -u postgres psql (?:DATABASE )?-Atc .SELECT "
)


def text_of(page: str) -> str:
    return (FOLDER / page).read_text()


@pytest.mark.parametrize(
    ("shown", "printed", "is_shown"),
    [
        ("Restored 3 points", "Restored 3 points\n", True),
        ("Restored 3 points", "Restored 4 points\n", False),
        ("Restored ... points", "Restored 4 points\n", True),
        ("Restored 3 points", "Restored 3 points\nAnd more\n", False),
        ("...\nRestored 3 points", "Please note\nthis\nRestored 3 points\n", True),
        ("...\nRestored 3 points", "Restored 3 points\n", True),
        ("Restored 3 points\n...", "Restored\n", False),
    ],
)
def test_what_is_printed_is_held_against_what_is_shown(shown, printed, is_shown):
    assert bool(pattern(shown).fullmatch(printed)) == is_shown


@pytest.mark.parametrize("page", PAGES)
def test_the_headings_are_the_same_on_every_page(page):
    assert re.findall(r"^## (.+)$", FENCE.sub("", text_of(page)), re.MULTILINE) == HEADINGS


@pytest.mark.parametrize("page", PAGES)
def test_the_first_command_is_on_the_first_screen(page):
    lines = text_of(page).splitlines()

    assert next(number for number, line in enumerate(lines, 1) if line == "```sh") <= SCREEN


@pytest.mark.parametrize("page", OURS)
def test_each_command_has_one_line_and_shows_what_it_prints(page):
    for section in sections(page):
        for command in section.commands:
            assert command.output is not None, command.text
            assert "\n" not in command.text.replace("\\\n", ""), command.text


@pytest.mark.parametrize("page", OURS)
def test_a_command_that_changes_data_says_so_and_no_other_does(page):
    wrong = [
        command.text
        for section in sections(page)
        for command in section.commands
        if command.changes_data == bool(READS.match(command.text))
    ]

    assert wrong == [], f"either they read only, or `{CHANGES}` is missing above them"


@pytest.mark.parametrize("page", PAGES)
def test_the_index_leads_to_the_page(page):
    assert f"({page}" in INDEX.read_text()


def runbook_urls() -> list[str]:
    return sorted({alert["annotations"]["runbook_url"] for alert in alerts()})


@pytest.mark.parametrize("url", runbook_urls())
def test_each_alert_leads_to_its_place(url):
    name, _, anchor = url.partition("#")

    assert anchor in anchors((ROOT / name).read_text())


def test_the_page_of_the_ledger_knows_all_that_the_check_says():
    said = re.findall(r"'((?:the|row) [^']+)'", PROBLEMS + OVER_REVERSED)
    [look] = re.findall(r"^## Look first\n(.*?)^## ", text_of("ledger.md"), re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| `(.+?)` \|", look, re.MULTILINE)

    told = [clause for clause in said if any(pattern(row).fullmatch(f"{clause}\n") for row in rows)]
    assert (told, len(said)) == (said, 10)


NOTICED = (
    "LoyaltyApiErrorBudgetFastBurn",
    "LoyaltyApiErrorBudgetSlowBurn",
    "LoyaltyDeadLetters",
    "LoyaltyEmailFailures",
    "LoyaltyExpirationStale",
    "LoyaltyOutboxStuck",
    "LoyaltyWalletBreakerOpen",
    "LoyaltyWalletServiceDown",
    "LoyaltyWalletSyncFailures",
    "LoyaltyWalletSyncStale",
)


@pytest.mark.parametrize("alert", NOTICED)
def test_what_merchants_may_ask_about_has_its_words(alert):
    everything = "".join(map(text_of, OURS))
    section = everything.partition(f"### {alert}\n")[2].partition("\n### ")[0]

    assert "what to tell whom" in section.lower()


@pytest.mark.parametrize("name", sorted({alert["alert"] for alert in alerts()}))
def test_each_alert_has_a_first_command(name):
    by_heading = {section.heading: section for page in PAGES for section in sections(page)}

    assert by_heading[name].commands
