"""`--accounting` on every loop: what requests cost the loop and the processor, by the labels that they are given."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from support import processes
from support.changes import PLACES
from support.clients import connected, read_all
from support.loops import LOOPS
from support.operated import Line, Operated, operated
from support.operator import Operator, operating
from support.process import HybridProcess
from support.service import eventually, serving
from support.websocket import HANDSHAKE, close_frame, frame
from support.wsgi import Answer, read_answer, send_request

from hybrid.metrics.exposition import render

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/accounting.md"
BUSY = 0.02  # seconds of processor time, see `applications/labelled.py`
Row = dict[str, Any]


def in_threads(loop: str, interface: str) -> bool:
    """Return True if requests run in threads by default."""
    return interface == "wsgi" and loop in ("asyncio", "uvloop")


@contextlib.contextmanager
def running(loop: str, interface: str, cwd: Path, *arguments: str) -> Iterator[HybridProcess]:
    options = ("--workers", "1", "--loop", loop, "--accounting", *arguments)
    with serving(f"labelled:{interface}", *options, cwd=cwd) as process:
        yield process


def ask(process: HybridProcess, path: str, times: int = 1) -> Answer:
    with connected(process.address) as sock:
        for _ in range(times):
            send_request(sock, path)
            answer = read_answer(sock)
    return answer


def rows(operator: Operator) -> dict[str, Row]:
    """Return the rows of the service by label."""
    return {row["label"]: row for row in operator.asks("labels")["result"]["labels"]}


def counted(operator: Operator, **requests: int) -> dict[str, Row]:
    """Wait until each of these labels has as many requests; return the rows."""

    def look() -> dict[str, Row] | None:
        found = rows(operator)
        seen = {label.replace(" ", "_"): row["requests"] for label, row in found.items()}
        return found if all(seen.get(label) == count for label, count in requests.items()) else None

    found = eventually(look, f"{requests} are counted")
    assert found is not None
    return found


@pytest.mark.parametrize(("loop", "interface"), PLACES)
def test_a_busy_label_has_the_cost_and_an_idle_one_the_wall_time(loop: str, interface: str, tmp_path: Path) -> None:
    with running(loop, interface, tmp_path) as process, operating(process) as operator:
        with connected(process.address) as sock:
            send_request(sock, "/idle")
            eventually(lambda: in_flight(operator) == 1, "the idle request has begun")
            ask(process, "/busy", 5)
            eventually(lambda: asked_to_go(process, sock), "the idle request is answered")
        found = counted(operator, busy=5, idle=1)
    busy, idle = found["busy"], found["idle"]
    assert busy["cpu_seconds"] >= 5 * BUSY
    assert idle["seconds"] >= 5 * BUSY  # it waited while the others ran
    assert idle["cpu_seconds"] < busy["cpu_seconds"] / 4
    if in_threads(loop, interface):
        assert busy["loop_seconds"] == idle["loop_seconds"] == 0
    else:
        assert busy["seconds"] >= busy["loop_seconds"] >= 5 * BUSY
        assert idle["loop_seconds"] < idle["seconds"] / 2


def in_flight(operator: Operator) -> int:
    """Return how many requests are in progress."""
    (service,) = operator.asks("status")["result"]["services"]
    return sum(worker["in_flight"] or 0 for worker in service["workers"])


def asked_to_go(process: HybridProcess, sock: Any) -> bool:
    """Let the idle request go on, which may not have begun to wait; return True once it is answered."""
    ask(process, "/go")
    sock.settimeout(0.1)
    try:
        return read_answer(sock).status == 200
    except TimeoutError:
        return False


@pytest.mark.parametrize(("loop", "interface"), PLACES)
def test_responses_are_counted_by_class_and_failures_as_500(loop: str, interface: str, tmp_path: Path) -> None:
    with running(loop, interface, tmp_path) as process, operating(process) as operator:
        ask(process, "/missing", 2)
        ask(process, "/fail")
        ask(process, "/none")
        found = counted(operator, missing=2, fail=1, unlabelled=1)
    shown = {label: [name for name, count in row["responses"].items() if count] for label, row in found.items()}
    assert shown == {"missing": ["4xx"], "fail": ["5xx"], "unlabelled": ["2xx"]}
    assert found["missing"]["responses"]["4xx"] == 2


@pytest.mark.parametrize(("loop", "interface"), PLACES)
def test_the_header_field_is_the_label_and_is_not_sent(loop: str, interface: str, tmp_path: Path) -> None:
    with running(loop, interface, tmp_path, "--label-header", "X-Route") as process, operating(process) as operator:
        answers = [ask(process, path) for path in ("/head", "/both", "/strange")]
        counted(operator, by_header=2, unlabelled=1)
        process.wait_for_log("WARNING .* --label-header: '\xe9' is no label")
    assert [answer.header("x-route") for answer in answers] == [None, None, None]
    assert [answer.header("x-kept") for answer in answers] == ["/head", "/both", "/strange"]
    assert [answer.status for answer in answers] == [200, 200, 200]


def test_without_the_option_the_header_field_is_sent(tmp_path: Path) -> None:
    with running("epoll", "asgi", tmp_path) as process:
        assert ask(process, "/head").header("x-route") == "by header"


def test_the_last_label_counts(tmp_path: Path) -> None:
    with running("epoll", "wsgi", tmp_path) as process, operating(process) as operator:
        ask(process, "/many", 2)
        assert set(counted(operator, label_2=2)) == {"label 2"}


@pytest.mark.parametrize("loop", LOOPS)
def test_tasks_that_a_request_starts_are_its_cost_and_may_label_it(loop: str, tmp_path: Path) -> None:
    with running(loop, "asgi", tmp_path) as process, operating(process) as operator:
        ask(process, "/child", 3)
        found = counted(operator, by_child=3)["by child"]
    assert found["cpu_seconds"] >= 3 * BUSY
    assert found["loop_seconds"] >= 3 * BUSY


@pytest.mark.parametrize("loop", [loop for loop in LOOPS if not in_threads(loop, "wsgi")])
def test_a_coroutine_that_a_sync_request_awaits_is_its_cost(loop: str, tmp_path: Path) -> None:
    with running(loop, "wsgi", tmp_path) as process, operating(process) as operator:
        ask(process, "/await", 3)
        found = counted(operator, by_child=3)["by child"]
    assert found["loop_seconds"] >= 3 * BUSY


@pytest.mark.parametrize("loop", LOOPS)
def test_a_websocket_is_a_request_whose_cost_is_known_while_it_is_open(loop: str, tmp_path: Path) -> None:
    with running(loop, "asgi", tmp_path, "--label-header", "X-Route") as process, operating(process) as operator:
        with connected(process.address) as sock:
            sock.sendall(HANDSHAKE + b"\r\n" + frame(1, b"a"))
            got = b""
            while not got.endswith(b"x"):
                got += sock.recv(65536)
            assert b"x-route" not in got.lower()
            open_ = eventually(lambda: rows(operator).get("socket"), "its cost is known")
            assert open_ is not None
            assert open_["requests"] == 0
            assert open_["cpu_seconds"] >= BUSY
            sock.sendall(close_frame(1000))
            read_all(sock)
        assert counted(operator, socket=1)["socket"]["responses"]["1xx"] == 1


@pytest.mark.parametrize("handler", ["handle", "coroutine"])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_connection_of_a_handler_is_a_request(loop: str, handler: str, tmp_path: Path) -> None:
    with running(loop, handler, tmp_path) as process, operating(process) as operator:
        with connected(process.address) as idle, connected(process.address) as busy:
            for sock, word in ((idle, b"idle"), *[(busy, b"busy")] * 3):
                sock.sendall(word)
                assert sock.recv(1) == b"x"
        found = counted(operator, idle=1, busy=1)
    assert found["busy"]["loop_seconds"] >= 3 * BUSY
    assert found["busy"]["cpu_seconds"] >= 3 * BUSY
    assert found["idle"]["cpu_seconds"] < found["busy"]["cpu_seconds"] / 4
    assert sum(found["busy"]["responses"].values()) == 0


def test_without_accounting_nothing_is_counted_and_nothing_is_loaded(tmp_path: Path) -> None:
    with serving("labelled:wsgi", "--workers", "1", cwd=tmp_path) as process, operating(process) as operator:
        assert ask(process, "/modules").body == b"no"
        ask(process, "/busy")
        assert rows(operator) == {}


def test_protocols_are_told_that_accounting_has_no_effect(tmp_path: Path) -> None:
    with serving("other_kinds:Upper", "--workers", "1", "--accounting", cwd=tmp_path) as process:
        process.wait_for_log("--accounting has no effect for")


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
def test_the_stacks_of_an_accounted_request_are_shown(interface: str, tmp_path: Path) -> None:
    with (
        running("epoll", interface, tmp_path) as process,
        operating(process) as operator,
        connected(process.address) as sock,
    ):
        send_request(sock, "/idle")
        operator.waits_until_shown(interface, "tasks" if interface == "asgi" else "greenlets")
        eventually(lambda: asked_to_go(process, sock), "the idle request is answered")


def documented(module: str) -> str:
    """Return the application in the documents that begins with a comment of this name."""
    blocks = re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return next(block for block in blocks if block.startswith(f"# {module}"))


@pytest.mark.parametrize(
    ("module", "label"),
    [("shop.py, FastAPI", "/orders/{number}"), ("shop.py, Flask", "order")],
    ids=["FastAPI", "Flask"],
)
def test_the_documented_applications_label_their_routes(module: str, label: str, tmp_path: Path) -> None:
    (tmp_path / "documented_shop.py").write_text(documented(module))
    options = ("--workers", "1", "--accounting")
    with serving("documented_shop:app", *options, cwd=tmp_path) as process, operating(process) as operator:
        for number in range(3):
            assert ask(process, f"/orders/{number}").status == 200
        found = eventually(lambda: rows(operator), "they are counted")
        eventually(lambda: rows(operator)[label]["requests"] == 3, "all are counted")
    assert set(found) == {label}


MIDDLEWARE = """
import time
from fastapi import FastAPI, Request
import hybrid

