"""Requests for WebSockets over WSGI: where they run, what is refused, and which ends of an application are errors.

Over messages too: the application writes the head of its answer by itself, whatever the wire is.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest
from support.process import DEADLINE
from support.service import eventually
from support.wsgi import PLACES, WIRES, Server, serving_wsgi

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
LOOP = "epoll"  # where the loop makes no difference


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ask(server: Server) -> tuple[int, bytes]:
    """Ask for a WebSocket; return the status of the answer, and all that comes."""
    with server.connected() as sock:
        server.ask_for_websocket(sock)
        return server.read_to_the_end(sock)


def failures(server: Server) -> list[str]:
    return [line for line in server.log if line.startswith("ERROR")]


def taking(end: Callable[[], Any]) -> Callable[..., Any]:
    """Return an application that takes the connection over, sends a word, and then ends as `end` does."""

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        environ["werkzeug.socket"].sendall(SWITCH + b"word")
        return end()

    return application


def raising(error: type[Exception]) -> Callable[[], Any]:
    def end() -> Any:
        raise error

    return end


@pytest.mark.parametrize(("loop", "threads"), PLACES)
@pytest.mark.parametrize(
    "end",
    [list, lambda: None, lambda: [b"more"], raising(StopIteration), raising(ConnectionError)],
    ids=["an empty list", "nothing", "a body", "as for gunicorn", "as for Werkzeug"],
)
def test_behind_the_socket_nothing_of_wsgi_counts(wire: str, loop: str, threads: int, end: Callable[[], Any]) -> None:
    with serving_wsgi(taking(end), loop, threads, wire=wire) as server:
        assert ask(server) == (101, SWITCH + b"word")
    assert failures(server) == []


@pytest.mark.parametrize("error", [LookupError, ConnectionRefusedError])
def test_an_error_of_the_application_behind_the_socket_is_logged(wire: str, error: type[Exception]) -> None:
    with serving_wsgi(taking(raising(error)), LOOP, wire=wire) as server:
        assert ask(server) == (101, SWITCH + b"word")
        eventually(lambda: failures(server), "a record")
    assert len(failures(server)) == 1


def test_an_application_may_start_its_answer_behind_the_socket(wire: str) -> None:
    """As Flask does it for flask-sock."""

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["werkzeug.socket"].sendall(SWITCH)
        start_response("200 OK", [])(b"not sent")
        return [b"not sent either"]

    with serving_wsgi(application, LOOP, wire=wire) as server:
        assert ask(server) == (101, SWITCH)
    assert failures(server) == []


def test_an_error_before_the_socket_is_used_is_500(wire: str) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> Any:
        raise LookupError

    with serving_wsgi(application, LOOP, wire=wire) as server:
        assert ask(server)[0] == 500


def test_a_handshake_with_a_body_is_refused(wire: str) -> None:
    with serving_wsgi(taking(list), LOOP, wire=wire) as server, server.connected() as sock:
        server.ask_for_websocket(sock, body=b"x")
        assert server.read_to_the_end(sock)[0] == 400


class Waiting:
    """An application whose WebSockets stay until they are released; it notes the thread of each."""

    def __init__(self) -> None:
        self.threads: list[str] = []
        self.released = threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.threads.append(threading.current_thread().name)
        environ["werkzeug.socket"].sendall(SWITCH)
        self.released.wait(DEADLINE)
        return []


def test_each_websocket_has_a_thread_which_ends_with_it(wire: str) -> None:
    application = Waiting()
    with serving_wsgi(application, LOOP, wire=wire) as server:
        with server.connected() as first, server.connected() as second:
            for sock in (first, second):
                server.ask_for_websocket(sock)
                server.read_bytes(sock, SWITCH)
            alive = {thread.name for thread in threading.enumerate()}
            assert len(set(application.threads) & alive) == 2
            application.released.set()
            assert server.read_to_the_end(first) == server.read_to_the_end(second) == (0, b"")
        eventually(lambda: not server.adapter.sockets.runner._threads, "the end of the threads")


def test_too_many_websockets_are_refused(wire: str) -> None:
    application = Waiting()
    with serving_wsgi(application, LOOP, wire=wire) as server, server.connected() as first:
        server.adapter.sockets._most = 1
        server.ask_for_websocket(first)
        server.read_bytes(first, SWITCH)
        assert ask(server)[0] == 503
        application.released.set()
        assert server.read_to_the_end(first) == (0, b"")


def test_with_one_thread_a_websocket_runs_in_that(wire: str) -> None:
    """The application may count on it: `wsgi.multithread` is false."""
    application = Waiting()
    application.released.set()
    with serving_wsgi(application, LOOP, threads=1, wire=wire) as server:
        assert ask(server) == ask(server) == (101, SWITCH)
    assert len(set(application.threads)) == 1


def test_a_thread_that_goes_on_sending_does_not_keep_the_connection_open(wire: str) -> None:
    """It gets an error as soon as the application has returned."""
    ended = threading.Event()

    def send_on(sock: Any) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock.sendall(b"more" * 1000)
        ended.set()

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        sock = environ["werkzeug.socket"]
        sock.sendall(SWITCH)
        threading.Thread(target=send_on, args=(sock,), daemon=True).start()
        return []

    with serving_wsgi(application, LOOP, 2, wire=wire) as server:
        assert ask(server)[1].startswith(SWITCH)
        assert ended.wait(DEADLINE)
