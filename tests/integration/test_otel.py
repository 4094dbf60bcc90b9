"""Metrics on their way from a real service to a collector, and the ids by which SDKs in workers differ."""

from __future__ import annotations

import http.client
import os
import re
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.collector import Collector, attributes_of, collecting
from support.operated import Operated, operated
from support.process import DEADLINE, RunHybrid
from support.service import eventually

SHOP = """
admin = "127.0.0.1:0"
otel_endpoint = "{url}"
otel_interval = 1
[service.web]
target = "counting:asgi"
bind = "127.0.0.1:0"
workers = 2
[service.chat]
target = "plain:tell_pid"
interface = "stream"
bind = "127.0.0.1:0"
workers = 1
"""
APPLICATION = """
import os


def app(environ, start_response):
    start_response("200 OK", [])
    return [os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").encode()]
"""
CLEAN = dict.fromkeys(
    ("OTEL_RESOURCE_ATTRIBUTES", "OTEL_SERVICE_NAME", "OTEL_EXPORTER_OTLP_HEADERS", "HTTP_PROXY", "http_proxy"), ""
)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


@pytest.fixture
def shop(tmp_path: Path, collector: Collector) -> Iterator[Operated]:
    with operated(SHOP.format(url=collector.url), tmp_path, services=3, env=CLEAN) as found:
        yield found


def most_requests(collector: Collector) -> float:
    """Return the largest count of requests of the service `web` that was sent."""
    return max((one.total("web", "hybrid_requests_total") for one in collector.requests), default=0)


def in_flight(shop: Operated) -> int:
    """Return the requests of the service `web` in progress."""
    service = shop.connects().result("status")["services"][0]
    return sum(worker["in_flight"] or 0 for worker in service["workers"])


def test_a_collector_gets_each_service_as_a_resource(shop: Operated, collector: Collector) -> None:
    eventually(lambda: collector.requests, "metrics arrive")
    found = [attributes_of(one.resource) for one in collector.requests[-1].resources]
    assert [one["service.name"] for one in found] == ["web", "chat", "admin"]
    assert {one["service.namespace"] for one in found} == {shop.connects().greeting["name"]}
    assert len({one["service.instance.id"] for one in found}) == 3


def test_a_collector_gets_the_counts_of_all_workers(shop: Operated, collector: Collector) -> None:
    address = shop.process.wait_for_log(r"web pid=\d+ listening on 127\.0\.0\.1:(\d+)")
    for _ in range(20):
        with closing(http.client.HTTPConnection("127.0.0.1", int(address[1]), timeout=DEADLINE)) as connection:
            connection.request("GET", "/")
            assert connection.getresponse().read()
    eventually(lambda: most_requests(collector) == 20, "all are counted")
    metric = collector.requests[-1].metric("web", "hybrid_request_seconds")
    assert sum(point.count for point in metric.histogram.data_points) == 20


def test_the_last_counts_are_sent_when_a_stop_begins(tmp_path: Path, collector: Collector) -> None:
    text = SHOP.format(url=collector.url).replace("otel_interval = 1\n", "otel_interval = 3600\n")
    with operated(text, tmp_path, services=3, ends=False, env=CLEAN) as shop:
        eventually(lambda: collector.requests, "the first metrics arrive")
        address = shop.process.wait_for_log(r"web pid=\d+ listening on 127\.0\.0\.1:(\d+)")
        with closing(http.client.HTTPConnection("127.0.0.1", int(address[1]), timeout=DEADLINE)) as connection:
            connection.putrequest("POST", "/")
            connection.putheader("Content-Length", "2")
            connection.endheaders(b"a")  # a request in progress: its worker drains, and waits for it
            eventually(lambda: in_flight(shop) == 1, "it has begun")
            shop.process.signal(signal.SIGTERM)
            eventually(lambda: most_requests(collector) == 1, "it is counted")
            connection.send(b"b")
            assert connection.getresponse().read()
        assert shop.process.wait() == 0


def test_a_collector_that_fails_is_logged_once_and_so_is_its_recovery(shop: Operated, collector: Collector) -> None:
    shop.process.wait_for_log(f"sending metrics to {re.escape(collector.url)} every 1 s")
    collector.status = 400
    seen = len(collector.requests)
    eventually(lambda: len(collector.requests) >= seen + 3, "several are refused")
    collector.status = 200
    shop.process.wait_for_log(f"metrics are sent to {re.escape(collector.url)} again")
    assert sum("metrics cannot be sent" in line for line in shop.process.lines) == 1


def test_a_collector_that_hangs_delays_neither_probes_nor_the_end(tmp_path: Path, collector: Collector) -> None:
    collector.may_answer.clear()
    with operated(SHOP.format(url=collector.url), tmp_path, services=3, ends=False, env=CLEAN) as shop:
        eventually(lambda: collector.requests, "it hangs")
        port = shop.process.wait_for_log(r"admin pid=\d+ listening on 127\.0\.0\.1:(\d+)")[1]
        with closing(http.client.HTTPConnection("127.0.0.1", int(port), timeout=DEADLINE)) as connection:
            connection.request("GET", "/readyz")
            assert connection.getresponse().status == 200
        assert shop.process.stop() == 0
    assert not any("still not drained" in line for line in shop.process.lines)


@pytest.mark.parametrize("preload", ["off", "auto"])
def test_each_worker_has_an_id_for_the_sdk_of_the_application(
    hybrid_run: RunHybrid, tmp_path: Path, preload: str
) -> None:
    (tmp_path / "shop.py").write_text(APPLICATION)
    env = {**CLEAN, "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=prod"}
    process = hybrid_run("--workers", "2", "--preload", preload, "shop:app", cwd=tmp_path, env=env)
    host = os.uname().nodename
    expected = {
        f"deployment.environment=prod,service.instance.id=web-{slot}-{pid}@{host}"
        for slot, pid in enumerate(process.worker_pids())
    }
    found: set[str] = set()

    def has_all() -> bool:
        with closing(http.client.HTTPConnection(*process.address, timeout=DEADLINE)) as connection:
            connection.request("GET", "/")
            found.add(connection.getresponse().read().decode())
        return len(found) >= 2

    eventually(has_all, "both have answered")
    assert found == expected


def test_a_program_has_an_id_too(tmp_path: Path) -> None:
    text = '[service.job]\ncommand = ["sh", "-c", "echo $OTEL_RESOURCE_ATTRIBUTES; exec sleep 1000"]\n'
    with operated(text, tmp_path, env=CLEAN) as shop:
        (pid,) = shop.process.worker_pids()
        shop.process.wait_for_log(rf"service\.instance\.id=job-0-{pid}@{re.escape(os.uname().nodename)}$")
