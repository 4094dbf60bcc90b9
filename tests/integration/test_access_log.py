"""`--access-log` on every loop: a line for each response, however it ended, and each of its fields."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.certificates import certificates
from support.changes import ONE_EACH, PLACES
from support.clients import connected, read_all, read_exactly
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import eventually, serving
from support.websocket import HANDSHAKE, close_frame
from support.wsgi import read_answer, send_request

from hybrid.workers.contract.exits import Exit

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close(2) sends a reset


@pytest.fixture(
    scope="module",
    params=[*PLACES, *((loop, "threads") for loop in LOOPS if loop in ("epoll", "asyncio"))],
    ids="-".join,
)
def place(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param  # type: ignore[no-any-return]


@contextlib.contextmanager
def running(place: tuple[str, str], cwd: Path, *arguments: str) -> Iterator[HybridProcess]:
    loop, interface = place
    more = ("--threads", "2") if interface == "threads" else ()
    target = "witness:asgi" if interface == "asgi" else "witness:wsgi"
    options = ("--workers", "1", "--loop", loop, "--interface", target.partition(":")[2])
    with serving(target, *options, *more, *arguments, cwd=cwd) as process:
        yield process


@pytest.fixture(scope="module")
def service(place: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[HybridProcess]:
    """One service for all tests that use JSON and stop nothing. Each test waits for all of its lines."""
    with running(place, tmp_path_factory.mktemp("log"), "--access-log", "json", "--max-body-size", "100") as process:
        yield process


@pytest.fixture
def mark(service: HybridProcess) -> int:
    """The number of lines written before the test."""
    return service.stdout.count("\n")


def lines(process: HybridProcess, count: int, since: int = 0) -> list[str]:
    """Wait for `count` lines in all, from number `since` on, and return them."""
    eventually(lambda: process.stdout.count("\n") >= since + count, f"{count} lines in {process.stdout!r}")
    found = process.stdout.splitlines()[since:]
    assert len(found) == count, found
    return found


def last(process: HybridProcess, count: int, since: int = 0) -> dict[str, Any]:
    """Wait for `count` lines of JSON in all, from number `since` on, and return the last."""
    return dict(json.loads(lines(process, count, since)[-1]))


def pick(fields: dict[str, Any], *names: str) -> list[Any]:
    return [fields[name] for name in names]


def ask(process: HybridProcess, request: bytes) -> bytes:
    with connected(process.address) as sock:
        sock.sendall(request)
        return read_all(sock)


def body_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def test_a_json_line_has_the_request_and_its_response(service: HybridProcess, mark: int) -> None:
    with connected(service.address) as sock:
        port = sock.getsockname()[1]
        send_request(sock, "/a%20b?c=d", "user-agent: me", "referer: http://r/", "authorization: Basic YW5uOng=")
        assert read_answer(sock).body == b"hello"
        send_request(sock, "/upload", method="POST", body=b"abc")
        assert read_answer(sock).body == b"3"
        send_request(sock, "/", method="HEAD")
        assert read_answer(sock, "HEAD").body == b""
        sock.sendall(b"GET http://other.test/x HTTP/1.0\r\n\r\n")
        assert read_answer(sock).body == b"hello"
    first, upload, head, old = (json.loads(line) for line in lines(service, 4, mark))
    worker = service.worker_pids()[0]
    stamp, seconds = first.pop("time"), first.pop("seconds")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stamp)
    assert 0 < seconds < 10
    assert first == {
        "client": "127.0.0.1",
        "port": port,
        "user": "ann",
        "scheme": "http",
        "host": "test",
        "method": "GET",
        "target": "/a%20b?c=d",
        "version": "1.1",
        "status": 200,
        "bytes": 5,
        "end": "whole",
        "referer": "http://r/",
        "user_agent": "me",
        "service": "web",
        "slot": 0,
        "generation": 1,
        "pid": worker,
    }
    assert pick(upload, "method", "target", "bytes", "referer", "user_agent") == ["POST", "/upload", 1, None, None]
    assert pick(head, "method", "status", "bytes") == ["HEAD", 200, 0]
    assert pick(old, "target", "version", "host") == ["http://other.test/x", "1.0", "other.test"]


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("common", r'127\.0\.0\.1 - - \[.{26}\] "GET /x\?y HTTP/1\.1" 200 5'),
        ("combined", r'127\.0\.0\.1 - - \[.{26}\] "GET /x\?y HTTP/1\.1" 200 5 "http://r/" "me"'),
        (
            "%(m)s %(U)s %(q)s %(B)s %(X)s %({x-page}o)s %({content-length}o)s %({server}o)s %({host}i)s %(L)s",
            r"GET /x y 5 whole /x (5|-) hybrid test 0\.\d{6}",
        ),
    ],
    ids=["common", "combined", "format"],
)
@pytest.mark.parametrize("place", ONE_EACH, ids="-".join)
def test_every_form(place: tuple[str, str], tmp_path: Path, form: str, line: str) -> None:
    with running(place, tmp_path, "--access-log", form) as process:
        with connected(process.address) as sock:
            send_request(sock, "/x?y", "user-agent: me", "referer: http://r/")
            assert read_answer(sock).status == 200
        assert re.fullmatch(line, lines(process, 1)[0]), process.stdout


def test_an_incomplete_response_has_its_reason(service: HybridProcess, mark: int) -> None:
    with connected(service.address) as sock:
        send_request(sock, "/half")
        assert b"part" in read_all(sock)
    assert pick(last(service, 1, mark), "target", "status", "bytes", "end") == ["/half", 200, 4, "cut"]
    with connected(service.address) as sock:
        send_request(sock, "/endless")
        read_exactly(sock, 200_000)
        reset(sock)
    gone = last(service, 2, mark)
    assert pick(gone, "target", "status", "end") == ["/endless", 200, "gone"]
    assert gone["bytes"] >= 190_000
    with connected(service.address) as sock:
        sock.sendall(b"POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\nexpect: 100-continue\r\n\r\n")
        assert read_exactly(sock, 25).startswith(b"HTTP/1.1 100 ")
        reset(sock)
    assert pick(last(service, 3, mark), "target", "status", "bytes", "end") == ["/upload", None, 0, "gone"]


def test_a_refused_request_has_a_line(service: HybridProcess, mark: int) -> None:
    answer = ask(service, b"GET /x HTTP/1.1\r\nuser-agent: me\r\n\r\n")
    refused = last(service, 1, mark)
    assert pick(refused, "method", "target", "version", "status", "user_agent", "end") == [
        *("GET", "/x", "1.1", 400, "me", "refused")
    ]
    assert refused["bytes"] == len(body_of(answer))
    ask(service, b"POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: 101\r\n\r\n")
    assert pick(last(service, 2, mark), "method", "target", "status") == ["POST", "/upload", 413]
    ask(service, b"GET /x HTTP/1.1\r\nhost: a\r\nx: y\r\nno colon\r\n\r\n")
    assert pick(last(service, 3, mark), "method", "target", "status", "host") == ["GET", "/x", 400, "a"]
    ask(service, b"nonsense\r\n\r\n")
    assert pick(last(service, 4, mark), "method", "target", "version", "status") == [None, None, None, 400]
    ask(service, b"POST /upload HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\nx\r\n")
    assert pick(last(service, 5, mark), "method", "target", "status", "end") == ["POST", "/upload", 400, "refused"]


def test_consecutive_requests_have_lines_in_their_order(service: HybridProcess, mark: int) -> None:
    ask(service, b"".join(b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n" % number for number in range(5)) + b"\0\r\n\r\n")
    found = [pick(json.loads(line), "target", "status", "end") for line in lines(service, 6, mark)]
    assert found == [*([f"/{number}", 200, "whole"] for number in range(5)), [None, 400, "refused"]]


def test_a_response_ended_by_a_timeout_has_a_line(place: tuple[str, str], tmp_path: Path) -> None:
    """A head that arrives too late is refused; a response that outlives the grace period is cut."""
    limits = ("--header-timeout", "0.3", "--graceful-timeout", "2")
    with running(place, tmp_path, "--access-log", "%(U)s %(s)s %(X)s", *limits) as process:
        ask(process, b"GET /late HTTP/1.1\r\nhost")
        assert lines(process, 1) == ["/late 408 refused"]
        with connected(process.address) as sock:
            send_request(sock, "/endless")
            read_exactly(sock, 100_000)
            assert process.stop() == Exit.OK
        assert process.stdout == "/late 408 refused\n/endless 200 cut\n"


@pytest.mark.parametrize("loop", LOOPS)
def test_a_websocket_has_a_line_at_its_end(loop: str, tmp_path: Path) -> None:
    with running((loop, "asgi"), tmp_path, "--access-log", "%(U)s %(s)s %(B)s %(X)s %({x-page}o)s") as process:
        with open_session(process, b"/facts") as sock:
            rest = read_exactly(sock, 2)
            rest += read_exactly(sock, rest[1] if rest[1] < 126 else 2)
            if rest[1] == 126:
                rest += read_exactly(sock, int.from_bytes(rest[2:4], "big"))
            assert process.stdout == ""
            sock.sendall(close_frame(1000))
            rest += read_all(sock)
        assert lines(process, 1) == [f"/facts 101 {len(rest)} whole /facts"]
        with open_session(process, b"/stay") as sock:
            assert process.stdout.count("\n") == 1
            reset(sock)
        assert lines(process, 2)[-1].startswith("/stay 101 ")
        assert lines(process, 2)[-1].endswith(" gone /stay")
        answer = ask(process, HANDSHAKE.replace(b"/chat?room=1", b"/closed") + b"\r\n")
        assert lines(process, 3)[-1] == f"/closed 403 {len(body_of(answer))} whole -"
        with open_session(process, b"/flood") as sock:
            read_exactly(sock, 200_000)
            reset(sock)
        assert lines(process, 4)[-1].endswith(" gone /flood")


@contextlib.contextmanager
def open_session(process: HybridProcess, path: bytes) -> Iterator[socket.socket]:
    with connected(process.address) as sock:
        sock.sendall(HANDSHAKE.replace(b"/chat?room=1", path) + b"\r\n")
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += read_exactly(sock, 1)
        assert head.startswith(b"HTTP/1.1 101 ")
        yield sock


@pytest.mark.parametrize("loop", LOOPS)
def test_client_and_scheme_are_the_values_from_the_proxy(loop: str, tmp_path: Path) -> None:
    form = "%(h)s %({REMOTE_PORT}e)s %({wsgi.url_scheme}e)s %({host}i)s %(X)s"
    fields = ("x-forwarded-for: 192.0.2.7:99", "x-forwarded-proto: https", "x-forwarded-host: shop.test")
    options = ("--access-log", form, "--forwarded-allow-ips", "127.0.0.1", "--forwarded-host")
    with running((loop, "asgi"), tmp_path, *options) as process:
        with connected(process.address) as sock:
            send_request(sock, "/", *fields)
            assert read_answer(sock).status == 200
        assert lines(process, 1) == ["192.0.2.7 99 https shop.test whole"]


def test_over_tls_the_scheme_is_https(tmp_path: Path) -> None:
    made = certificates()
    options = ("--access-log", "json", "--certfile", str(made.certificate), "--keyfile", str(made.key))
    with running(("epoll", "asgi"), tmp_path, *options) as process:
        context = made.client_context()
        with connected(process.address) as plain, context.wrap_socket(plain, server_hostname="localhost") as sock:
            send_request(sock, "/")
            assert read_answer(sock).status == 200
        assert last(process, 1)["scheme"] == "https"


def test_nothing_is_written_without_the_option(tmp_path: Path) -> None:
    with running(("epoll", "wsgi"), tmp_path) as process:
        with connected(process.address) as sock:
            send_request(sock, "/")
            assert read_answer(sock).status == 200
        assert process.stop() == Exit.OK
        assert process.stdout == ""
