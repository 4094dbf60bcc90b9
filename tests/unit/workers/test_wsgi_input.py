"""`wsgi.input`: a file that ends where the body ends, however the body comes."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.clients import connected
from support.process import DEADLINE
from support.wsgi import PLACES, WIRES, Server, over_http1, read_answer, serving_wsgi

from hybrid.workers.apps.wsgi.input import EMPTY, ClientGoneError, Input, Nowhere
from hybrid.workers.http.settings import Limits

Serve = Callable[..., AbstractContextManager[Server]]


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=PLACES, ids=lambda place: f"{place[0]}-{'threads' if place[1] else 'greenlets'}")
def serve(request: pytest.FixtureRequest, wire: str) -> Serve:
    loop, threads = request.param

    @contextmanager
    def start(application: Any, **settings: Any) -> Iterator[Server]:
        with serving_wsgi(application, loop, threads, wire=wire, **settings) as server:
            yield server

    return start


class Given:
    """Stands for an exchange, its connection, its site, its interface and its runner: gives pieces, then the end."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = [piece for piece in pieces if piece]
        self.connection = self.site = self.interface = self.runner = self

    def read(self, exchange: object) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


def body_of(*pieces: bytes) -> Any:
    return Input(Given(list(pieces)))  # type: ignore[arg-type]


# --- the methods

_pieces = st.lists(st.binary(max_size=12).map(lambda data: data.replace(b"\0", b"\n")), max_size=6)
_calls = st.lists(
    st.tuples(st.sampled_from(["read", "readline", "readlines"]), st.sampled_from([None, -1, 0, 1, 2, 3, 7, 100])),
    max_size=12,
)


@given(_pieces, _calls)
def test_it_reads_like_a_file_in_memory(pieces: list[bytes], calls: list[tuple[str, int | None]]) -> None:
    ours, model = body_of(*pieces), io.BytesIO(b"".join(pieces))
    for method, size in calls:
        assert getattr(ours, method)(size) == getattr(model, method)(size)
    assert ours.read() == model.read()


def test_without_a_size_it_reads_to_the_end() -> None:
    body = body_of(b"a\nb", b"c\n", b"d")
    assert body.readline() == b"a\n"
    assert list(body) == [b"bc\n", b"d"]
    assert body.read() == body.readline() == b""
    assert body.readlines() == []


def test_readlines_stops_at_its_hint() -> None:
    body = body_of(b"a\nb\nc\n")
    assert body.readlines(3) == [b"a\n", b"b\n"]
    assert body.read() == b"c\n"


def test_read1_gives_what_is_there() -> None:
    body = body_of(b"abc", b"def")
    assert [body.read1(2), body.read1(), body.read1(0), body.read1(), body.read1()] == [b"ab", b"c", b"", b"def", b""]


def test_it_can_be_wrapped_as_text() -> None:
    text = io.TextIOWrapper(io.BufferedReader(body_of("grün\n".encode(), b"blau")), "utf-8")  # type: ignore[arg-type]
    assert text.readlines() == ["grün\n", "blau"]


def test_it_says_what_it_is() -> None:
    body = body_of()
    body.close()
    assert (body.readable(), body.seekable(), body.writable(), body.closed) == (True, False, False, False)


def test_no_body_reads_as_nothing() -> None:
    empty: Any = EMPTY
    empty.close()
    assert [empty.read(), empty.read(5), empty.readline(), empty.readlines(), list(empty)] == [b"", b"", b"", [], []]
    assert (empty.read1(), empty.readinto(bytearray(3)), empty.closed) == (b"", 0, False)


def test_errors_may_go_nowhere() -> None:
    errors = Nowhere()
    errors.writelines(["a", "b"])
    errors.flush()
    assert errors.write("abc") == 3


# --- over the wire


def echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body]