app = FastAPI()

@app.middleware("http")
async def label_route(request, call_next):
    response = await call_next(request)
    hybrid.label(request.scope["route"].path)
    return response

@app.get("/busy/{seconds}")
async def busy(seconds: float):
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass
    return seconds
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_an_endpoint_behind_middleware_which_runs_in_a_task_of_its_own_is_measured(loop: str, tmp_path: Path) -> None:
    (tmp_path / "behind_middleware.py").write_text(MIDDLEWARE)
    options = ("--workers", "1", "--loop", loop, "--accounting")
    with serving("behind_middleware:app", *options, cwd=tmp_path) as process, operating(process) as operator:
        for _ in range(3):
            assert ask(process, f"/busy/{BUSY}").status == 200
        found = eventually(lambda: finished(rows(operator), "/busy/{seconds}", 3), "all are counted")
    assert min(found["loop_seconds"], found["cpu_seconds"]) >= 3 * BUSY


def finished(found: dict[str, Row], label: str, requests: int) -> Row:
    """Return the row of a label if it has so many requests, else an empty one."""
    row = found.get(label, {})
    return row if row.get("requests") == requests else {}


SHOP = """
[service.web]
target = "labelled:wsgi"
bind = "127.0.0.1:0"
workers = 2
accounting = true
"""


