"""What WSGI tests of HTTP/1 see as bytes, seen as messages: hints, the order of answers, bodies that come in pieces.

The tests that name no bytes run over both wires, in `test_wsgi.py`, `test_wsgi_input.py`, `test_wsgi_files.py`,
`test_wsgi_environ.py` and `test_wsgi_sockets.py`; those that are marked `over_http1` there have their like here. Left
out: refused bodies, `Connection: close`, absolute targets and fields that no application gets, which an HTTP/1 reader
decides.
"""

from __future__ import annotations

import hashlib
import importlib
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest
from support.court import APPLICATIONS
from support.process import DEADLINE
from support.service import eventually
from support.wsgi import MessageServer, serving_wsgi

import hybrid

Serve = Callable[..., AbstractContextManager[MessageServer]]
PLAIN = [("Content-Type", "text/plain")]


@pytest.fixture(params=[0, 3], ids=["greenlets", "threads"])
def serve(request: pytest.FixtureRequest) -> Serve:
    @contextmanager
    def start(application: Any, **settings: Any) -> Iterator[MessageServer]:
        with serving_wsgi(application, "epoll", request.param, wire="messages", **settings) as server:
            assert isinstance(server, MessageServer)
            yield server

    return start


def echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    body = environ["wsgi.input"].read()
    start_response("200 OK", PLAIN)
    return [body]


def test_early_hints_go_before_the_answer(serve: Serve) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["wsgi.early_hints"]([("Link", "</a.css>; rel=preload")])
        write = start_response("200 OK", PLAIN)
        write(b"x")
        environ["wsgi.early_hints"]([("Link", "</too-late.css>; rel=preload")])
        return []

    with serve(application) as server, server.connected() as client:
        server.get_on(client)
        assert client.answers[0].informed == [(103, [(b"link", b"</a.css>; rel=preload")])]


def test_requests_of_a_pipeline_are_answered_in_order(serve: Serve) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", PLAIN)
        return [environ["PATH_INFO"].encode(), b";"]

    with serve(application) as server, server.connected() as client:
        for number in range(12):
            server.send_request(client, f"/{number}")
        assert [server.read_answer(client).body for _ in range(12)] == [b"/%d;" % number for number in range(12)]


