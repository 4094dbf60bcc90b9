"""The process of --admin beside real services: probes, metrics, access, and what happens to it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from support import processes
from support.operated import Operated, operated
from support.process import DEADLINE, HybridProcess
from support.service import eventually

SHOP = """
admin = "127.0.0.1:0"
[service.web]
target = "plain:tell_pid"
interface = "stream"
bind = "127.0.0.1:0"
workers = 2
"""
WEB = """
admin = "127.0.0.1:0"
[service.web]
target = "counting:asgi"
bind = "127.0.0.1:0"
workers = 2
"""
TOKEN = "0123456789abcdef"


class Answer(NamedTuple):
    """A response."""

    status: int
    headers: dict[str, str]
    text: str


def admin_port(shop: Operated) -> int:
    """Return the port of the admin process."""
    found = shop.process.wait_for_log(r"admin pid=\d+ listening on 127\.0\.0\.1:(\d+)")
    return int(found[1])


def ask(port: int, path: str, method: str = "GET", body: str | None = None, **headers: str) -> Answer:
    """Send a request to the admin process."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    with contextlib.closing(connection):
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        fields = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, fields, response.read().decode())


def serves(shop: Operated) -> int:
    """Wait until the admin process serves; return its port."""
    port = admin_port(shop)
    shop.process.wait_for_log(r"admin/0 .* ready on epoll")
    return port


def admin_pid(shop: Operated) -> int:
    """Return the pid of the admin process that serves."""
    line = shop.connects()

    def found() -> list[int]:
        services = {one["name"]: one for one in line.result("status")["services"]}
        return [worker["pid"] for worker in services["admin"]["workers"] if worker["state"] == "ready"]

    return eventually(found, "the admin process serves")[0]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Operated]:
    with operated(SHOP, tmp_path, services=2) as found:
        yield found


def values(text: str, name: str) -> dict[tuple[str, ...], float]:
    """Return the samples of a name: service and slot, or what the labels are -> value."""
    families = text_string_to_metric_families(text)
    samples = (sample for family in families for sample in family.samples if sample.name == name)
    return {tuple(sample.labels[key] for key in sorted(sample.labels)): sample.value for sample in samples}


def names_in(answer: Answer) -> list[str]:
    """Return the names of the services in a status."""
    return [one["name"] for one in json.loads(answer.text)["services"]]


def log_in(port: int, token: str) -> Answer:
    """Send the form of the dashboard."""
    return ask(port, "/login", "POST", f"token={token}", Content_Type="application/x-www-form-urlencoded")


def test_probes_answer(shop: Operated) -> None:
    port = serves(shop)
    assert ask(port, "/livez")[::2] == (200, "ok\n")
    assert ask(port, "/readyz")[::2] == (200, "ok\n")
    assert ask(port, "/livez", "HEAD")[::2] == (200, "")
    assert ask(port, "/livez").headers["cache-control"] == "no-store"


