"""The metrics as OpenTelemetry has them: the same numbers as for Prometheus, and what becomes of sending them."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality
from opentelemetry.sdk.metrics.export import Gauge, Histogram, MetricsData, Sum
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from support.collector import Collector, attributes_of, collecting
from support.control_peer import program, service, status, worker

from hybrid.metrics.declarations import METRICS, Kind
from hybrid.metrics.exposition import render
from hybrid.metrics.otlp import Sender, _Session, metrics_data, url_of

TYPES = {Kind.COUNTER: Sum, Kind.GAUGE: Gauge, Kind.HISTOGRAM: Histogram}
RESOURCES = ("OTEL_RESOURCE_ATTRIBUTES", "OTEL_SERVICE_NAME")
TIMEOUTS = ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No variable of the account that runs the tests counts, and the library's log stays as it was."""
    for name in (*RESOURCES, *TIMEOUTS):
        monkeypatch.delenv(name, raising=False)
    theirs = logging.getLogger("opentelemetry")
    handlers, propagates = list(theirs.handlers), theirs.propagate
    yield
    theirs.handlers[:], theirs.propagate = handlers, propagates


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


def metrics_of(data: MetricsData) -> Iterator[Any]:
    """Yield the metrics of all resources."""
    for resource in data.resource_metrics:
        yield from resource.scope_metrics[0].metrics


def resources_of(data: MetricsData) -> list[dict[str, Any]]:
    """Return the attributes of each resource."""
    return [dict(one.resource.attributes) for one in data.resource_metrics]


def whole_status() -> dict[str, Any]:
    """Return a status with all that a supervisor may tell."""
    calls = dict.fromkeys(("done", "raised", "died", "timed_out", "cancelled", "failed"), 1)
    numbers = dict.fromkeys(("running", "waiting", "seconds", "queue_seconds"), 1)
    label = {"service": "web", "label": "checkout", "requests": 1, "seconds": 1, "loop_seconds": 1, "cpu_seconds": 1}
    offload = {"pools": [{"pool": "cpu", "calls": calls, **numbers}], "cluster": {"connected": True}}
    return {**status(service(offload=offload)), "labels": [label]}


# --- the adapter


def test_each_declared_metric_has_its_kind() -> None:
    found = {metric.name: type(metric.data) for metric in metrics_of(metrics_data(whole_status()))}
    assert found == {metric.name: TYPES[metric.kind] for metric in METRICS}


def test_the_numbers_are_those_of_prometheus() -> None:
    given = status(service(), program())
    families = text_string_to_metric_families(render(given)[1].decode())
    expected = {
        (sample.name, *sorted((label, value) for label, value in sample.labels.items() if value)): sample.value
        for family in families
        if family.type in ("counter", "gauge")
        for sample in family.samples
    }
    found = {
        (metric.name, *sorted(point.attributes.items())): point.value
        for metric in metrics_of(metrics_data(given))
        if not isinstance(metric.data, Histogram)
        for point in metric.data.data_points
    }
    assert found == expected


def test_a_histogram_has_the_count_of_each_bucket() -> None:
    (metric,) = [one for one in metrics_of(metrics_data(status(service(workers=[worker(0)])))) if one.unit == "s"
                 and isinstance(one.data, Histogram)]  # fmt: skip
    (point,) = metric.data.data_points
    assert tuple(point.bucket_counts) == (1_000_000, 200_000, 34_567)
    assert tuple(point.explicit_bounds) == (0.001, 0.0025)
    assert (point.count, point.sum) == (1_234_567, 2345.6)
    assert point.attributes == {"service": "web", "slot": "0"}


def test_counts_are_monotonic_since_they_began() -> None:
    given = status(at=1764460000.25, since=1764100000.5)
    (metric,) = [one for one in metrics_of(metrics_data(given)) if one.name == "hybrid_reloads_total"]
    assert metric.data.is_monotonic
    times = {(point.start_time_unix_nano, point.time_unix_nano) for point in metric.data.data_points}
    assert times == {(1764100000_500_000_000, 1764460000_250_000_000)}


@pytest.mark.parametrize(
    ("name", "unit"),
    [("hybrid_request_seconds", "s"), ("hybrid_sent_bytes_total", "By"), ("hybrid_cpu_seconds_total", "s"),
     ("hybrid_memory_bytes", "By"), ("hybrid_workers", ""), ("hybrid_requests_total", "")],
)  # fmt: skip
def test_units_follow_from_the_names(name: str, unit: str) -> None:
    found = {metric.name: metric.unit for metric in metrics_of(metrics_data(status()))}
    assert found[name] == unit


def test_each_service_is_a_resource() -> None:
    found = resources_of(metrics_data(status(service(), program(), since=1764100000.5)))
    assert [(one["service.name"], one["service.namespace"]) for one in found] == [("web", "shop"), ("mail", "shop")]
    ids = [one["service.instance.id"] for one in found]
    host = found[0]["host.name"]
    assert ids == [f"web@{host}-1764100000500", f"mail@{host}-1764100000500"]


