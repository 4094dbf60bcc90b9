"""The example web applications behave as their headers promise, on all loops."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from support.clients import TIMEOUT, connected, read_all
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import serving
from websockets.sync.client import ClientConnection, connect

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.parametrize("loop", LOOPS)


@contextmanager
def example(target: str, loop: str, tmp_path: Path) -> Iterator[HybridProcess]:
    # through a link: the root on the path would hide an installed package behind its folder `hybrid`
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    env = {"PYTHONPATH": str(tmp_path)}
    with serving(f"examples.{target}", "--workers", "1", "--loop", loop, cwd=tmp_path, env=env) as process:
        yield process


@contextmanager
def client_of(process: HybridProcess) -> Iterator[httpx.Client]:
    host, port = process.address
    with httpx.Client(base_url=f"http://{host}:{port}", trust_env=False, timeout=TIMEOUT) as client:
        yield client


@contextmanager
def websocket(process: HybridProcess, path: str) -> Iterator[ClientConnection]:
    host, port = process.address
    with connect(f"ws://{host}:{port}{path}", proxy=None, open_timeout=TIMEOUT) as client:
        yield client


def test_plain_wsgi_greets_digests_and_counts(loop: str, tmp_path: Path) -> None:
    body = os.urandom(1_000_000)
    with example("wsgi_plain:app", loop, tmp_path) as process, client_of(process) as client:
        assert client.get("/hello?name=you").text == "hello, you!\n"
        assert client.post("/digest", content=body).text == hashlib.sha256(body).hexdigest() + "\n"
        assert client.get("/count").text == "1\n2\n3\n4\n5\n"
        assert client.get("/nowhere").status_code == 404


def test_plain_asgi_knows_its_start_and_hints_early(loop: str, tmp_path: Path) -> None:
    with example("asgi_plain:app", loop, tmp_path) as process, client_of(process) as client:
        assert client.get("/").text.startswith("this worker began at ")
        with connected(process.address) as sock:
            sock.sendall(b"GET /hinted HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            hint, _, answer = read_all(sock).partition(b"\r\n\r\n")
        assert hint == b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload; as=style"
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


def test_the_clock_of_plain_asgi_ends_completely_when_the_worker_stops(loop: str, tmp_path: Path) -> None:
    with example("asgi_plain:app", loop, tmp_path) as process, client_of(process) as client:
        with client.stream("GET", "/clock") as answer:
            events = answer.iter_lines()
            assert next(events).startswith("data: ")
            process.signal(signal.SIGTERM)
            assert all(line.startswith("data: ") or not line for line in events)
        assert process.wait() == 0


def test_the_websocket_echo_returns_text_and_bytes(loop: str, tmp_path: Path) -> None:
    with example("websocket_echo:app", loop, tmp_path) as process:
        with websocket(process, "/") as client:
            for message in ("hello", b"\x00\xff"):
                client.send(message)
                assert client.recv(timeout=TIMEOUT) == message
        with client_of(process) as plain:
            assert plain.get("/").status_code == 426


def test_flask_greets_and_keeps_notes(loop: str, tmp_path: Path) -> None:
    with example("web_flask:app", loop, tmp_path) as process, client_of(process) as client:
        assert client.get("/hello/you").text == "hello, you!\n"
        client.post("/notes", data={"note": "milk"})
        assert client.post("/notes", data={"note": "tea"}).json() == ["milk", "tea"]


@pytest.mark.parametrize("target", ["application", "asgi_application"])
def test_django_greets_over_both_interfaces(loop: str, tmp_path: Path, target: str) -> None:
    with example(f"web_django:{target}", loop, tmp_path) as process, client_of(process) as client:
        assert client.get("/hello/you").text == "hello, you!\n"
        assert client.get("/slowly").text == "at last\n"


def test_fastapi_validates_and_remembers(loop: str, tmp_path: Path) -> None:
    with example("web_fastapi:app", loop, tmp_path) as process, client_of(process) as client:
        tea = {"name": "tea", "price": 3.5}
        assert client.post("/items", json=tea).status_code == 201
        assert client.get("/items/tea").json() == tea
        assert client.get("/items/coffee").status_code == 404
        assert client.post("/items", json={"name": "tea", "price": -1}).status_code == 422


def test_starlette_greets_counts_and_shouts(loop: str, tmp_path: Path) -> None:
    with example("web_starlette:app", loop, tmp_path) as process, client_of(process) as client:
        assert client.get("/hello/you").text == "hello, you!\n"
        assert client.put("/size", content=bytes(1_000_000)).text == "1000000\n"
        with websocket(process, "/shout") as line:
            line.send("hello")
            assert line.recv(timeout=TIMEOUT) == "HELLO"