def test_metrics_are_openmetrics_for_those_who_ask_for_it(shop: Operated) -> None:
    port = serves(shop)
    answer = ask(port, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert sum(values(answer.text, "hybrid_workers").get(("web", state), 0) for state in ("ready", "stalled")) == 2
    assert values(answer.text, "hybrid_workers_wanted") == {("web",): 2, ("admin",): 1}
    assert ask(port, "/metrics").headers["content-type"].startswith("text/plain")


def test_a_status_has_all_services_and_one_that_is_asked_for(shop: Operated) -> None:
    port = serves(shop)
    assert names_in(ask(port, "/status.json")) == ["web", "admin"]
    assert names_in(ask(port, "/status.json?service=web")) == ["web"]
    assert ask(port, "/status.json?service=none").status == 400


def test_another_path_or_method_is_refused_with_what_there_is(shop: Operated) -> None:
    port = serves(shop)
    assert "/metrics" in ask(port, "/nothing").text
    answer = ask(port, "/livez", "POST", "x")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


def test_a_foreign_host_is_refused_but_by_the_probes(shop: Operated) -> None:
    port = serves(shop)
    assert ask(port, "/metrics", Host="evil.example").status == 421
    assert ask(port, "/livez", Host="10.0.0.7:9100").status == 200


def test_with_a_token_all_but_the_probes_ask_for_it(tmp_path: Path) -> None:
    with operated(SHOP, tmp_path, services=2, env={"HYBRID_ADMIN_TOKEN": TOKEN}) as shop:
        port = serves(shop)
        assert ask(port, "/livez").status == 200
        refused = ask(port, "/metrics")
        assert (refused.status, refused.headers["www-authenticate"]) == (401, 'Bearer realm="hybrid"')
        assert ask(port, "/metrics", Authorization=f"Bearer {TOKEN}", Host="shop:9100").status == 200
        assert log_in(port, "wrong-wrong-wrong").status == 401
        cookie = log_in(port, TOKEN).headers["set-cookie"].partition(";")[0]
        assert ask(port, "/status.json", Cookie=cookie).status == 200
        assert TOKEN not in shop.process.stderr


def test_a_killed_admin_process_is_replaced_and_the_services_stay(shop: Operated) -> None:
    port = serves(shop)
    before, pid = set(shop.process.worker_pids()), admin_pid(shop)
    os.kill(pid, signal.SIGKILL)
    shop.process.wait_for_log(r"admin/0 .* ready on epoll", count=2)
    assert admin_pid(shop) != pid
    assert ask(port, "/livez").status == 200
    assert before - {pid} == set(shop.process.worker_pids()) - {admin_pid(shop)}


def test_probes_and_metrics_answer_while_every_worker_is_stopped(shop: Operated) -> None:
    port = serves(shop)
    status = shop.connects().result("status")
    pids = [worker["pid"] for worker in status["services"][0]["workers"]]
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        eventually(lambda: ask(port, "/readyz").status == 503, "it is not ready")
        assert "web: 0 workers serve, 1 must" in ask(port, "/readyz?verbose").text
        assert ask(port, "/livez").status == 200
        text = ask(port, "/metrics", Accept="application/openmetrics-text").text
        assert values(text, "hybrid_workers")["web", "stalled"] == 2
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    eventually(lambda: ask(port, "/readyz").status == 200, "it is ready again")


def test_a_stop_with_a_delay_is_told_at_once_and_served_meanwhile(tmp_path: Path) -> None:
    with operated(f"shutdown_delay = 600\n{SHOP}", tmp_path, services=2, ends=False) as shop:
        port = serves(shop)
        shop.process.signal(signal.SIGTERM)
        shop.process.wait_for_log("stopping in 600 s")
        assert ask(port, "/readyz?verbose")[::2] == (503, "the supervisor is stopping\n")
        status = shop.connects().result("status")
        assert [one["ready"] for one in status["services"]] == [2, 1]
        shop.process.signal(signal.SIGTERM)
        assert shop.process.wait() == 0


def test_requests_are_counted_over_deaths_and_reloads(tmp_path: Path) -> None:
    with operated(WEB, tmp_path, services=2) as shop:
        port, line = serves(shop), shop.connects()
        web = int(line.result("status")["services"][0]["addresses"][0].rpartition(":")[2])
        for change in (None, "reload", "restart"):
            if change == "reload":
                line.result("reload")
            elif change == "restart":
                line.result("restart", service="web", slot=0)
            for _ in range(20):
                assert ask(web, "/").status == 200

        def requests() -> float:
            text = ask(port, "/metrics", Accept="application/openmetrics-text").text
            found = values(text, "hybrid_requests_total")
            return sum(value for labels, value in found.items() if labels[0] == "web")

        eventually(lambda: requests() >= 60, "all are counted")  # a scrape does not wait for a worker without a core
        assert requests() == 60


def test_an_upgrade_hands_the_address_over(tmp_path: Path) -> None:
    with operated(SHOP, tmp_path, services=2, ends=False) as shop:
        port = serves(shop)
        failures: list[int] = []
        stop = threading.Event()

        def probe() -> None:
            while not stop.is_set():
                failures.extend([one] if (one := ask(port, "/livez").status) != 200 else [])

        thread = threading.Thread(target=probe)
        thread.start()
        try:
            successor = shop.connects().result("upgrade")["pid"]
            eventually(lambda: not shop.process.is_running(), "the predecessor has ended")
            eventually(lambda: ask(port, "/livez").status == 200, "the successor answers")
        finally:
            stop.set()
            thread.join()
        assert failures == []
        os.kill(successor, signal.SIGTERM)
        eventually(lambda: not processes.is_alive(successor), "the successor has ended")


def test_an_admin_address_that_others_can_reach_needs_a_token(tmp_path: Path) -> None:
    process = HybridProcess("run", "--admin", "0.0.0.0:9100", "plain:tell_pid", cwd=tmp_path)
    try:
        assert process.wait() == 2
        assert "--admin: '0.0.0.0:9100' can be reached from other machines: set --admin-token too" in process.stderr
    finally:
        process.close()


def test_readyz_follows_the_ready_checks_of_the_application(tmp_path: Path) -> None:
    with operated(f'{SHOP}hooks = "hooks_ready"\nready_check_interval = 0.1\n', tmp_path, services=2) as shop:
        port = serves(shop)
        eventually(lambda: ask(port, "/readyz").status == 200, "it is ready")
        reason, draft = shop.directory / "reason", shop.directory / "draft"
        draft.write_text("the database is gone")
        draft.rename(reason)  # at once: a check may read it at any moment
        eventually(lambda: ask(port, "/readyz").status == 503, "it is not ready")
        assert "hooks_ready.ready_check: ConnectionError: the database is gone" in ask(port, "/readyz?verbose").text
        reason.unlink()
        eventually(lambda: ask(port, "/readyz").status == 200, "it is ready again")


def test_reasons_are_for_those_who_may_look(tmp_path: Path) -> None:
    with operated(
        SHOP, tmp_path, services=2, env={"HYBRID_ADMIN_TOKEN": TOKEN, "HYBRID_SHUTDOWN_DELAY": "600"}
    ) as shop:
        port = serves(shop)
        shop.process.signal(signal.SIGTERM)
        eventually(lambda: ask(port, "/readyz").status == 503, "it stops")
        assert ask(port, "/readyz?verbose").text == "not ready\n"
        reason = "the supervisor is stopping\n"
        assert ask(port, "/readyz?verbose", Authorization=f"Bearer {TOKEN}").text == reason
        shop.process.signal(signal.SIGTERM)
        assert shop.process.wait() == 0


def test_a_reload_takes_another_token_and_another_delay(tmp_path: Path) -> None:
    other = "fedcba9876543210"
    with operated(f'admin_token = "{TOKEN}"\n{SHOP}', tmp_path, services=2) as shop:
        port = serves(shop)
        assert ask(port, "/metrics", Authorization=f"Bearer {TOKEN}").status == 200
        shop.writes(f'admin_token = "{other}"\n{SHOP}')
        shop.connects().result("reload")
        eventually(lambda: ask(port, "/metrics", Authorization=f"Bearer {other}").status == 200, "the new one is known")
        eventually(lambda: ask(port, "/metrics", Authorization=f"Bearer {TOKEN}").status == 401, "the old one is not")


def test_the_admin_process_cannot_be_scaled(shop: Operated) -> None:
    serves(shop)
    assert shop.connects().error("scale", service="admin", workers=3) == (
        "bad_request",
        "admin is one process, and cannot be scaled",
    )


@pytest.mark.parametrize("body", ["[" * 16_000, '{"token": "\\ud800"}', "token"])
def test_a_malformed_login_is_refused_without_a_traceback(shop: Operated, body: str) -> None:
    port = serves(shop)
    assert ask(port, "/login", "POST", body, Content_Type="application/json").status in (400, 401)
    assert "Traceback" not in shop.process.stderr


def test_an_admin_process_without_spare_descriptors_answers_whom_it_has_accepted(shop: Operated) -> None:
    """It imports nothing at a request. A scrape reads the files of the application's metrics, or fails."""
    port, pid = serves(shop), admin_pid(shop)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    with contextlib.closing(connection):
        connection.request("GET", "/livez")
        assert connection.getresponse().read() == b"ok\n"
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (1, limits[1]))
        try:
            statuses, texts = {}, {}
            for path in ("/metrics", "/readyz", "/status.json", "/"):
                connection.request("GET", path)
                response = connection.getresponse()
                statuses[path], texts[path] = response.status, response.read()
            assert statuses == {"/metrics": 503, "/readyz": 200, "/status.json": 200, "/": 200}
            assert texts["/metrics"] == b"the metrics cannot be read: Too many open files\n"
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    assert ask(port, "/metrics").status == 200
    assert "Traceback" not in shop.process.stderr
