"""`--forwarded-allow-ips`: what applications are told of requests through a proxy, and what they never see."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.clients import connected, read_all, read_exactly
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import serving
from support.websocket import HANDSHAKE
from support.wsgi import read_answer, send_request

LOOPS_HERE = [loop for loop in ("epoll", "asyncio", "gevent") if loop in LOOPS]
PLACES = [(loop, interface) for loop in LOOPS_HERE for interface in ("wsgi", "asgi")]
TOLD = ("x-forwarded-for: 198.51.100.1, 192.0.2.7:99", "x-forwarded-proto: https", "x-forwarded-host: shop.test")
STANDARD = 'forwarded: for="[2001:db8::7]:99";proto=https;host=shop.test'
DOUBTFUL = {
    "Forwarded cannot be parsed": ('forwarded: for="192.0.2.7',),
    "name different clients": ("forwarded: for=192.0.2.7", "x-forwarded-for: 192.0.2.8"),
    "name different schemes": ("forwarded: for=192.0.2.7;proto=http", "x-forwarded-proto: https"),
    "name different hosts": ("forwarded: for=192.0.2.7;host=a", "x-forwarded-host: b"),
}  # what the refusal says -> fields


@pytest.fixture(params=PLACES, ids="-".join)
def place(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param  # type: ignore[no-any-return]


@contextlib.contextmanager
def running(place: tuple[str, str], cwd: Path, trusted: str, *arguments: str) -> Iterator[HybridProcess]:
    loop, interface = place
    options = ("--workers", "1", "--loop", loop, "--interface", interface, "--access-log", "%(h)s %(U)s %(s)s %(X)s")
    with serving(f"witness:{interface}", *options, "--forwarded-allow-ips", trusted, *arguments, cwd=cwd) as process:
        yield process


def facts(address: Any, *fields: str) -> dict[str, Any]:
    with connected(address) as sock:
        send_request(sock, "/facts", *fields)
        return dict(json.loads(read_answer(sock).body))


def pick(found: dict[str, Any]) -> list[Any]:
    return [found[name] for name in ("client", "scheme", "host")]


def test_a_trusted_proxy_tells_client_scheme_and_host(place: tuple[str, str], tmp_path: Path) -> None:
    with running(place, tmp_path, "127.0.0.1") as process:
        assert pick(facts(process.address, *TOLD)) == [["192.0.2.7", 99], "https", "shop.test"]
        assert pick(facts(process.address, STANDARD)) == [["2001:db8::7", 99], "https", "shop.test"]
        found = facts(process.address)
        assert (found["client"][0], found["scheme"], found["host"]) == ("127.0.0.1", "http", "test")


def test_anybody_else_tells_nothing(place: tuple[str, str], tmp_path: Path) -> None:
    with running(place, tmp_path, "192.0.2.1,unix") as process:
        for fields in (TOLD, (STANDARD,), *DOUBTFUL.values()):
            found = facts(process.address, *fields)
            assert (found["client"][0], found["scheme"], found["host"]) == ("127.0.0.1", "http", "test")


def test_each_request_of_a_connection_has_its_own_client(place: tuple[str, str], tmp_path: Path) -> None:
    with running(place, tmp_path, "127.0.0.0/8") as process, connected(process.address) as sock:
        for number in (1, 2, 2, 3):
            send_request(sock, "/facts", f"x-forwarded-for: 192.0.2.{number}")
            assert json.loads(read_answer(sock).body)["client"] == [f"192.0.2.{number}", 0]
        send_request(sock, "/facts")
        assert json.loads(read_answer(sock).body)["client"][0] == "127.0.0.1"


def test_what_can_be_read_in_two_ways_does_not_reach_the_application(place: tuple[str, str], tmp_path: Path) -> None:
    with running(place, tmp_path, "127.0.0.1") as process:
        for reason, fields in DOUBTFUL.items():
            with connected(process.address) as sock:
                send_request(sock, "/first", "x-forwarded-for: 192.0.2.7")
                assert read_answer(sock).header("x-page") == "/first"
                send_request(sock, "/facts", *fields)
                answer = read_all(sock)
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert b"x-page" not in answer
            assert reason.encode() in answer
        assert process.stop() == 0
        assert process.stdout.splitlines() == ["192.0.2.7 /first 200 whole", "127.0.0.1 /facts 400 refused"] * 4


def test_behind_a_proxy_on_a_unix_socket(place: tuple[str, str], tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with running(place, tmp_path, "unix", "--bind", f"unix:{path}"):
        assert pick(facts(path, *TOLD)) == [["192.0.2.7", 99], "https", "shop.test"]
        assert pick(facts(path)) == [None, "http", "test"]
        with connected(path) as sock:
            send_request(sock, "/facts", *DOUBTFUL["name different clients"])
            assert read_answer(sock).status == 400


def test_a_unix_socket_is_not_trusted_unless_it_is_named(place: tuple[str, str], tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with running(place, tmp_path, "127.0.0.1", "--bind", f"unix:{path}"):
        assert pick(facts(path, *TOLD)) == [None, "http", "test"]


@pytest.mark.parametrize("loop", LOOPS_HERE)
def test_a_websocket_through_a_proxy(loop: str, tmp_path: Path) -> None:
    with running((loop, "asgi"), tmp_path, "127.0.0.1") as process:
        with connected(process.address) as sock:
            sock.sendall(HANDSHAKE + "\r\n".join(TOLD).encode() + b"\r\n\r\n")
            found = json.loads(_first_message(sock))
            assert pick(found) == [["192.0.2.7", 99], "wss", "shop.test"]
        with connected(process.address) as sock:
            sock.sendall(HANDSHAKE + "\r\n".join(DOUBTFUL["name different hosts"]).encode() + b"\r\n\r\n")
            assert read_all(sock).startswith(b"HTTP/1.1 400 ")


def _first_message(sock: Any) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += read_exactly(sock, 1)
    assert head.startswith(b"HTTP/1.1 101 ")
    size = read_exactly(sock, 2)[1]
    return read_exactly(sock, size if size < 126 else int.from_bytes(read_exactly(sock, 2)))
