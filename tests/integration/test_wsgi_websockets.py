"""WebSockets over WSGI on every loop, with their usual clients: flask-sock, Flask-SocketIO, the bare socket."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.certificates import certificates
from support.clients import connected, read_all, read_exactly
from support.loops import LOOPS
from support.process import DEADLINE, HybridProcess
from support.service import eventually, serving
from support.websocket import HANDSHAKE, PONG, TEXT, close_frame, frame
from support.wsgi import read_answer, send_request

pytest.importorskip("flask_sock")
pytest.importorskip("flask_socketio")
websocket = pytest.importorskip("websocket")
simple_websocket = pytest.importorskip("simple_websocket")
socketio = pytest.importorskip("socketio")

PLACES = {**{loop: ("--loop", loop) for loop in LOOPS}}
PLACES |= {f"{loop}-threads": ("--loop", loop, "--threads", "2") for loop in LOOPS if loop == "epoll"}
PLACES |= {f"{loop}-greenlets": ("--loop", loop, "--threads", "0") for loop in LOOPS if loop in ("asyncio", "uvloop")}


@contextlib.contextmanager
def running(target: str, place: str, cwd: Path, *arguments: str, **env: str) -> Iterator[HybridProcess]:
    options = ("--workers", "1", "--interface", "wsgi", "--access-log", "json", *PLACES[place], *arguments)
    env = {"LOOP": place.partition("-")[0], **env}
    module = "bare_sockets" if target == "bare" else "wsgi_sockets"
    with serving(f"{module}:{target}", *options, cwd=cwd, env=env) as process:
        yield process


@pytest.fixture(scope="module", params=PLACES)
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def flask(place: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HybridProcess]:
    with running("flask", place, tmp_path_factory.mktemp("flask")) as process:
        yield process


@pytest.fixture(scope="module")
def chat(place: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HybridProcess]:
    with running("socketio", place, tmp_path_factory.mktemp("chat"), "--factory") as process:
        yield process


@pytest.fixture(scope="module")
def bare(place: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HybridProcess]:
    with running("bare", place, tmp_path_factory.mktemp("bare")) as process:
        yield process


def url(process: HybridProcess, path: str, scheme: str = "ws") -> str:
    host, port = process.address
    return f"{scheme}://{host}:{port}{path}"


def outcome(process: HybridProcess, target: str) -> tuple[int | None, int, str]:
    """Wait for the line of the newest response to a target; return status, bytes and outcome."""

    def found() -> list[dict[str, Any]]:
        whole = process.stdout.rpartition("\n")[0]
        return [line for line in map(json.loads, whole.splitlines()) if line["target"] == target]

    eventually(found, f"a line of {target}")
    line = found()[-1]
    return line["status"], line["bytes"], line["end"]


def websocket_lines(process: HybridProcess) -> int:
    """The number of WebSockets with a line in the access log."""
    return process.stdout.count('"status":101')


@contextlib.contextmanager
def asking(process: HybridProcess, path: str, behind: bytes = b"") -> Iterator[socket.socket]:
    """Send a handshake and, in the same packet, the bytes `behind` it."""
    with connected(process.address) as sock:
        sock.sendall(HANDSHAKE.replace(b"/chat?room=1", path.encode()) + b"\r\n" + behind)
        yield sock


def read_head(sock: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += read_exactly(sock, 1)
    return head


def errors(process: HybridProcess) -> list[str]:
    """The errors in the log, without those that a test has caused on purpose."""
    return [line for line in process.lines if "ERROR" in line and "Exception on /crash" not in line]


# -- flask-sock


def test_flask_sock_talks_with_websocket_client(flask: HybridProcess) -> None:
    client = websocket.create_connection(url(flask, "/echo?1"), timeout=DEADLINE)
    for text in ("a", "b" * 100_000, "ü"):
        client.send(text)
        assert client.recv() == text
    client.close()
    status, _, end = outcome(flask, "/echo?1")
    assert (status, end) == (101, "whole")
    assert errors(flask) == []


def test_flask_sock_talks_with_simple_websocket(flask: HybridProcess) -> None:
    client = simple_websocket.Client.connect(url(flask, "/once?name=Ann"))
    client.send("hello")
    assert client.receive(timeout=DEADLINE) == "Ann hello"
    with pytest.raises(simple_websocket.ConnectionClosed) as closed:
        client.receive(timeout=DEADLINE)
    assert closed.value.reason == 1000
    assert outcome(flask, "/once?name=Ann")[::2] == (101, "whole")
    assert errors(flask) == []


def test_others_are_served_while_websockets_are_open(flask: HybridProcess) -> None:
    """Also if requests run in greenlets or in a small pool, and the library blocks on events and sockets."""
    clients = [websocket.create_connection(url(flask, "/echo"), timeout=DEADLINE) for _ in range(10)]
    with connected(flask.address) as sock:
        for _ in range(3):
            send_request(sock, "/page")
            assert read_answer(sock).body == b"a page"
    for number, client in enumerate(clients):
        client.send(str(number))
    assert [client.recv() for client in clients] == [str(number) for number in range(10)]
    for client in clients:
        client.close()


def test_a_client_of_flask_sock_that_just_leaves_is_not_an_error(flask: HybridProcess) -> None:
    with asking(flask, "/echo?left") as sock:
        read_head(sock)
    assert outcome(flask, "/echo?left")[0] == 101
    assert errors(flask) == []


def test_a_frame_sent_with_the_handshake_is_not_lost(flask: HybridProcess) -> None:
    with asking(flask, "/echo", frame(TEXT, b"early")) as sock:
        assert read_head(sock).startswith(b"HTTP/1.1 101 ")
        assert read_exactly(sock, 7) == b"\x81\x05early"
        sock.sendall(close_frame(1000))
        assert read_all(sock) == b"\x88\x02\x03\xe8"


def test_a_crash_after_the_handshake_is_logged_and_nothing_is_sent(flask: HybridProcess) -> None:
    with asking(flask, "/crash", frame(TEXT, b"go")) as sock:
        read_head(sock)
        assert b"Internal Server Error" not in read_all(sock)
    flask.wait_for_log("a broken WebSocket")


def test_pings_of_the_library_keep_a_silent_client(place: str, tmp_path: Path) -> None:
    """The library closes a connection that has not answered a ping by the next one: a busy machine must keep up."""
    options = ("--keep-alive-timeout", "0.2")
    with running("flask", place, tmp_path, *options, PING_INTERVAL="0.4") as process, asking(process, "/echo") as sock:
        read_head(sock)
        assert read_exactly(sock, 2) == b"\x89\x00"
        sock.sendall(frame(PONG) + frame(TEXT, b"x"))
        assert b"\x81\x01x" in read_exactly(sock, 3) + read_exactly(sock, 2)


# -- Flask-SocketIO


@pytest.mark.parametrize("transports", [["websocket"], ["polling", "websocket"]], ids=["websocket", "upgraded"])
def test_flask_socketio_talks_with_its_client(chat: HybridProcess, transports: list[str]) -> None:
    heard: list[str] = []
    got = threading.Event()
    mark = websocket_lines(chat)
    client = socketio.Client(reconnection=False)
    client.on("heard", lambda text: (heard.append(text), got.set()))
    client.connect(url(chat, "", "http"), transports=transports, wait_timeout=DEADLINE)
    try:
        assert client.transport() == "websocket"
        client.emit("shout", "hello")
        assert got.wait(DEADLINE)
    finally:
        client.disconnect()
        client.wait()
    assert heard == ["HELLO"]
    eventually(lambda: websocket_lines(chat) > mark, "the line of the WebSocket")
    assert errors(chat) == []


# -- the bare socket


def test_the_socket_exists_only_for_websockets(bare: HybridProcess) -> None:
    with connected(bare.address) as sock:
        send_request(sock, "/")
        assert read_answer(sock).body == b"without a socket"
    with asking(bare, "/?unused") as sock:
        answer = read_all(sock)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\nwith a socket")
    assert outcome(bare, "/?unused") == (200, 13, "whole")


def test_all_sent_data_arrives_when_the_application_returns(bare: HybridProcess) -> None:
    with asking(bare, "/large", b"never read" * 1000) as sock:
        read_head(sock)
        assert len(read_all(sock)) == 3_000_000
    assert outcome(bare, "/large") == (101, 3_000_000, "whole")


def test_large_amounts_go_both_ways_with_back_pressure(bare: HybridProcess) -> None:
    data = os.urandom(3_000_000)
    with asking(bare, "/stay?both") as sock:
        read_head(sock)
        sender = threading.Thread(target=lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)))
        sender.start()
        assert read_all(sock) == data
        sender.join()
    assert outcome(bare, "/stay?both") == (101, len(data), "whole")


def test_a_client_that_resets_ends_the_application(bare: HybridProcess) -> None:
    with asking(bare, "/flood") as sock:
        read_exactly(sock, 200_000)
    bare.wait_for_log("the flood ended")
    status, _, end = outcome(bare, "/flood")
    assert (status, end) == (101, "gone")
    assert errors(bare) == []


def test_a_client_that_reads_nothing_is_cut(place: str, tmp_path: Path) -> None:
    with running("bare", place, tmp_path, "--send-timeout", "0.2") as process, asking(process, "/flood") as sock:
        read_exactly(sock, 1)
        process.wait_for_log("the flood ended")
        assert outcome(process, "/flood")[::2] == (101, "cut")
        assert errors(process) == []


def test_a_stop_lets_the_application_read_the_end_of_the_stream(place: str, tmp_path: Path) -> None:
    with running("bare", place, tmp_path, "--graceful-timeout", "3") as process:
        with asking(process, "/stay") as sock:
            read_head(sock)
            assert process.stop() == 0
            assert read_all(sock) == b""
        process.wait_for_log("the end of the stream")
        assert errors(process) == []


def test_over_tls_the_socket_speaks_plain_text(place: str, tmp_path: Path) -> None:
    made = certificates()
    options = ("--certfile", str(made.certificate), "--keyfile", str(made.key))
    with running("flask", place, tmp_path, *options) as process:
        context = ssl.create_default_context(cafile=str(made.ca))
        context.check_hostname = False
        client = websocket.create_connection(
            url(process, "/echo", "wss"), timeout=DEADLINE, sslopt={"context": context}
        )
        for text in ("a", "b" * 100_000):
            client.send(text)
            assert client.recv() == text
        client.close()
        eventually(lambda: websocket_lines(process), "the line of the WebSocket")
        assert errors(process) == []
