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
UNREADABLE = 'forwarded: for="192.0.2.7'
UNHEARD = ("x-forwarded-port: 8443", "x-forwarded-prefix: /evil", "script_name: /evil", "x-forwarded-server: evil")


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


def test_a_trusted_proxy_tells_client_and_scheme_but_not_the_host(place: tuple[str, str], tmp_path: Path) -> None:
    with running(place, tmp_path, "127.0.0.1") as process:
        assert pick(facts(process.address, *TOLD)) == [["192.0.2.7", 99], "https", "test"]
        found = facts(process.address)
        assert (found["client"][0], found["scheme"], found["host"]) == ("127.0.0.1", "http", "test")


def test_a_proxy_tells_the_host_where_that_is_asked_for(place: tuple[str, str], tmp_path: Path) -> None:
    with running(place, tmp_path, "127.0.0.1", "--forwarded-host") as process:
        assert pick(facts(process.address, *TOLD)) == [["192.0.2.7", 99], "https", "shop.test"]


def test_a_clients_own_forwarded_neither_counts_nor_locks_it_out(place: tuple[str, str], tmp_path: Path) -> None:
    with running(place, tmp_path, "127.0.0.1", "--forwarded-host") as process:
        for own in (STANDARD, UNREADABLE):
            assert pick(facts(process.address, own, *TOLD)) == [["192.0.2.7", 99], "https", "shop.test"]


def test_a_proxy_that_writes_forwarded(place: tuple[str, str], tmp_path: Path) -> None:
    options = ("--forwarded-headers", "forwarded", "--forwarded-host")
    with running(place, tmp_path, "127.0.0.1", *options) as process:
        assert pick(facts(process.address, STANDARD)) == [["2001:db8::7", 99], "https", "shop.test"]
        found = facts(process.address, *TOLD)
        assert (found["client"][0], found["scheme"], found["host"]) == ("127.0.0.1", "http", "test")


def test_ports_prefixes_and_other_headers_of_a_proxy_change_nothing(place: tuple[str, str], tmp_path: Path) -> None:
    with running(place, tmp_path, "127.0.0.1") as process, connected(process.address) as sock:
        send_request(sock, "/facts")
        plain = json.loads(read_answer(sock).body)
        send_request(sock, "/facts", *UNHEARD)
        assert json.loads(read_answer(sock).body) == plain


def test_anybody_else_tells_nothing(place: tuple[str, str], tmp_path: Path) -> None:
    with running(place, tmp_path, "192.0.2.1,unix", "--forwarded-host") as process:
        for fields in (TOLD, (STANDARD,), (UNREADABLE,)):
            found = facts(process.address, *fields)
            assert (found["client"][0], found["scheme"], found["host"]) == ("127.0.0.1", "http", "test")


def test_each_request_of_a_connection_has_its_own_client(place: tuple[str, str], tmp_path: Path) -> None:
    with running(place, tmp_path, "127.0.0.0/8") as process, connected(process.address) as sock:
        for number in (1, 2, 2, 3):
            send_request(sock, "/facts", f"x-forwarded-for: 192.0.2.{number}")
            assert json.loads(read_answer(sock).body)["client"] == [f"192.0.2.{number}", 0]
        send_request(sock, "/facts")
        assert json.loads(read_answer(sock).body)["client"][0] == "127.0.0.1"


def test_a_forwarded_that_cannot_be_parsed_does_not_reach_the_application(
    place: tuple[str, str], tmp_path: Path
) -> None:
    with running(place, tmp_path, "127.0.0.1", "--forwarded-headers", "forwarded") as process:
        with connected(process.address) as sock:
            send_request(sock, "/first", "forwarded: for=192.0.2.7")
            assert read_answer(sock).header("x-page") == "/first"
            send_request(sock, "/facts", UNREADABLE)
            answer = read_all(sock)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"x-page" not in answer
        assert b"Forwarded cannot be parsed" in answer
        assert process.stop() == 0
        assert process.stdout.splitlines() == ["192.0.2.7 /first 200 whole", "127.0.0.1 /facts 400 refused"]


def test_behind_a_proxy_on_a_unix_socket(place: tuple[str, str], tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with running(place, tmp_path, "unix", "--bind", f"unix:{path}"):
        assert pick(facts(path, *TOLD)) == [["192.0.2.7", 99], "https", "test"]
        assert pick(facts(path)) == [None, "http", "test"]


def test_a_unix_socket_is_not_trusted_unless_it_is_named(place: tuple[str, str], tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with running(place, tmp_path, "127.0.0.1", "--bind", f"unix:{path}"):
        assert pick(facts(path, *TOLD)) == [None, "http", "test"]


@pytest.mark.parametrize("loop", LOOPS_HERE)
def test_a_websocket_through_a_proxy(loop: str, tmp_path: Path) -> None:
    with running((loop, "asgi"), tmp_path, "127.0.0.1") as process, connected(process.address) as sock:
        sock.sendall(HANDSHAKE + "\r\n".join((*TOLD, UNREADABLE)).encode() + b"\r\n\r\n")
        assert pick(json.loads(_first_message(sock))) == [["192.0.2.7", 99], "wss", "example.test"]


@pytest.mark.parametrize("loop", LOOPS_HERE)
def test_a_websocket_with_a_forwarded_that_cannot_be_parsed_is_refused(loop: str, tmp_path: Path) -> None:
    options = ("--forwarded-headers", "forwarded")
    with running((loop, "asgi"), tmp_path, "127.0.0.1", *options) as process, connected(process.address) as sock:
        sock.sendall(HANDSHAKE + UNREADABLE.encode() + b"\r\n\r\n")
        assert read_all(sock).startswith(b"HTTP/1.1 400 ")


def _first_message(sock: Any) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += read_exactly(sock, 1)
    assert head.startswith(b"HTTP/1.1 101 ")
    size = read_exactly(sock, 2)[1]
    return read_exactly(sock, size if size < 126 else int.from_bytes(read_exactly(sock, 2)))
