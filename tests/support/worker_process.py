"""A program that is one worker, without a supervisor: it takes its spec as JSON; also the handlers that it serves."""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from hybrid.workers import green, identity
from hybrid.workers.boot.application import Application, RecycleLimits
from hybrid.workers.contract import log
from hybrid.workers.contract.channel import Channel
from hybrid.workers.contract.scoreboard import CACHE_LINE, RECORD, Record, Scoreboard
from hybrid.workers.contract.worker_spec import Listener, ListenerKind, WorkerSpec
from hybrid.workers.main import main

_left: list[Any] = []
NAP = 0.2
"""Seconds that a request for `/nap?FILE` takes at least; it ends when there is the file."""
PROMOTED = 99
"""The exit code used here if a worker would continue as a zygote."""


def handle(sock: Any, address: Any) -> None:
    """Answer in capitals until the peer ends; `who` is answered with the loop's name."""
    while data := sock.recv(1000):
        sock.sendall(identity.current().loop.encode() if data == b"who" else data.upper())


def keep_busy(sock: Any, address: Any) -> None:
    """As `handle`, but `spin PATH` computes until there is a file, `block PATH` sleeps in C until a FIFO is opened.

    Once they are at it there is a file PATH.begun.
    """
    while data := sock.recv(1000):
        match data.split():
            case [b"spin", path]:
                Path(os.fsdecode(path + b".begun")).touch()
                while not Path(os.fsdecode(path)).exists():
                    sum(range(1000))
            case [b"block", path]:
                Path(os.fsdecode(path + b".begun")).touch()
                os.close(os.open(path, os.O_RDONLY))  # fifo(7)
            case [b"fork"]:
                _fork_and_wait()
        sock.sendall(data.upper())


def leave(sock: Any, address: Any) -> None:
    """Leave a requested thing behind that does not survive a fork."""
    match sock.recv(100):
        case b"thread":
            threading.Thread(target=threading.Event().wait, name="exporter", daemon=True).start()
        case b"socket":
            _left.append(socket.create_server(("127.0.0.1", 0)))
        case b"child":
            quiet = subprocess.DEVNULL
            _left.append(subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=quiet, stderr=quiet))  # ends with us
        case b"timer":
            signal.setitimer(signal.ITIMER_REAL, 1000)
    sock.sendall(b"left")


def _fork_and_wait() -> None:
    """Fork a child that waits on the loop it has inherited, and let the loop stand until it has ended."""
    pid = os.fork()
    if pid == 0:
        green.sleep(0.1)
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED)


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Answer with the path."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["PATH_INFO"].encode("latin-1")]


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the path, or speak WebSocket until the client ends."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": scope["path"].encode()})
    elif scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass


def wsgi_status(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Answer with the status that the path says, or wait first."""
    path = environ["PATH_INFO"].removeprefix("/")
    environ["wsgi.input"].read()
    if path == "nap":
        path = "200"
        _rest(NAP)
        while not Path(environ["QUERY_STRING"]).exists():
            _rest(0.005)
    start_response(f"{path} Whatever", [("Content-Type", "text/plain")])
    return [f"{path}!".encode()]


def _rest(seconds: float) -> None:
    try:
        green.sleep(seconds)
    except RuntimeError:  # in a thread
        time.sleep(seconds)


async def asgi_status(scope: Any, receive: Any, send: Any) -> None:
    """As `wsgi_status`."""
    path = scope["path"].removeprefix("/")
    while (await receive()).get("more_body"):
        pass
    if path == "nap":
        path = "200"
        await asyncio.sleep(NAP)
        while not Path(scope["query_string"].decode()).exists():
            await asyncio.sleep(0.005)
    head = {"type": "http.response.start", "status": int(path), "headers": [(b"content-type", b"text/plain")]}
    await send(head)
    await send({"type": "http.response.body", "body": f"{path}!".encode()})


async def handle_async(reader: Any, writer: Any) -> None:
    """As `handle`."""
    while data := await reader.read(1000):
        writer.write(identity.current().loop.encode() if data == b"who" else data.upper())
        await writer.drain()
    writer.close()


class Protocol(asyncio.Protocol):
    """As `handle`."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(identity.current().loop.encode() if data == b"who" else data.upper())


async def answer(data: bytes, address: Any, transport: Any) -> None:
    """Answer one datagram in capitals."""
    transport.sendto(data.upper(), address)


def answer_sync(data: bytes, address: Any, transport: Any) -> None:
    """Answer one datagram in capitals."""
    transport.sendto(data.upper(), address)


async def fail_in_a_callback(reader: Any, writer: Any) -> None:
    """Let callbacks of the loop fail uncaught, and answer."""
    loop = asyncio.get_running_loop()

    def fail(error: Exception) -> None:
        raise error

    loop.call_soon(fail, LookupError("in a callback"))
    loop.call_soon(fail, ConnectionResetError("somewhere"))
    await asyncio.sleep(0.01)
    writer.write(b"survived")
    writer.close()


def record_in(fd: int) -> Record:
    """Return the record on a scoreboard with one place in a shared file."""
    board = Scoreboard(1)
    board.memory = mmap.mmap(fd, CACHE_LINE + RECORD)
    return board.record(0)


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    listeners = tuple(
        Listener("given", ListenerKind(kind), socket.socket(fileno=fd), slot) for fd, kind, slot in given["listeners"]
    )
    channel, record = Channel(socket.socket(fileno=given["channel"])), record_in(given["board"])
    spec = WorkerSpec("web", 1, 3, os.getppid(), listeners, channel, given["grace"], record)
    log.configure("text", "info", spec.labels)
    recycle = RecycleLimits(**given["application"].pop("recycle", {}))
    outcome = main(spec, Application(**given["application"], recycle=recycle))
    os._exit(outcome if isinstance(outcome, int) else PROMOTED)
