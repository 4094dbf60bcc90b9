"""`--forwarded-allow-ips`: the values that applications get for requests through a proxy, and those they never get.

Tests share four services. They differ in the trusted proxies and in the trusted fields.
"""

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
from support.service import eventually, serving
from support.websocket import HANDSHAKE
from support.wsgi import read_answer, send_request

LOOPS_HERE = [loop for loop in ("epoll", "asyncio", "gevent") if loop in LOOPS]
PLACES = [(loop, interface) for loop in LOOPS_HERE for interface in ("wsgi", "asgi")]
ASGI = [place for place in PLACES if place[1] == "asgi"]
TOLD = ("x-forwarded-for: 198.51.100.1, 192.0.2.7:99", "x-forwarded-proto: https", "x-forwarded-host: shop.test")
STANDARD = 'forwarded: for="[2001:db8::7]:99";proto=https;host=shop.test'
UNREADABLE = 'forwarded: for="192.0.2.7'
UNHEARD = ("x-forwarded-port: 8443", "x-forwarded-prefix: /evil", "script_name: /evil", "x-forwarded-server: evil")


@pytest.fixture(scope="module", params=PLACES, ids="-".join)
def place(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param  # type: ignore[no-any-return]


@contextlib.contextmanager
def running(place: tuple[str, str], cwd: Path, trusted: str, *arguments: str) -> Iterator[HybridProcess]:
    loop, interface = place
    options = ("--workers", "1", "--loop", loop, "--interface", interface, "--access-log", "%(h)s %(U)s %(s)s %(X)s")
    with serving(f"witness:{interface}", *options, "--forwarded-allow-ips", trusted, *arguments, cwd=cwd) as process:
        yield process


@pytest.fixture(scope="module")
def usual(place: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[HybridProcess]:
    """A service that trusts a network and its UNIX socket, with the default fields."""
    home = tmp_path_factory.mktemp("usual")
    addresses = ("--bind", "127.0.0.1:0", "--bind", f"unix:{home / 'socket'}")
    with running(place, home, "127.0.0.0/8,unix", *addresses) as process:
        yield process


@pytest.fixture(scope="module")
def hosted(place: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[HybridProcess]:
    """A service that trusts one address, and its host; it also has a UNIX socket."""
    home = tmp_path_factory.mktemp("hosted")
    addresses = ("--bind", "127.0.0.1:0", "--bind", f"unix:{home / 'socket'}")
    with running(place, home, "127.0.0.1", "--forwarded-host", *addresses) as process:
        yield process


@pytest.fixture(scope="module")
def standard(place: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[HybridProcess]:
    """A service behind a proxy that writes `Forwarded`."""
    options = ("--forwarded-headers", "forwarded", "--forwarded-host")
    with running(place, tmp_path_factory.mktemp("standard"), "127.0.0.1", *options) as process:
        yield process


@pytest.fixture(scope="module")
def elsewhere(place: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[HybridProcess]:
    """A service that trusts its UNIX socket and a remote proxy."""
    home = tmp_path_factory.mktemp("elsewhere")
    addresses = ("--bind", "127.0.0.1:0", "--bind", f"unix:{home / 'socket'}")
    with running(place, home, "192.0.2.1,unix", "--forwarded-host", *addresses) as process:
        yield process


def unix_path(process: HybridProcess) -> str:
    return next(name for name in process.addresses if name.startswith("unix:")).removeprefix("unix:")


def facts(address: Any, *fields: str) -> dict[str, Any]:
    with connected(address) as sock:
        send_request(sock, "/facts", *fields)
        return dict(json.loads(read_answer(sock).body))


def pick(found: dict[str, Any]) -> list[Any]:
    return [found[name] for name in ("client", "scheme", "host")]


def test_a_trusted_proxy_sets_client_and_scheme_but_not_the_host(usual: HybridProcess) -> None:
    assert pick(facts(usual.address, *TOLD)) == [["192.0.2.7", 99], "https", "test"]
    found = facts(usual.address)
    assert (found["client"][0], found["scheme"], found["host"]) == ("127.0.0.1", "http", "test")


def test_a_proxy_sets_the_host_if_configured(hosted: HybridProcess) -> None:
    assert pick(facts(hosted.address, *TOLD)) == [["192.0.2.7", 99], "https", "shop.test"]


def test_a_clients_own_forwarded_neither_counts_nor_locks_it_out(hosted: HybridProcess) -> None:
    for own in (STANDARD, UNREADABLE):
        assert pick(facts(hosted.address, own, *TOLD)) == [["192.0.2.7", 99], "https", "shop.test"]


def test_a_proxy_that_writes_forwarded(standard: HybridProcess) -> None:
    assert pick(facts(standard.address, STANDARD)) == [["2001:db8::7", 99], "https", "shop.test"]
    found = facts(standard.address, *TOLD)
    assert (found["client"][0], found["scheme"], found["host"]) == ("127.0.0.1", "http", "test")


def test_ports_prefixes_and_other_headers_of_a_proxy_change_nothing(usual: HybridProcess) -> None:
    with connected(usual.address) as sock:
        send_request(sock, "/facts")
        plain = json.loads(read_answer(sock).body)
        send_request(sock, "/facts", *UNHEARD)
        assert json.loads(read_answer(sock).body) == plain


def test_an_untrusted_peer_sets_nothing(elsewhere: HybridProcess) -> None:
    for fields in (TOLD, (STANDARD,), (UNREADABLE,)):
        found = facts(elsewhere.address, *fields)
        assert (found["client"][0], found["scheme"], found["host"]) == ("127.0.0.1", "http", "test")


def test_each_request_of_a_connection_has_its_own_client(usual: HybridProcess) -> None:
    with connected(usual.address) as sock:
        for number in (1, 2, 2, 3):
            send_request(sock, "/facts", f"x-forwarded-for: 192.0.2.{number}")
            assert json.loads(read_answer(sock).body)["client"] == [f"192.0.2.{number}", 0]
        send_request(sock, "/facts")
        assert json.loads(read_answer(sock).body)["client"][0] == "127.0.0.1"


def test_a_malformed_forwarded_does_not_reach_the_application(standard: HybridProcess) -> None:
    with connected(standard.address) as sock:
        send_request(sock, "/first", "forwarded: for=192.0.2.7")
        assert read_answer(sock).header("x-page") == "/first"
        send_request(sock, "/unparsed", UNREADABLE)
        answer = read_all(sock)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"x-page" not in answer
    assert b"Forwarded cannot be parsed" in answer

    def logged() -> list[str]:
        return [line for line in standard.stdout.splitlines() if "/first" in line or "/unparsed" in line]

    eventually(lambda: len(logged()) >= 2, "the lines of both")
    assert logged() == ["192.0.2.7 /first 200 whole", "127.0.0.1 /unparsed 400 refused"]


def test_a_proxy_on_a_unix_socket_sets_client_and_scheme_but_not_the_host(usual: HybridProcess) -> None:
    assert pick(facts(unix_path(usual), *TOLD)) == [["192.0.2.7", 99], "https", "test"]


def test_a_proxy_on_a_unix_socket_sets_the_host_if_configured(elsewhere: HybridProcess) -> None:
    assert pick(facts(unix_path(elsewhere), *TOLD)) == [["192.0.2.7", 99], "https", "shop.test"]
    assert pick(facts(unix_path(elsewhere))) == [None, "http", "test"]


def test_a_unix_socket_is_not_trusted_unless_it_is_named(hosted: HybridProcess) -> None:
    assert pick(facts(unix_path(hosted), *TOLD)) == [None, "http", "test"]


@pytest.mark.parametrize("place", ASGI, indirect=True, ids="-".join)
def test_a_websocket_through_a_proxy(usual: HybridProcess) -> None:
    with connected(usual.address) as sock:
        sock.sendall(HANDSHAKE + "\r\n".join((*TOLD, UNREADABLE)).encode() + b"\r\n\r\n")
        assert pick(json.loads(_first_message(sock))) == [["192.0.2.7", 99], "wss", "example.test"]


@pytest.mark.parametrize("place", ASGI, indirect=True, ids="-".join)
def test_a_websocket_with_a_malformed_forwarded_is_refused(standard: HybridProcess) -> None:
    with connected(standard.address) as sock:
        sock.sendall(HANDSHAKE + UNREADABLE.encode() + b"\r\n\r\n")
        assert read_all(sock).startswith(b"HTTP/1.1 400 ")


def _first_message(sock: Any) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += read_exactly(sock, 1)
    assert head.startswith(b"HTTP/1.1 101 ")
    size = read_exactly(sock, 2)[1]
    return read_exactly(sock, size if size < 126 else int.from_bytes(read_exactly(sock, 2)))
