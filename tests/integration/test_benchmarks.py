"""The benchmarks run: short ones, for their form only; no figure is judged here."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
import websockets
from websockets.sync.server import ServerConnection, serve

ROOT = Path(__file__).parent.parent.parent
DEADLINE = 100.0  # seconds

needs_compiler = pytest.mark.skipif(not (shutil.which("gcc") or shutil.which("cc")), reason="there is no C compiler")
needs_wrk = pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is not installed")
needs_uvicorn = pytest.mark.skipif(not importlib.util.find_spec("uvicorn"), reason="uvicorn is not installed")

HELLO_SUITES = ("wsgi", "asgi", "wsgi-varied", "asgi-varied", "wsgi-close", "asgi-close")
HTTP_SUITES = (*HELLO_SUITES, "fastapi", "upload", "download", "websocket", "https", "h2")
ONCE = ("--retries", "0")  # a figure that other processes disturb is as good
SERVICE_SUITES = ("fairness", "lifecycle", "footprint", "balance", "scale")
UPGRADED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


def benchmarks(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run `python -m benchmarks` to its end; `path` is where it looks for programs."""
    command = [sys.executable, "-m", "benchmarks", *arguments]
    env = {**os.environ, "PATH": os.environ["PATH"] if path is None else path}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=DEADLINE, check=False)


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a line of Python that uses the benchmarks."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=False)


