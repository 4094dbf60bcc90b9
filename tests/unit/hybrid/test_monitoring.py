"""The dashboard for Grafana and the alert rules: they parse, and use metrics, labels and values that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from support.control_peer import service, status
from support.rows import for_each

from hybrid.metrics.declarations import METRICS, STATES, Kind
from hybrid.metrics.exposition import OPENMETRICS, render

MONITORING = Path(__file__).resolve().parents[3] / "docs" / "monitoring"
_SELECTOR = re.compile(r"(hybrid_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!=|=)\s*"([^"]*)"')
OF_PROMETHEUS = {"instance", "le"}


def alerts() -> list[dict[str, Any]]:
    content = yaml.safe_load((MONITORING / "alerts.yaml").read_text())
    return [rule for group in content["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    return found


def expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in alerts())
    yield from (target["expr"] for panel in dashboard()["panels"] for target in panel["targets"])
    yield from (one["query"]["query"] for one in dashboard()["templating"]["list"] if one["type"] == "query")


def known() -> dict[str, set[str]]:
    """Return the names of all series -> their labels."""
    found = {}
    for metric in METRICS:
        parts = ("_bucket", "_sum", "_count") if metric.kind is Kind.HISTOGRAM else ("",)
        found |= {f"{metric.name}{part}": {*metric.labels} for part in parts}
    return found


EXPRESSIONS = sorted(set(expressions()))


@for_each("expression", EXPRESSIONS)
def test_an_expression_uses_metrics_and_labels_that_exist(expression: str) -> None:
    used = _SELECTOR.findall(expression)
    assert used
    labels = set()
    for name, matchers in used:
        assert name in known(), name
        labels |= known()[name]
        assert {label for label, _, _ in _MATCHER.findall(matchers)} <= known()[name]
    groups = re.findall(r"\b(?:by|on) \(([^)]*)\)", expression)
    assert {label.strip() for group in groups for label in group.split(",")} <= labels | OF_PROMETHEUS
    assert expression.count("(") == expression.count(")")


def test_states_and_classes_are_those_that_are_told() -> None:
    _, text = render(status(service()), OPENMETRICS)
    samples = [sample for family in text_string_to_metric_families(text.decode()) for sample in family.samples]
    told = {"state": set(STATES), "class": {one.labels["class"] for one in samples if "class" in one.labels}}
    used = [
        match for one in EXPRESSIONS for _, matchers in _SELECTOR.findall(one) for match in _MATCHER.findall(matchers)
    ]
    checked = [(label, value) for label, operator, value in used if label in told and operator != "=~"]
    assert {label for label, _ in checked} == {"state", "class"}
    assert [one for one in checked if one[1] not in told[one[0]]] == []


def test_each_alert_says_what_is_wrong_and_how_bad_it_is() -> None:
    names = [rule["alert"] for rule in alerts()]
    assert len(names) == len(set(names)) > 5
    for rule in alerts():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"].endswith(".")
        templates = re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])
        assert set(templates) <= {"service", "instance"}


def test_the_panels_do_not_overlap_and_ask_the_chosen_source() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        mine = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & mine, panel["title"]
        assert max(x for x, _ in mine) < 24
        cells |= mine
        assert panel["datasource"]["uid"] == "${datasource}"
    assert len({panel["id"] for panel in dashboard()["panels"]}) == len(dashboard()["panels"])