def test_pieces_go_out_as_they_come(serve: Serve) -> None:
    went_on = threading.Event()

    def application(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", PLAIN)
        yield b"first"
        environ["wsgi.input"].read()  # waits for the client, which waits for the first piece
        went_on.set()
        yield b"second"

    with serve(application) as server, server.connected() as client:
        client.does(client.takes)
        server.send_request(client, "/", method="POST", length=2)
        client.wait(lambda: client.answers and client.answers[0].body == b"first", "the first piece")
        assert not went_on.is_set()
        server.send(client, b"go")
        assert server.read_answer(client).body == b"firstsecond"


def test_the_answer_is_whole_for_a_client_that_has_ended_its_stream(serve: Serve) -> None:
    with serve(echo) as server, server.connected() as client:
        server.send_request(client, "/", method="POST", body=b"abc")
        client.does(client.ends_stream)
        assert server.read_answer(client).body == b"abc"


def test_a_body_of_unknown_length_has_an_end(serve: Serve) -> None:
    with serve(validator(echo_as_it_comes)) as server, server.connected() as client:
        for _ in range(2):
            client.does(client.asks, "POST", b"/", more=True)
            for piece in (b"abc", b"de"):
                server.send(client, piece)
            client.does(client.ends_body)
            assert server.read_answer(client).body == b"abcde"


def echo_as_it_comes(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    assert "CONTENT_LENGTH" not in environ
    body = b"".join(iter(lambda: environ["wsgi.input"].read(2), b""))
    start_response("200 OK", PLAIN)
    return iter([body])


def test_a_client_that_waits_for_it_is_told_when_its_body_is_read(serve: Serve) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/yes":
            return echo(environ, start_response)
        start_response("200 OK", [])
        return []

    with serve(application) as server:
        with server.connected() as client:
            client.does(client.takes)
            client.does(client.asks, "POST", b"/yes", length=3, expects=True)
            client.wait(lambda: client.answers, "it is told")
            assert client.answers[0].informed == [(100, [])]
            server.send(client, b"abc")
            assert server.read_answer(client).body == b"abc"
        with server.connected() as client:
            client.does(client.asks, "POST", b"/no", length=3, expects=True)
            assert server.read_answer(client).status == 200
            assert client.answers[0].informed == []
            assert client.is_closed


def test_a_client_is_held_up_while_the_application_does_not_read(serve: Serve) -> None:
    go_on = threading.Event()

    def application(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"first "
        while not go_on.is_set():
            _let_others_run(go_on)
        yield b"%d" % len(environ["wsgi.input"].read())

    with serve(application) as server, server.connected() as client:
        server.send_request(client, "/", method="POST", length=1_000_000)
        sent = 0
        while not client.is_held_up:
            server.send(client, b"x" * 50_000)
            sent += 50_000
        assert sent == 100_000
        go_on.set()
        while sent < 1_000_000:
            eventually(lambda: not client.is_held_up, "the client may go on")
            server.send(client, b"x" * 50_000)
            sent += 50_000
        assert server.read_answer(client).body == b"first 1000000"


def _let_others_run(event: threading.Event) -> None:
    """In a greenlet, let the loop turn; in a thread, wait for the event."""
    try:
        hybrid.sleep(0.001)
    except RuntimeError:
        assert event.wait(DEADLINE)


def test_a_large_file_waits_for_its_client(serve: Serve, tmp_path: Path) -> None:
    """Others are served meanwhile."""
    large = tmp_path / "large"
    large.write_bytes(bytes(1_000_000))

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](large.open("rb")) if environ["PATH_INFO"] == "/large" else [b"small"]

    with serve(application) as server, server.connected() as slow:
        server.send_request(slow, "/large")
        server.take_little(slow)
        assert [server.get().body for _ in range(3)] == [b"small"] * 3
        assert slow.unsent < 200_000
        assert server.read_answer(slow).body == bytes(1_000_000)


def test_an_old_client_gets_its_answer_as_well(serve: Serve) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        environ["wsgi.early_hints"]([("Link", "</a.css>")])
        start_response("200 OK", PLAIN)
        yield b"protocol "
        yield environ["SERVER_PROTOCOL"].encode()

    with serve(application) as server, server.connected() as client:
        client.does(client.asks, version="1.0")
        assert server.read_answer(client).body == b"protocol HTTP/1.0"
        assert client.answers[0].informed == []


# --- the application of the service tests


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(APPLICATIONS)
    return importlib.import_module("wsgi_plain")


@pytest.mark.parametrize("below", ["", "/validated"])
def test_every_path_of_the_plain_application_is_answered(serve: Serve, plain: Any, tmp_path: Path, below: str) -> None:
    """Below `/validated` the standard library watches whether the server keeps to PEP 3333."""
    (tmp_path / "file").write_bytes(plain.BLOCK * 3)
    digest = hashlib.sha256(plain.BLOCK * 10).hexdigest().encode()
    with serve(plain.application) as server, server.connected() as client:
        assert server.get_on(client, f"{below}/hello").body.startswith(b"hello from ")
        assert server.get_on(client, f"{below}/upload", method="POST", body=plain.BLOCK * 10).body == digest
        assert server.get_on(client, f"{below}/download?10").body == plain.BLOCK * 10
        assert server.get_on(client, f"{below}/send?{tmp_path}/file").body == plain.BLOCK * 3
        assert server.get_on(client, f"{below}/nap?0.001").body.startswith(b"hello from ")
        assert server.log == []
        assert server.get_on(client, f"{below}/error").status == 500


def test_an_endless_answer_ends_with_its_client(serve: Serve, plain: Any) -> None:
    with serve(plain.application) as server:
        with server.connected() as client:
            client.does(client.takes)
            server.send_request(client, "/events")
            client.wait(lambda: client.answers and client.answers[0].body.count(b"tick") > 1, "two of them")
        eventually(lambda: not server.adapter.runner.running, "the end of the request")
        assert server.log == []