@contextlib.contextmanager
def answering(*answers: bytes, ending: Literal["waits", "closes", "resets"] = "waits") -> Iterator[int]:
    """A server whose connections each give these answers, one for each piece that comes; its port.

    Then it reads once more, unless it closes at once; it resets the connection when it has read.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_answer, args=(listener, answers, ending))
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # wakes the accept
            thread.join(DEADLINE)


def _answer(listener: socket.socket, answers: tuple[bytes, ...], ending: str) -> None:
    with contextlib.suppress(OSError):  # the listener was shut down, or the client has left
        while True:
            sock, _ = listener.accept()
            with sock, contextlib.suppress(OSError):
                for answer in answers:
                    sock.recv(65536)
                    sock.sendall(answer)
                if ending != "closes":
                    sock.recv(65536)
                if ending == "resets":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_the_help_names_every_suite() -> None:
    done = benchmarks("--help")
    assert done.returncode == 0
    assert all(
        f"\n  {suite} " in done.stdout
        for suite in ("echo", "cpu", "memory", "boot", "slowloris", *HTTP_SUITES, *SERVICE_SUITES, "offload")
    )


@pytest.mark.parametrize("arguments", [["ehco"], ["--runs", "0"], ["--seconds", "-1"]])
def test_wrong_usage_is_refused(arguments: list[str]) -> None:
    done = benchmarks(*arguments)
    assert done.returncode == 2
    assert "error:" in done.stderr


@needs_compiler
def test_a_pattern_that_matches_no_server_is_refused() -> None:
    done = benchmarks("echo", "--only", "apache*")
    assert done.returncode == 2
    assert "no server matches --only apache*" in done.stderr


@needs_compiler
def test_the_echo_table_holds_every_server_asked_for(tmp_path: Path) -> None:
    raw = tmp_path / "figures.json"
    only = ["--only", "C epoll server", "--only", "uvloop streams", "--only", "hybrid epoll async"]
    done = benchmarks("echo", "--runs", "2", "--seconds", "0.2", *ONCE, "--json", str(raw), *only)
    assert done.returncode == 0, done.stderr
    assert "C epoll server" in done.stdout
    assert "x) uvloop streams" in done.stdout
    assert len(json.loads(raw.read_text())["suites"]["echo"]["servers"]["hybrid epoll async"]["rounds"]) == 2


@needs_compiler
def test_the_cpu_table_compares_two_workers_with_one() -> None:
    done = benchmarks("cpu", "--runs", "1", "--seconds", "0.2", *ONCE)
    assert done.returncode == 0, done.stderr
    assert "hybrid 2 workers" in done.stdout


@needs_compiler
def test_the_boot_table_tells_when_a_successor_answers() -> None:
    done = benchmarks("boot", "--runs", "1", "--only", "hybrid epoll")
    assert done.returncode == 0, done.stderr
    assert "SIGKILL to answer" in done.stdout


def test_a_missing_client_is_named_with_its_package(tmp_path: Path) -> None:
    done = benchmarks("wsgi", "--runs", "1", "--only", "hybrid epoll", path=str(tmp_path))
    assert done.returncode == 2
    assert "apt-get install wrk" in done.stderr


@needs_wrk
@needs_uvicorn
def test_an_http_table_compares_hybrid_with_the_server_asked_for(tmp_path: Path) -> None:
    raw = tmp_path / "figures.json"
    only = ["--only", "hybrid epoll", "--only", "uvicorn"]
    done = benchmarks("fastapi", "--runs", "1", "--seconds", "1", *ONCE, "--json", str(raw), *only)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "x) uvicorn" in done.stdout
    sample = json.loads(raw.read_text())["suites"]["fastapi"]["servers"]["hybrid epoll"]["rounds"]["0"]
    assert sample["load"]["per_second"] > 0


@needs_wrk
@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
def test_every_http_suite_measures_hybrid() -> None:
    without = ("fastapi", "websocket") if shutil.which("h2load") else ("fastapi", "websocket", "h2")
    suites = [name for name in HTTP_SUITES if name not in without]
    done = benchmarks(*suites, "--runs", "1", "--seconds", "1", *ONCE, "--only", "hybrid epoll*")
    assert done.returncode == 0, done.stdout + done.stderr


@needs_wrk
def test_the_slowloris_table_compares_good_clients_with_themselves() -> None:
    only = ["--only", "hybrid epoll *"]
    done = benchmarks("slowloris", "--runs", "1", "--seconds", "1", *ONCE, *only)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\nhybrid epoll wsgi " in done.stdout
    assert "\nhybrid epoll asgi " in done.stdout


@needs_compiler
@needs_uvicorn
def test_the_websocket_table_shows_both_protocols_of_uvicorn() -> None:
    arguments = ["--runs", "1", "--seconds", "0.2", *ONCE, "--only", "uvicorn *", "--only", "hybrid epoll"]
    done = benchmarks("websocket", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\nuvicorn websockets " in done.stdout
    assert "\nuvicorn websockets-sansio " in done.stdout


@needs_compiler
def test_the_fairness_tables_show_short_requests_beside_busy_ones_and_alone() -> None:
    only = ["--only", "stays hybrid epoll wsgi", "--only", "uniform hybrid epoll wsgi kept"]
    done = benchmarks("fairness", "--runs", "1", "--seconds", "0.3", *ONCE, *only)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Fairness, stays" in done.stdout
    assert "Fairness, moves" not in done.stdout
    assert "\nhybrid epoll wsgi kept " in done.stdout


@needs_compiler
def test_the_lifecycle_tables_tell_what_happened_to_each_kind_of_clients(tmp_path: Path) -> None:
    raw = tmp_path / "figures.json"
    only = [word for part in ("reload", "kill", "stop") for word in ("--only", f"{part} hybrid epoll asgi")]
    done = benchmarks("lifecycle", "--runs", "1", "--seconds", "0.4", "--json", str(raw), *only)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(raw.read_text())["suites"]["lifecycle"]["servers"]
    assert set(found) == {
        f"{part} hybrid epoll asgi {how}" for part in ("reload", "kill", "stop") for how in ("kept", "anew")
    }
    assert len(found["kill hybrid epoll asgi kept"]["rounds"][0]["kills"]) == 1


@needs_compiler
@needs_uvicorn
def test_the_footprint_table_adds_up_all_processes(tmp_path: Path) -> None:
    raw = tmp_path / "figures.json"
    done = benchmarks(
        "footprint", "--runs", "1", "--seconds", "0.3", *ONCE, "--json", str(raw), "--only", "small uvicorn"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sample = json.loads(raw.read_text())["suites"]["footprint"]["servers"]["small uvicorn"]["rounds"]["0"]
    assert sample["processes"] >= 5
    assert sample["pss"] > sample["largest"] > 0


def test_the_balance_table_counts_the_connections_of_the_most_loaded_worker(tmp_path: Path) -> None:
    raw = tmp_path / "figures.json"
    only = [word for kind in ("TCP", "UNIX") for word in ("--only", f"burst hybrid epoll {kind}")]
    done = benchmarks("balance", "--runs", "1", "--seconds", "0.3", "--json", str(raw), *only)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Balance, all at once" in done.stdout
    found = json.loads(raw.read_text())["suites"]["balance"]["servers"]
    assert set(found) == {"burst hybrid epoll TCP", "burst hybrid epoll UNIX"}
    assert all(len(one["most loaded"]) == 3 and max(one["most loaded"]) <= 8 for one in found.values())
    assert re.search(r"\nhybrid epoll UNIX +3 +\d\.\d\d ", done.stdout)


def test_the_scale_tables_tell_what_connections_and_workers_cost(tmp_path: Path) -> None:
    raw = tmp_path / "figures.json"
    only = [word for name in ("hybrid epoll websocket", "hybrid epoll 4") for word in ("--only", name)]
    done = benchmarks("scale", "--runs", "1", "--seconds", "0.3", "--json", str(raw), *only)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(raw.read_text())["suites"]["scale"]["servers"]
    connections, workers = (
        found[f"{part} hybrid epoll {name}"]["rounds"]["0"]
        for part, name in (("connections", "websocket"), ("workers", "4"))
    )
    assert 100 < connections["pss"] < 100_000
    assert workers["descriptors"] > 4
    assert re.search(r"\nhybrid epoll websocket +\d+\.\d\d +\d+\.\d\d\n", done.stdout)
    assert re.search(r"\nhybrid epoll 4 +\d+\.\d\d +\d+\.\d +\d+\.\d\d +\d+$", done.stdout, re.MULTILINE)


@needs_compiler
def test_the_offload_tables_compare_hybrid_with_another_pool(tmp_path: Path) -> None:
    raw = tmp_path / "figures.json"
    parts = ("calls", "scaling")
    only = [
        word
        for name in ("hybrid epoll", "ProcessPoolExecutor")
        for part in parts
        for word in ("--only", f"{part} {name}")
    ]
    done = benchmarks("offload", "--runs", "1", "--seconds", "0.2", *ONCE, "--json", str(raw), *only)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(raw.read_text())["suites"]["offload"]["servers"]
    assert set(found) == {f"{part} {name}" for part in parts for name in ("hybrid epoll", "ProcessPoolExecutor")}
    assert found["calls hybrid epoll"]["rounds"]["0"]["alone"]["calls"] > 1
    assert found["scaling hybrid epoll"]["rounds"]["0"]["two"]["calls"] > 1


def test_the_offload_tables_have_payloads_from_greenlets_too() -> None:
    done = benchmarks("offload", "--runs", "1", "--seconds", "0.2", *ONCE, "--only", "payloads hybrid gevent")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bytes as their argument" in done.stdout
    assert "bytes as their result" in done.stdout


@needs_compiler
def test_the_offload_tables_show_a_light_endpoint_beside_one_that_computes(tmp_path: Path) -> None:
    raw = tmp_path / "figures.json"
    only = ["--only", "service hybrid.offload"]
    done = benchmarks("offload", "--runs", "1", "--seconds", "0.3", *ONCE, "--json", str(raw), *only)
    assert done.returncode == 0, done.stdout + done.stderr
    sample = json.loads(raw.read_text())["suites"]["offload"]["servers"]["service hybrid.offload"]["rounds"]["0"]
    assert sample["light"]["answers"] > 0
    assert sample["light"]["failed"] == sample["heavy"]["failed"] == {}


def test_a_pool_that_fails_is_listed_with_its_reason() -> None:
    code = (
        "import sys; from benchmarks.offload import blocking; from benchmarks.offload.task import Task\n"
        "def submit(function, *arguments): raise OSError('no more processes')\n"
        "print(blocking.measure(Task('nothing'), submit).error)"
    )
    assert python(code).stdout == "OSError: no more processes\n"


def test_a_pool_with_fewer_processes_than_asked_for_is_noticed() -> None:
    """Its figures would be those of one process."""
    code = (
        "from benchmarks.offload import blocking; from benchmarks.offload.task import Task\n"
        "class Seven:\n def result(self): return 7\n"
        "print(blocking.measure(Task('compute', pool=(0, 0)), lambda *call: Seven()).error)"
    )
    assert python(code).stdout == "RuntimeError: 2 calls at a time ran in 1 process(es)\n"


def test_a_wrong_result_of_a_pool_is_noticed() -> None:
    code = (
        "import concurrent.futures; from benchmarks.offload import blocking; from benchmarks.offload.task import Task\n"
        "class Wrong:\n def result(self): return b'short'\n"
        "print(blocking.measure(Task('result', 64, seconds=0.1), lambda *call: Wrong()).error)"
    )
    assert python(code).stdout == "ValueError: result has returned a wrong result\n"


@needs_compiler
@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ((), "closed"),
        ((b"HTTP/1.1 500 Broken\r\nContent-Length: 3\r\n\r\nhi!",), "wrong"),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, Venus!",), "wrong"),
        ((b"HTTP/1.1 200 OK\r\n\r\nHello, World!",), "wrong"),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello",), "timeout"),
    ],
)
def test_the_http_client_counts_failures_by_kind_and_goes_on(answers: tuple[bytes, ...], kind: str) -> None:
    with answering(*answers) as port:
        failed = _failures_on(port, timeout=0.1 if kind == "timeout" else 5.0)
    assert set(failed) == {kind}
    assert failed[kind] > 1


@needs_compiler
def test_the_http_client_tells_a_reset_from_an_answer_that_is_cut() -> None:
    with answering(ending="resets") as port:
        assert set(_failures_on(port)) == {"reset"}
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello", ending="closes") as port:
        assert set(_failures_on(port)) == {"cut"}


@needs_compiler
def test_the_http_client_opens_another_connection_where_the_server_announces_the_close() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\nConnection: close\r\n\r\nHello, World!"
    with answering(answer, ending="closes") as port:
        assert _failures_on(port, anew=False) == {}


@needs_compiler
def test_a_request_that_crosses_an_unannounced_close_has_failed() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, World!"
    with answering(answer, ending="closes") as port:
        failed = _failures_on(port, anew=False)
    assert failed
    assert set(failed) <= {"closed", "reset"}


@needs_compiler
def test_the_http_client_counts_who_is_refused() -> None:
    with socket.socket() as silent:  # taken, so that nobody else gets it, and not listened on
        silent.bind(("127.0.0.1", 0))
        assert set(_failures_on(silent.getsockname()[1])) == {"refused"}


def _failures_on(port: int, *, anew: bool = True, timeout: float = 5.0) -> dict[str, int]:
    """What one client of `httpload` sees in a second: kind of failure -> how many."""
    code = (
        "import json, sys; from benchmarks.service.httpload import Clients, run;"
        "clients = Clients(connections=1, anew=sys.argv[2] == 'True', timeout=float(sys.argv[3]));"
        "found = run(clients, int(sys.argv[1]), 1);"
        "print(json.dumps(found.failed))"
    )
    done = python(code, str(port), str(anew), str(timeout))
    assert done.returncode == 0, done.stderr
    failed: dict[str, int] = json.loads(done.stdout)
    return failed


@needs_wrk
def test_answers_of_a_wrong_status_make_a_measurement_fail() -> None:
    """What wrk counts as answers too."""
    code = (
        "import sys; from benchmarks.web import wrk;"
        "wrk.run(sys.argv[1], connections=1, seconds=1, core=None, request=('same', 'GET'))"
    )
    with answering(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n") as port:
        done = python(code, f"http://127.0.0.1:{port}/")
    assert "LoadFailed: wrk counted" in done.stderr
    assert "answers of status 400 or above" in done.stderr


@pytest.mark.parametrize("answer", [b"HTTP/1.1 500 Broken\r\nContent-Length: 3\r\n\r\nhi!", b"nonsense\r\n\r\n"])
def test_a_server_that_answers_wrongly_is_not_measured(answer: bytes) -> None:
    code = (
        "import sys; from benchmarks.web.exchange import Exchange;"
        "Exchange('/', b'hi!').check(int(sys.argv[1]), secure=False)"
    )
    with answering(answer) as port:
        done = python(code, str(port))
    assert "LoadFailed: GET /" in done.stderr


@needs_compiler
def test_the_websocket_client_answers_pings_between_its_messages() -> None:
    pongs: list[threading.Event] = []

    def echo(connection: ServerConnection) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            for message in connection:
                if len(pongs) < 3:
                    pongs.append(connection.ping())
                connection.send(message)

    code = "import sys; from benchmarks.web.clients import WebSockets; WebSockets().check(int(sys.argv[1]))"
    with serve(echo, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        done = python(code, str(server.socket.getsockname()[1]))
        server.shutdown()
        thread.join(DEADLINE)
    assert done.returncode == 0, done.stderr
    assert [pong.is_set() for pong in pongs] == [True, True, True]


@needs_compiler
@pytest.mark.parametrize(
    ("answers", "complaint"),
    [
        ((UPGRADED, b"\x82\x40" + bytes(64)), "a wrong byte came back"),
        ((UPGRADED, b"\x89\x00" + b"\x82\x40" + bytes(64)), "a wrong byte came back"),
        ((UPGRADED, b"\x88\x00"), "a wrong byte came back"),
        ((b"HTTP/1.1 403 Forbidden\r\n\r\n",), "the upgrade was refused: HTTP/1.1 403 Forbidden"),
        ((UPGRADED.replace(b"s3pP", b"S3PP"),), "the upgrade was refused: HTTP/1.1 101 Switching Protocols"),
    ],
)
def test_the_websocket_client_notices_what_is_wrong(answers: tuple[bytes, ...], complaint: str) -> None:
    code = "import sys; from benchmarks.web.clients import WebSockets; WebSockets().check(int(sys.argv[1]))"
    with answering(*answers) as port:
        done = python(code, str(port))
    assert f"LoadFailed: {complaint}" in done.stderr
