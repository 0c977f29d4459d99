"""The alerts in docs/alerts: rules that Prometheus takes, each with a test that fires and one that is quiet."""

import os
import re
import subprocess

import pytest

from tests.house import prometheus, tools
from tests.house.prometheus import EXAMPLES, ROOT, UNIT_TESTS, alerts, rule_files, rules, unit_tests

NAMES = sorted({rule["alert"] for rule in alerts()})
SEVERITIES = {"P0", "P1", "P2", "none"}
PAGES = {
    "point-expiration",
    "wallet-sync",
    "wallet-certificates",
    "ledger",
    "workers",
    "backup-and-restore",
    "data-requests",
}
# What operations.md asks for, by severity.
REQUIRED = {
    "P0": {
        "LoyaltyExpirationStale",
        "LoyaltyLedgerMismatch",
        "LoyaltyLedgerCheckStale",
        "LoyaltyWalletServiceDown",
        "LoyaltyCertificateExpired",
        "LoyaltyBeatDown",
        "LoyaltyExpirationRefused",
        "LoyaltyApiErrorBudgetFastBurn",
    },
    "P1": {
        "LoyaltyApiErrorBudgetSlowBurn",
        "LoyaltyExpirationPartial",
        "LoyaltyWalletSyncFailures",
        "LoyaltyWalletSyncStale",
        "LoyaltyWalletBreakerOpen",
        "LoyaltyCertificateExpiring",
        "LoyaltyEmailFailures",
        "LoyaltyOutboxStuck",
        "LoyaltyDeadLetters",
        "LoyaltyRateLimitSpike",
        "LoyaltyPinLockouts",
        "LoyaltyApiSlow",
        "LoyaltyQueueBacklog",
        "LoyaltyMetricsDown",
        "LoyaltyTimestampInFuture",
    },
    "P2": {"LoyaltyCertificateExpiring", "LoyaltyGoogleKeyOld", "LoyaltyHighChurn", "LoyaltyLowEnrollment"},
    "none": {"LoyaltyWatchdog"},
}


def test_prometheus_takes_the_rules():
    assert "FAILED" not in prometheus.run("promtool", "check", "rules", *rule_files())


@pytest.mark.parametrize("path", unit_tests(), ids=lambda path: path.stem)
def test_the_alerts_fire_and_are_quiet_when_they_should(path):
    prometheus.run("promtool", "test", "rules", path)


def test_prometheus_takes_the_example_where_the_page_installs_it(tmp_path):
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "metrics_token").write_text("mT5-0123456789-abcdefghijklmnop")
    (tmp_path / "prometheus").mkdir()
    places = {
        "/opt/loyalty": str(ROOT),
        "/etc/loyalty/secrets": str(secrets),
        "/etc/prometheus": str(tmp_path / "prometheus"),
        "-o prometheus ": "",
    }
    page = (ROOT / "docs" / "monitoring.md").read_text()
    steps = "\n".join(re.findall(r"^install .*$", page.partition("### Prometheus on the same host")[2], re.MULTILINE))
    for there, place in places.items():
        steps = steps.replace(there, place)
    subprocess.run(["sh", "-euc", steps], timeout=60, check=True)
    config = tmp_path / "prometheus" / "prometheus.yml"
    config.write_text(config.read_text().replace("/etc/prometheus", str(tmp_path / "prometheus")))

    assert f"SUCCESS: {len(rule_files())} rule files found" in prometheus.run("promtool", "check", "config", config)


def test_alertmanager_takes_the_example():
    said = prometheus.run("amtool", "check-config", EXAMPLES / "alertmanager.yml")

    assert "SUCCESS" in said


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ("severity=P0 alertname=LoyaltyExpirationStale", "on-call"),
        ("severity=P1 alertname=LoyaltyOutboxStuck", "business-hours"),
        ("severity=P2 alertname=LoyaltyHighChurn", "planning"),
        ("severity=none alertname=LoyaltyWatchdog", "dead-man"),
    ],
)
def test_the_example_sends_an_alert_to_whom_its_severity_says(labels, receiver):
    config = f"--config.file={EXAMPLES / 'alertmanager.yml'}"

    assert prometheus.run("amtool", "config", "routes", "test", config, *labels.split()).strip() == receiver


def test_every_alert_that_is_asked_for_is_there():
    there = {severity: {r["alert"] for r in alerts() if r["labels"]["severity"] == severity} for severity in REQUIRED}

    assert {severity: names - there[severity] for severity, names in REQUIRED.items() if names - there[severity]} == {}


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_what_it_means_and_what_to_do(rule):
    annotations = rule["annotations"]

    assert rule["labels"]["severity"] in SEVERITIES
    assert set(annotations) == {"summary", "description", "runbook_url"}
    assert annotations["description"].endswith(".")
    assert not annotations["summary"].endswith(".")
    assert len(annotations["summary"]) < 150


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_leads_to_its_place_in_a_runbook(rule):
    page, anchor = rule["annotations"]["runbook_url"].split("#")
    folder, name = os.path.split(page)

    assert folder == "docs/runbooks"
    assert name.removesuffix(".md") in PAGES
    assert anchor == rule["alert"].lower()
    if (ROOT / page).exists():
        headings = re.findall(r"^#{2,4} (\w+)$", (ROOT / page).read_text(), re.MULTILINE)
        assert rule["alert"] in headings


@pytest.mark.parametrize("alert", NAMES)
def test_an_alert_has_a_test_that_fires_and_one_that_is_quiet(alert):
    asked = [
        question
        for tests in unit_tests().values()
        for test in tests["tests"]
        for question in test["promql_expr_test"]
        if prometheus.asks_about(question, alert)
    ]

    fires = [q for q in asked if any(f'alertname="{alert}"' in sample["labels"] for sample in q["exp_samples"])]
    assert fires
    assert alert == "LoyaltyWatchdog" or [q for q in asked if q not in fires]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert", rule.get("record")))
def test_a_rule_asks_for_metrics_that_exist(rule):
    named = prometheus.named_metrics(rule["expr"])

    assert named <= prometheus.known_metrics()
    assert named or rule["expr"] == "vector(1)"


def test_the_unit_tests_feed_metrics_that_exist():
    series = {
        re.split(r"[{ ]", given["series"])[0]
        for tests in unit_tests().values()
        for test in tests["tests"]
        for given in test["input_series"]
    }

    assert series - {"up"} <= prometheus.known_metrics()


@pytest.mark.parametrize("path", [*rule_files(), *UNIT_TESTS.glob("*.yml")], ids=lambda path: path.name)
def test_lines_are_short_enough_to_read(path):
    assert max(len(line) for line in path.read_text().splitlines()) <= 150


class TestWithoutTheTools:
    @pytest.fixture(autouse=True)
    def _nothing_installed(self, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))

    def test_a_test_is_skipped_and_says_how_to_install_them(self, monkeypatch):
        monkeypatch.delenv("CI", raising=False)

        with pytest.raises(pytest.skip.Exception, match="apt-get install -y --no-install-recommends prometheus"):
            tools.tool("promtool")

    def test_a_test_fails_where_everything_must_be_there(self, monkeypatch):
        monkeypatch.setenv("CI", "true")

        with pytest.raises(pytest.fail.Exception, match="promtool is not installed"):
            tools.tool("promtool")
