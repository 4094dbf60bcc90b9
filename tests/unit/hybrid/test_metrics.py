"""The metrics, read from a status, and their text as Prometheus reads it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain
from support.control_peer import LABELS, program, service, status, worker
from support.rows import for_each

from hybrid.metrics.declarations import METRICS, Kind, saturation
from hybrid.metrics.exposition import OPENMETRICS, render


def values(found: dict[str, Any], name: str) -> dict[tuple[str, ...], float]:
    """Return the samples of a name: values of the labels -> value."""
    _, text = render(found, OPENMETRICS)
    return {
        tuple(sample.labels[label] for label in sorted(sample.labels, key=_place)): sample.value
        for family in openmetrics(text.decode())
        for sample in family.samples
        if sample.name == name
    }


def _place(label: str) -> int:
    return ("service", "slot").index(label) if label in ("service", "slot") else 2


@pytest.mark.parametrize("accept", [OPENMETRICS, "text/plain", "", "*/*"])
def test_the_parsers_of_prometheus_read_every_form(accept: str) -> None:
    content_type, text = render(status(service(), program()), accept)
    families = list((openmetrics if "openmetrics" in content_type else plain)(text.decode()))
    assert {family.name for family in families} >= {metric.name.removesuffix("_total") for metric in METRICS}
    assert all(family.documentation for family in families)


def test_a_counter_is_named_as_one_and_every_name_has_a_prefix() -> None:
    assert {metric.name.endswith("_total") for metric in METRICS if metric.kind is Kind.COUNTER} == {True}
    assert not [metric.name for metric in METRICS if metric.kind is not Kind.COUNTER and metric.name.endswith("_total")]
    assert all(metric.name.startswith("hybrid_") and metric.help.endswith(".") for metric in METRICS)
    assert not [metric.name for metric in METRICS if set('\\"\n') & set(metric.help)], "nothing to escape"


def test_openmetrics_tells_the_units() -> None:
    _, text = render(status(), OPENMETRICS)
    units = {family.name: family.unit for family in openmetrics(text.decode())}
    assert (units["hybrid_request_seconds"], units["hybrid_cpu_seconds"]) == ("seconds", "seconds")
    assert (units["hybrid_sent_bytes"], units["hybrid_memory_bytes"], units["hybrid_requests"]) == (
        "bytes",
        "bytes",
        "",
    )


def test_workers_are_counted_by_state() -> None:
    found = values(status(), "hybrid_workers")
    assert (found["web", "ready"], found["web", "stalled"], found["web", "booting"]) == (1, 1, 0)


def test_counts_of_both_workers_of_a_slot_are_added() -> None:
    pair = [worker(0, requests=10), worker(0, requests=5, pid=9)]
    assert values(status(service(workers=pair)), "hybrid_requests_total") == {("web", "0"): 15}


def test_a_slot_without_a_worker_keeps_its_counts() -> None:
    past = {key: value for key, value in worker(3).items() if key in ("slot", "requests", "responses", "durations")}
    found = status(service(workers=[worker(0)], past=[past]))
    assert values(found, "hybrid_requests_total")["web", "3"] == past["requests"]


def test_what_is_not_known_has_no_sample() -> None:
    assert values(status(program(workers=[worker(0, requests=None)])), "hybrid_requests_total") == {}


def test_the_buckets_of_a_histogram_are_cumulative() -> None:
    buckets = values(status(service(workers=[worker(0)])), "hybrid_request_seconds_bucket")
    assert buckets == {
        ("web", "0", "0.001"): 1_000_000,
        ("web", "0", "0.0025"): 1_200_000,
        ("web", "0", "+Inf"): 1_234_567,
    }
    assert values(status(), "hybrid_request_seconds_sum")["web", "0"] == 2345.6


def test_deaths_and_reloads_are_counted_by_cause_and_result() -> None:
    assert values(status(), "hybrid_worker_deaths_total") == {("web", "SIGKILL"): 1}
    assert values(status(), "hybrid_reloads_total") == {("web", "complete"): 6, ("web", "failed"): 1}


def test_accepted_connections_are_told_from_adopted_ones() -> None:
    found = values(status(service(workers=[worker(0)])), "hybrid_connections_accepted_total")
    assert found == {("web", "0", "own"): 9987, ("web", "0", "adopted"): 12}


def test_the_workers_of_a_slot_adopt_together() -> None:
    workers = [worker(0), worker(0, accepted=5, adopted=3)]
    found = values(status(service(workers=workers)), "hybrid_connections_accepted_total")
    assert found == {("web", "0", "own"): 9989, ("web", "0", "adopted"): 15}


def test_a_program_has_no_sample_of_accepted_connections() -> None:
    unknown = status(program(workers=[worker(0, accepted=None, adopted=None)]))
    assert values(unknown, "hybrid_connections_accepted_total") == {}


def test_each_queue_has_its_address_and_its_slot() -> None:
    shared = {"address": "unix:/run/shop.sock", "slot": None, "waiting": 3, "limit": 128}
    found = status(service(queues=[*service()["queues"], shared]))
    assert values(found, "hybrid_accept_queue") == {
        ("web", "0", "0.0.0.0:8000"): 0,
        ("web", "1", "0.0.0.0:8000"): 17,
        ("web", "", "unix:/run/shop.sock"): 3,
    }
    limits = values(found, "hybrid_accept_queue_limit")
    assert limits == {("web", "0.0.0.0:8000"): 2048, ("web", "unix:/run/shop.sock"): 128}


def test_lost_lines_of_the_supervisor_belong_to_no_service() -> None:
    found = status(service(workers=[worker(0, log_dropped=4)]), log_dropped=2)
    assert values(found, "hybrid_log_dropped_total") == {("", ""): 2, ("web", "0"): 4}


def test_starts_are_counted_by_reason() -> None:
    expected = {("web", "start"): 2, ("web", "death"): 1, ("web", "reload"): 2}
    assert values(status(), "hybrid_worker_starts_total") == expected


def test_a_supervisor_that_knows_no_reasons_for_starts_has_no_sample_of_them() -> None:
    counts = {"starts": 5, "deaths": {}, "reloads": {}, "stalls": 0}
    assert values(status(service(counts=counts)), "hybrid_worker_starts_total") == {}


@for_each(
    ("changes", "expected"),
    [
        ({"busy": 0.5, "queue": 0}, 0.5),
        ({"busy": 0.5, "queue": 3}, 1.0),
        ({"busy": None, "queue": None}, 0.0),
        ({"busy": 0.1, "queue": 0, "stalled": 2.0}, 1.0),
        ({"busy": 0.1, "queue": 0, "connections": 80}, 0.8),
        ({"state": "booting"}, None),
    ],
)
def test_saturation_is_the_scarcest_of_what_a_worker_has(changes: dict[str, Any], expected: float | None) -> None:
    assert saturation(service(max_connections=100), worker(0, **{"connections": 0, **changes})) == expected


def test_the_costs_of_labels_are_counters_of_the_service() -> None:
    found = status(labels=LABELS)
    assert values(found, "hybrid_label_requests_total") == {("web", "checkout"): 400, ("web", "search"): 9000}
    assert values(found, "hybrid_label_seconds_total")["web", "checkout"] == 80.0
    assert values(found, "hybrid_label_loop_seconds_total")["web", "checkout"] == 30.0
    assert values(found, "hybrid_label_cpu_seconds_total")["web", "search"] == 6.0


@pytest.mark.parametrize("accept", [OPENMETRICS, "text/plain"])
def test_a_label_with_quotes_is_read_as_it_was(accept: str) -> None:
    strange = [{**LABELS[0], "label": 'GET "/a\\b" {id}'}]
    content_type, text = render(status(labels=strange), accept)
    families = (openmetrics if "openmetrics" in content_type else plain)(text.decode())
    read = {sample.labels["label"] for family in families for sample in family.samples if "label" in sample.labels}
    assert read == {'GET "/a\\b" {id}'}


def test_without_accounting_there_are_no_labels() -> None:
    assert values(status(), "hybrid_label_requests_total") == {}


def test_a_status_of_1000_workers_is_rendered() -> None:
    many = status(service(workers=[worker(slot) for slot in range(1000)]))
    assert len(values(many, "hybrid_memory_bytes")) == 1000


def test_the_documents_have_the_table_of_all_metrics() -> None:
    """To bring it up to date: `python docs/generate_metrics.py`."""
    documents = Path(__file__).resolve().parents[3] / "docs"
    spec = importlib.util.spec_from_file_location("generate_metrics", documents / "generate_metrics.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (documents / "metrics.md").read_text()
    assert module.render(text) == text


@pytest.mark.parametrize(("connected", "expected"), [(True, {("web",): 1}), (False, {("web",): 0}), (None, {})])
def test_the_connection_to_a_cluster_is_one_or_zero_once_it_is_known(connected: bool | None, expected: object) -> None:
    found = status(service(offload={"pools": [], "cluster": {"connected": connected}}))
    assert values(found, "hybrid_offload_cluster_connected") == expected


def test_offloaded_calls_are_counted_for_each_pool() -> None:
    numbers = dict.fromkeys(("running", "waiting", "seconds", "queue_seconds"), 0)
    pools = [{"pool": pool, "calls": {"done": count}, **numbers} for pool, count in (("cpu", 3), ("ml", 4))]
    found = status(service(offload={"pools": pools, "cluster": None}))
    assert values(found, "hybrid_offload_calls_total") == {("web", "cpu", "done"): 3, ("web", "ml", "done"): 4}
    assert values(found, "hybrid_offload_running") == {("web", "cpu"): 0, ("web", "ml"): 0}
