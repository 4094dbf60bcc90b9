"""Clients that leave during a response: no error in the log, `gone` in the access log, on every loop."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.clients import connected, read_all, read_exactly
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import eventually, serving
from support.wsgi import send_request

pytest.importorskip("sse_starlette")
pytest.importorskip("quart")

CLIENTS = 100
STREAMS = ["/starlette/sse", "/starlette/streaming", "/fastapi/streaming", "/quart/streaming", "/plain/begun"]
POLLS = ["/starlette/poll", "/quart/poll", "/plain/poll", "/plain/cancel"]
THREADS = {**dict.fromkeys(LOOPS, "0"), **{f"{loop}-threads": "4" for loop in LOOPS if loop != "gevent"}}
_numbers = itertools.count()


@contextlib.contextmanager
def running(target: str, loop: str, cwd: Path, *arguments: str) -> Iterator[HybridProcess]:
    options = ("--workers", "1", "--loop", loop, "--access-log", "json")
    with serving(f"leaving:{target}", *options, *arguments, cwd=cwd) as process:
        yield process


@pytest.fixture(scope="module", params=LOOPS)
def asgi(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HybridProcess]:
    with running("asgi", str(request.param), tmp_path_factory.mktemp("asgi")) as process:
        yield process


@pytest.fixture(scope="module", params=THREADS)
def wsgi(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HybridProcess]:
    loop, options = str(request.param).partition("-")[0], ("--interface", "wsgi", "--threads", THREADS[request.param])
    with running("wsgi", loop, tmp_path_factory.mktemp("wsgi"), *options) as process:
        yield process


def own(path: str) -> str:
    """Return a target used by this test alone, to find its log lines."""
    return f"{path}?{next(_numbers)}"


def outcomes(process: HybridProcess, target: str, count: int = 1) -> list[tuple[int | None, str]]:
    """Wait until the access log has `count` lines for a target; return status and outcome of each."""

    def found() -> list[dict[str, Any]]:
        whole = process.stdout.rpartition("\n")[0]
        return [line for line in map(json.loads, whole.splitlines()) if line["target"] == target]

    eventually(lambda: len(found()) >= count, f"{count} lines of {target}")
    return [(line["status"], line["end"]) for line in found()]


def errors(process: HybridProcess, path: str) -> list[str]:
    """Return the error records for a path. The application's own path is without its name."""
    asked = path.partition("?")[0]
    return [line for line in process.lines if "ERROR" in line and asked in line]


@pytest.mark.parametrize("path", STREAMS)
def test_a_hundred_clients_leave_a_stream_without_an_error(asgi: HybridProcess, path: str) -> None:
    target = own(path)
    with contextlib.ExitStack() as clients:
        socks = [clients.enter_context(connected(asgi.address)) for _ in range(CLIENTS)]
        for sock in socks:
            send_request(sock, target)
        for sock in socks:
            read_exactly(sock, 20)
    assert outcomes(asgi, target, CLIENTS) == [(200, "gone")] * CLIENTS
    assert errors(asgi, target) == [], asgi.stderr


@pytest.mark.parametrize("path", POLLS)
def test_a_long_poll_that_returns_when_its_client_leaves_is_not_an_error(asgi: HybridProcess, path: str) -> None:
    target = own(path)
    with connected(asgi.address) as sock:
        send_request(sock, target)
        sock.shutdown(socket.SHUT_WR)
        rest = read_all(sock)
    if path == "/starlette/poll":  # it responds, and a half-closed client gets the response
        assert rest.endswith(b"you have left")
        assert outcomes(asgi, target) == [(200, "whole")]
    else:
        assert rest == b""
        assert outcomes(asgi, target) == [(None, "gone")]
    assert errors(asgi, target) == [], asgi.stderr


def test_a_half_closed_client_still_gets_a_response(asgi: HybridProcess) -> None:
    target = own("/plain/answer")
    with connected(asgi.address) as sock:
        send_request(sock, target)
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock).endswith(b"\r\n\r\nafter all")
    assert outcomes(asgi, target) == [(200, "whole")]


@pytest.mark.parametrize(("path", "record"), [("/crash", "LookupError"), ("/file", "FileNotFoundError")])
def test_an_application_that_crashes_after_its_client_has_left_is_logged(
    asgi: HybridProcess, path: str, record: str
) -> None:
    with connected(asgi.address) as sock:
        send_request(sock, f"/plain{path}")
    asgi.wait_for_log(f"the application failed at GET /plain{path}")
    asgi.wait_for_log(record)


def test_an_application_that_ignores_the_disconnect_and_returns_nothing_is_logged(asgi: HybridProcess) -> None:
    with connected(asgi.address) as sock:
        send_request(sock, "/plain/careless")
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock).startswith(b"HTTP/1.1 500 ")
    asgi.wait_for_log("the application returned with no response to GET /plain/careless")


def test_wsgi_generators_are_closed_without_an_error_when_clients_leave(wsgi: HybridProcess) -> None:
    target = own("/endless")
    for _ in range(10):
        with connected(wsgi.address) as sock:
            send_request(sock, target)
            read_exactly(sock, 1000)
    assert outcomes(wsgi, target, 10) == [(200, "gone")] * 10
    wsgi.wait_for_log("closed", count=10)
    assert errors(wsgi, target) == []


def test_a_wsgi_generator_that_fails_when_it_is_closed_is_logged(wsgi: HybridProcess) -> None:
    with connected(wsgi.address) as sock:
        send_request(sock, "/crash")
        read_exactly(sock, 1000)
    wsgi.wait_for_log("LookupError: a reason of its own")
