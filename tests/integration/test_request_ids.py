"""`--request-id-header` on every loop: one id in the request, the response, the logs and the report of stacks."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.changes import PLACES
from support.clients import connected, read_all
from support.loops import LOOPS
from support.operator import operating
from support.process import HybridProcess
from support.service import eventually, serving
from support.websocket import HANDSHAKE, close_frame
from support.wsgi import read_answer, send_request

CLOSING = b"\x88\x02\x03\xe8"  # the server's close frame, with 1000
MADE = re.compile(r"[0-9a-f]{32}")


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
    target = "talkative:asgi" if interface == "asgi" else "talkative:wsgi"
    options = ("--workers", "1", "--loop", loop, "--request-id-header", "X-Request-ID", "--access-log", "json")
    with serving(target, *options, *more, *arguments, cwd=cwd) as process:
        yield process


@pytest.fixture(scope="module")
def trusting(place: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[HybridProcess]:
    """A service that trusts its peers, and captures output."""
    options = ("--forwarded-allow-ips", "127.0.0.1", "--log-capture")
    with running(place, tmp_path_factory.mktemp("ids"), *options) as process:
        yield process


def logged(process: HybridProcess, request_id: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in process.stdout.splitlines()]
    return [line for line in lines if line["request_id"] == request_id]


def test_the_id_of_a_trusted_proxy_is_everywhere(trusting: HybridProcess) -> None:
    with connected(trusting.address) as sock:
        for number in range(3):  # on one connection, with the same and with other fields
            given = f"trace,{number // 2};a=b"
            send_request(sock, f"/print?{number}", f"x-request-id: {given}")
            answer = read_answer(sock)
            assert (answer.body.decode(), answer.header("x-request-id")) == (given, given)
    eventually(lambda: len(logged(trusting, "trace,0;a=b")) >= 2, "lines of the access log")
    trusting.wait_for_log(r"request=trace,1;a=b stdout: to stdout")
    trusting.wait_for_log(r"request=trace,1;a=b stderr: to stderr")


def test_a_failure_has_the_id_in_its_record_and_in_its_response(trusting: HybridProcess) -> None:
    with connected(trusting.address) as sock:
        send_request(sock, "/fail", "x-request-id: failing")
        answer = read_answer(sock)
    assert answer.status == 500
    assert answer.header("x-request-id") == "failing"
    trusting.wait_for_log(r"ERROR .* request=failing the application failed at GET /fail")


@pytest.mark.parametrize(
    "fields",
    [
        (),
        ("x-request-id: two words",),
        ("x-request-id: " + "x" * 129,),
        ("x-request-id: \xe9",),
        ("x-request-id: one", "x-request-id: two"),
        ("x-request-id:",),
    ],
    ids=["none", "space", "long", "not ASCII", "two", "empty"],
)
def test_an_id_that_is_not_sane_is_replaced(fields: tuple[str, ...], trusting: HybridProcess) -> None:
    with connected(trusting.address) as sock:
        send_request(sock, "/", *fields)
        answer = read_answer(sock)
    made = answer.header("x-request-id")
    assert made is not None
    assert MADE.fullmatch(made)
    assert answer.body.decode() == made


def test_the_id_of_a_stranger_is_replaced_and_each_request_has_another(place: tuple[str, str], tmp_path: Path) -> None:
    with running(place, tmp_path, "--underscore-headers") as process:
        found = set()
        with connected(process.address) as sock:
            for _ in range(3):
                send_request(sock, "/", "x-request-id: forged", "x_request_id: forged")
                answer = read_answer(sock)
                assert answer.body.decode() == answer.header("x-request-id")
                found.add(answer.body.decode())
        assert len(found) == 3
        assert all(MADE.fullmatch(one) for one in found)


def test_a_request_in_progress_is_shown_with_its_id(place: tuple[str, str], tmp_path: Path) -> None:
    options = ("--log-capture", "--forwarded-allow-ips", "127.0.0.1")
    with running(place, tmp_path, *options) as process, connected(process.address) as sock:
        send_request(sock, "/wait", "x-request-id: waiting")
        process.wait_for_log("request=waiting stdout: waits")
        with operating(process) as operator:
            assert [one["id"] for one in operator.told_by_loop()["requests"]] == ["waiting"]
        with connected(process.address) as other:
            send_request(other, "/go")
            read_answer(other)
        read_answer(sock)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_websocket_has_an_id_too(loop: str, tmp_path: Path) -> None:
    with running((loop, "asgi"), tmp_path, "--log-capture") as process:
        with connected(process.address) as sock:
            sock.sendall(HANDSHAKE.replace(b"/chat?room=1", b"/print") + b"\r\n")
            answer = b""
            while not answer.endswith(CLOSING):
                answer += sock.recv(65536)
            sock.sendall(close_frame(1000))
            read_all(sock)
        given = re.search(rb"(?i)\r\nx-request-id: ([0-9a-f]{32})\r\n", answer)
        assert given is not None
        assert given[1] in answer.partition(b"\r\n\r\n")[2]  # in a message: the scope has it
        process.wait_for_log(rf"request={given[1].decode()} stdout: to stdout")
        eventually(lambda: logged(process, given[1].decode()), "the access log has it")


def test_skipped_paths_are_not_in_the_access_log(tmp_path: Path) -> None:
    options = ("--access-log-skip", "/livez", "--access-log-skip", "/static/")
    with running(("epoll", "wsgi"), tmp_path, "--log-capture", *options) as process:
        with connected(process.address) as sock:
            for target in ("/livez", "/livez?verbose", "/static/a", "/livez/more", "/static"):
                send_request(sock, target)
                read_answer(sock)
        with connected(process.address) as sock:
            sock.sendall(b"GET /livez HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n")
            read_all(sock)
        eventually(lambda: process.stdout.count("\n") >= 2, "two lines")
        assert process.stop() == 0
    assert [json.loads(line)["target"] for line in process.stdout.splitlines()] == ["/livez/more", "/static"]
