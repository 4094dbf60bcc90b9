"""What a bare `hybrid run` serves, on every loop: pages, events and the WebSocket, as real clients see them."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from support.clients import TIMEOUT, connected, read_all
from support.loops import LOOPS
from support.process import HybridProcess, RunHybrid
from support.tcp import unused_port
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

pytestmark = pytest.mark.parametrize("loop", LOOPS)


@pytest.fixture
def demonstration(hybrid_run: RunHybrid, loop: str) -> HybridProcess:
    return hybrid_run("--workers", "1", "--loop", loop)


def get(process: HybridProcess, path: str, method: str = "GET") -> tuple[http.client.HTTPResponse, bytes]:
    """Return the answer to one request on a connection of its own, and its body."""
    with closing(http.client.HTTPConnection(*process.address, timeout=TIMEOUT)) as connection:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer, answer.read()


@contextmanager
def websocket(process: HybridProcess) -> Iterator[ClientConnection]:
    host, port = process.address
    with connect(f"ws://{host}:{port}/ws", open_timeout=TIMEOUT, proxy=None) as line:
        yield line


@contextmanager
def events(process: HybridProcess) -> Iterator[http.client.HTTPResponse]:
    """Give the stream of events, whose first one has come."""
    with closing(http.client.HTTPConnection(*process.address, timeout=TIMEOUT)) as connection:
        connection.request("GET", "/events")
        answer = connection.getresponse()
        while not answer.readline().startswith(b"data: "):
            pass
        yield answer


def test_the_page_names_the_worker_and_its_loop(demonstration: HybridProcess, loop: str) -> None:
    answer, body = get(demonstration, "/")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert f"<strong>{loop}</strong>" in body.decode()
    assert f"<strong>{demonstration.worker_pids()[0]}</strong>" in body.decode()
    assert demonstration.stop() == 0


def test_who_answers_as_json_and_closes_the_connection(demonstration: HybridProcess, loop: str) -> None:
    with connected(demonstration.address) as sock:
        sock.sendall(b"GET /who HTTP/1.1\r\nHost: x\r\n\r\n")
        head, _, body = read_all(sock).partition(b"\r\n\r\n")
    assert head.lower().count(b"\r\nconnection: close") == 1
    told: dict[str, Any] = json.loads(body)
    assert (told["service"], told["slot"], told["loop"]) == ("web", 0, loop)


@pytest.mark.parametrize("path", ["/demo.js", "/demo.css"])
def test_the_files_of_the_page_are_served(demonstration: HybridProcess, path: str) -> None:
    answer, body = get(demonstration, path)
    assert answer.status == 200
    assert len(body) == int(answer.headers["content-length"]) > 0


def test_others_are_served_while_a_slow_answer_is_made(demonstration: HybridProcess) -> None:
    with closing(http.client.HTTPConnection(*demonstration.address, timeout=TIMEOUT)) as slow:
        slow.request("GET", "/slow")
        slow_socket: socket.socket = slow.sock
        answers = 0
        slow_socket.setblocking(False)
        while not _is_readable(slow_socket):
            assert get(demonstration, "/who")[0].status == 200
            answers += 1
        slow_socket.settimeout(TIMEOUT)
        assert slow.getresponse().status == 200
    assert answers > 1


def _is_readable(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


def test_a_websocket_gets_back_what_it_sends(demonstration: HybridProcess) -> None:
    with websocket(demonstration) as line:
        for words in ("hello", "", "ö" * 40_000, b"\0\xff"):
            line.send(words)
            assert line.recv(TIMEOUT) == words


def test_events_go_on_coming(demonstration: HybridProcess) -> None:
    with events(demonstration) as stream:
        assert stream.readline() == b"\n"
        assert stream.readline().startswith(b"data: ")


def test_a_stop_ends_the_streams_and_says_so(demonstration: HybridProcess) -> None:
    """The stream of events is complete, the WebSocket is told 1012: the service restarts."""
    with events(demonstration) as stream, websocket(demonstration) as line:
        line.send("x")
        assert line.recv(TIMEOUT) == "x"
        stopping = threading.Thread(target=demonstration.stop)
        stopping.start()
        stream.read()  # raises where the last chunk is missing
        with pytest.raises(ConnectionClosed) as closed:
            line.recv(TIMEOUT)
        stopping.join(TIMEOUT)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    assert demonstration.wait() == 0


def test_the_page_and_the_log_lead_to_the_dashboard(hybrid_run: RunHybrid, loop: str) -> None:
    admin = f"127.0.0.1:{unused_port()}"
    process = hybrid_run("--workers", "1", "--loop", loop, "--admin", admin)
    process.wait_for_log(f"dashboard: http://{admin}")
    _, body = get(process, "/")
    assert f'<a href="http://{admin}/">' in body.decode()
