"""The dashboard for Grafana, checked without Grafana."""

import json
import re
from itertools import combinations
from typing import Any

import pytest
import yaml

from loyalty_site.metrics import counters
from loyalty_site.metrics.collecting import STATES
from tests.house import prometheus
from tests.house.prometheus import ROOT

PATH = ROOT / "docs" / "dashboards" / "loyalty.json"
DASHBOARD: dict[str, Any] = json.loads(PATH.read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel.get("targets", [])]
ROWS = ["Is it well now", "APIs", "Ledger", "Jobs", "Deliveries", "Security", "Business"]
WIDTH = 24


def place(panel: dict[str, Any]) -> tuple[int, int, int, int]:
    at = panel["gridPos"]
    return at["x"], at["y"], at["x"] + at["w"], at["y"] + at["h"]


def overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    left, top, right, bottom = place(one)
    other_left, other_top, other_right, other_bottom = place(other)
    return left < other_right and other_left < right and top < other_bottom and other_top < bottom


def test_its_rows_are_those_that_operations_ask_for():
    assert [panel["title"] for panel in PANELS if panel["type"] == "row"] == ROWS


def test_every_panel_has_an_id_a_title_and_a_description_of_its_own():
    panels = [panel for panel in PANELS if panel["type"] != "row"]

    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert len({panel["title"] for panel in panels}) == len(panels)
    assert all(panel["description"].endswith(".") and panel["targets"] for panel in panels)


def test_no_panel_covers_another_or_leaves_the_screen():
    assert not [(one["title"], other["title"]) for one, other in combinations(PANELS, 2) if overlap(one, other)]
    assert all(place(panel)[0] >= 0 and place(panel)[2] <= WIDTH for panel in PANELS)


def test_every_panel_asks_the_data_source_that_was_chosen():
    chosen = {"type": "prometheus", "uid": "${datasource}"}

    assert all(target["datasource"] == chosen for panel in PANELS for target in panel.get("targets", []))
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == ["datasource"]


def test_prometheus_takes_every_query(tmp_path):
    queries = [*QUERIES, *((note["name"], note["expr"]) for note in DASHBOARD["annotations"]["list"])]
    recorded = [{"record": f"query:{number}", "expr": query} for number, (_, query) in enumerate(queries)]
    rules = tmp_path / "queries.yml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": recorded}]}))

    assert f"{len(queries)} rules found" in prometheus.run("promtool", "check", "rules", rules)


@pytest.mark.parametrize(("title", "query"), QUERIES)
def test_a_query_asks_for_metrics_and_labels_that_exist(title, query):
    named = prometheus.named_metrics(query)

    assert named
    assert named <= prometheus.known_metrics()
    labels = {state.name: set(state.labels) for state in STATES}
    for name, matchers in re.findall(r"\b(loyalty_[a-z0-9_]+)\{([^}]*)\}", query):
        if name in labels:
            assert set(re.findall(r"(\w+)=", matchers)) <= labels[name]


def test_every_metric_is_on_it():
    asked = set().union(*(prometheus.named_metrics(query) for _, query in QUERIES))
    unseen = {state.name for state in STATES} - asked
    uncounted = {metric._name for metric in counters.COUNTED if not [n for n in asked if n.startswith(metric._name)]}

    assert unseen == {"loyalty_expiration_last_run"}  # alerts tell it better
    assert uncounted == set()


def test_the_targets_of_the_business_are_on_it():
    steps = {
        panel["title"]: panel["fieldConfig"]["defaults"].get("thresholds") for panel in PANELS if "targets" in panel
    }

    assert {"color": "green", "value": 0.3} in steps["Redemption ratio"]["steps"]
    assert {"color": "green", "value": 0.4} in steps["Retention in month 3"]["steps"]