@over_http1
def test_a_chunked_body_has_an_end(serve: Serve) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        assert "CONTENT_LENGTH" not in environ
        return echo(environ, start_response)

    with serve(application) as server, connected(server.address) as sock:
        for _ in range(2):
            sock.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n")
            sock.sendall(b"0\r\nx-sum: x\r\n\r\n")
            assert read_answer(sock).body == b"abcde"


@over_http1
def test_nobody_can_read_into_the_next_request(serve: Serve) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        body = environ["wsgi.input"].read(1000)
        start_response("200 OK", [])
        return [body]

    with serve(application) as server:
        first = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc"
        last = b"POST / HTTP/1.0\r\ncontent-length: 3\r\n\r\ndef"
        answers = server.ask(first + last).split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert [answer.partition(b"\r\n\r\n")[2] for answer in answers] == [b"abc", b"def"]


@pytest.mark.parametrize("size", [100_000, 3_000_000])
def test_a_large_body_arrives_whole(serve: Serve, size: int) -> None:
    data = bytes(range(256)) * (size // 256)
    with serve(echo) as server:
        assert server.get(method="POST", body=data).body == data


@over_http1
def test_100_continue_comes_when_the_body_is_read(serve: Serve) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/yes":
            return echo(environ, start_response)
        start_response("200 OK", [])
        return []

    expecting = b"POST %b HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n"
    with serve(application) as server:
        with connected(server.address) as sock:
            sock.sendall(expecting % b"/yes")
            assert sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
            sock.sendall(b"abc")
            assert read_answer(sock).body == b"abc"
        refused = server.ask(expecting % b"/no")
    assert b"100" not in refused.partition(b"\r\n")[0]
    assert b"connection: close" in refused


def test_a_client_that_goes_within_the_body_is_told_to_the_application(serve: Serve) -> None:
    told = threading.Event()

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        try:
            environ["wsgi.input"].read()
        except ClientGoneError:
            told.set()
            raise
        return []

    with serve(application) as server:
        with server.connected() as sock:
            server.send_request(sock, "/", method="POST", body=b"abc", length=10)
        assert told.wait(DEADLINE)
        assert [line for line in server.log if line.startswith("ERROR")] == []


@over_http1
def test_a_body_that_becomes_too_large_is_refused(serve: Serve) -> None:
    with serve(echo, limits=Limits(max_body_size=10)) as server:
        received = server.ask(
            b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n6\r\nabcdef\r\n0\r\n\r\n"
        )
        assert [line for line in server.log if line.startswith("ERROR")] == []
    assert received.startswith(b"HTTP/1.1 413 ")


def test_a_body_that_is_not_read_does_not_disturb(serve: Serve) -> None:
    """The next request is answered; a client that sends much of it still gets its answer."""

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"unread"]

    with serve(application) as server:
        with server.connected() as sock:
            for _ in range(2):
                assert server.get_on(sock, method="POST", body=b"small").body == b"unread"
        assert server.get(method="POST", body=b"x" * 1_000_000).body == b"unread"


@over_http1
def test_reading_stops_while_the_application_does_not_read(serve: Serve) -> None:
    """A client that sends on is slowed down, whatever the application waits for."""
    go_on = threading.Event()
    loop_turns = threading.Event()

    def application(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"first"
        while not go_on.is_set():
            _let_others_run(loop_turns)
        yield b"%d" % len(environ["wsgi.input"].read())

    with serve(application) as server, connected(server.address) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 50000000\r\n\r\n")
        sock.settimeout(0.3)
        sent = 0
        with suppress(TimeoutError):
            while sent < 40_000_000:
                sent += sock.send(b"x" * 100_000)
        assert sent < 40_000_000
        sock.settimeout(DEADLINE)
        go_on.set()
        rest = memoryview(b"x" * (50_000_000 - sent))
        sock.sendall(rest)
        assert b"50000000" in read_answer(sock).body


def _let_others_run(event: threading.Event) -> None:
    """In a greenlet, let the loop turn; in a thread, wait a moment."""
    import hybrid

    try:
        hybrid.sleep(0.005)
    except RuntimeError:
        event.wait(0.005)