class Shop:
    """A service of two workers that counts by label."""

    def __init__(self, run: Operated) -> None:
        self.run = run
        self.port = int(self.web()["addresses"][0].rpartition(":")[2])

    def asks(self, request: str, **parameters: Any) -> Any:
        """Ask the supervisor that is in charge."""
        eventually(self.run.control.exists, "there is a control file")
        with contextlib.closing(Line(str(self.run.control))) as line:
            return line.result(request, **parameters)

    def web(self) -> Row:
        found: Row = self.asks("status")["services"][0]
        return found

    def has_restarted(self) -> bool:
        """Return True once the death is counted, and its successor serves."""
        web = self.web()
        return bool(web["counts"]["deaths"] == {"SIGKILL": 1} and web["ready"] == 2)

    def ask(self, times: int) -> None:
        for _ in range(times):
            with connected(("127.0.0.1", self.port)) as sock:
                send_request(sock, "/home", "connection: close")
                assert read_answer(sock).status == 200

    def requests(self) -> int:
        return sum(row["requests"] for row in self.asks("labels", service="web")["labels"])

    def counts(self, requests: int) -> None:
        eventually(lambda: self.requests() == requests, f"{requests} are counted", 20)


def test_counts_go_on_over_a_reload_and_a_kill(tmp_path: Path) -> None:
    with operated(SHOP, tmp_path) as run:
        shop = Shop(run)
        shop.ask(20)
        shop.asks("reload")
        shop.counts(20)
        shop.ask(20)
        shop.counts(40)  # so that no report is on its way
        os.kill(shop.web()["workers"][0]["pid"], signal.SIGKILL)
        eventually(shop.has_restarted, "a successor serves")
        assert shop.requests() == 40


def test_counts_go_on_over_an_upgrade(tmp_path: Path) -> None:
    with operated(SHOP, tmp_path, ends=False) as run:
        shop = Shop(run)
        shop.ask(20)
        shop.counts(20)
        successor = int(shop.asks("upgrade")["pid"])
        eventually(lambda: not run.process.is_running(), "the predecessor has ended")
        shop.ask(10)
        shop.counts(30)
        os.kill(successor, signal.SIGTERM)
        eventually(lambda: not processes.is_alive(successor), "the successor has ended")


def test_the_metrics_have_the_labels(tmp_path: Path) -> None:
    with running("epoll", "wsgi", tmp_path) as process, operating(process) as operator:
        ask(process, "/busy", 2)
        counted(operator, busy=2)
        found = {**operator.asks("status")["result"], **operator.asks("labels")["result"]}
    samples = {
        sample.name: (sample.labels, sample.value)
        for family in text_string_to_metric_families(render(found)[1].decode())
        for sample in family.samples
        if sample.name.startswith("hybrid_label")
    }
    expected = {"service": "web", "label": "busy"}
    assert samples["hybrid_label_requests_total"] == (expected, 2)
    for name in ("hybrid_label_seconds_total", "hybrid_label_loop_seconds_total", "hybrid_label_cpu_seconds_total"):
        assert samples[name][0] == expected
        assert samples[name][1] >= 2 * BUSY