def test_a_resource_has_the_numbers_of_its_service_only() -> None:
    data = metrics_data(status(service(), program()))
    for resource in data.resource_metrics:
        name = resource.resource.attributes["service.name"]
        points = (point for metric in resource.scope_metrics[0].metrics for point in metric.data.data_points)
        assert {point.attributes.get("service", name) for point in points} == {name}


def test_the_environment_adds_to_a_resource_and_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=prod,service.namespace=shops")
    (found,) = resources_of(metrics_data(status()))
    assert found["deployment.environment"] == "prod"
    assert (found["service.namespace"], found["service.name"]) == ("shops", "web")


def test_services_with_one_name_and_id_share_a_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "all")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=one")
    data = metrics_data(status(service(), program()))
    assert len(resources_of(data)) == 1
    (metric,) = [one for one in metrics_of(data) if one.name == "hybrid_workers_wanted"]
    assert {point.attributes["service"] for point in metric.data.data_points} == {"web", "mail"}


# --- sending


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/metrics"),
        ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/metrics"),
        ("https://otel.example/shop", "https://otel.example/shop/v1/metrics"),
        ("https://otel.example/shop/v1/metrics", "https://otel.example/shop/v1/metrics"),
        ("https://otel.example/shop/v1/metrics/", "https://otel.example/shop/v1/metrics"),
    ],
)
def test_the_path_for_metrics_is_added(endpoint: str, expected: str) -> None:
    assert url_of(endpoint) == expected


def test_a_status_is_sent(collector: Collector) -> None:
    sender = Sender(collector.url, 60.0)
    assert sender.send(status()) is None
    sender.close()
    (request,) = collector.requests
    assert (request.path, request.headers["content-type"]) == ("/v1/metrics", "application/x-protobuf")
    metric = request.metric("web", "hybrid_requests_total")
    assert metric.sum.is_monotonic
    assert metric.sum.aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    assert {attributes_of(point)["slot"]: point.as_double for point in metric.sum.data_points} == {
        "0": 1_234_567.0,
        "1": 1_234_567.0,
    }


def test_headers_come_from_the_environment(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=0123")
    sender = Sender(collector.url, 60.0)
    assert sender.send(status()) is None
    sender.close()
    assert collector.requests[0].headers["api-key"] == "0123"


def test_a_refusal_is_told(collector: Collector) -> None:
    collector.status = 400
    sender = Sender(collector.url, 1.0)
    assert sender.send(status()) == "it answers 400 Bad Request"
    collector.status = 200
    assert sender.send(status()) is None
    sender.close()


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_a_failure_as_the_metrics_are_not_taken(collector: Collector, code: int) -> None:
    collector.status, collector.location = code, f"{collector.url}/login"
    sender = Sender(collector.url, 1.0)
    failure = sender.send(status())
    sender.close()
    assert failure is not None
    assert failure.startswith(f"it answers {code} ")
    assert failure.endswith(f": its place is {collector.url}/login")


def test_a_redirect_without_a_place_is_a_failure(collector: Collector) -> None:
    collector.status = 304
    sender = Sender(collector.url, 1.0)
    assert sender.send(status()) == "it answers 304 Not Modified"
    sender.close()


def test_an_answer_without_an_end_is_not_read(collector: Collector) -> None:
    collector.is_endless = True
    sender = Sender(collector.url, 1.0)
    assert sender.send(status()) is None
    collector.status = 400
    assert sender.send(status()) == "it answers 400 Bad Request"
    collector.is_endless = False
    sender.close()


def test_a_collector_that_is_not_there_is_told() -> None:
    with socket.socket() as deaf:  # taken, so that nobody else gets it, and not listened on
        deaf.bind(("127.0.0.1", 0))
        sender = Sender(f"http://127.0.0.1:{deaf.getsockname()[1]}", 1.0)
        assert sender.send(status()) == "Connection refused"
        sender.close()


def test_an_attempt_for_which_no_time_is_left_does_not_hide_why_those_before_failed() -> None:
    with socket.socket() as deaf, _Session() as session:
        deaf.bind(("127.0.0.1", 0))
        for timeout, error in (10.0, requests.ConnectionError), (0.0, ValueError):
            with pytest.raises(error):
                session.post(f"http://127.0.0.1:{deaf.getsockname()[1]}", timeout=timeout)
        assert session.failure == "Connection refused"


def test_a_status_without_what_is_needed_is_a_failure_and_no_error(collector: Collector) -> None:
    sender = Sender(collector.url, 1.0)
    assert sender.send({"services": []}) == "KeyError('since')"
    sender.close()
    assert collector.requests == []
