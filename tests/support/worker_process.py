"""A program that is one worker, without a supervisor: it takes its seat as JSON; also the handlers that it serves."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from typing import Any

from hybrid.workers import identity
from hybrid.workers.application import Application
from hybrid.workers.contract import log
from hybrid.workers.contract.channel import Channel
from hybrid.workers.contract.seat import Listener, ListenerKind, Seat
from hybrid.workers.entry import main


def handle(sock: Any, address: Any) -> None:
    """Answer in capitals until the peer ends; `who` is answered with the loop's name."""
    while data := sock.recv(1000):
        sock.sendall(identity.current().loop.encode() if data == b"who" else data.upper())


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
    """Let callbacks of the loop fail that nobody catches, and answer."""
    loop = asyncio.get_running_loop()

    def fail(error: Exception) -> None:
        raise error

    loop.call_soon(fail, LookupError("in a callback"))
    loop.call_soon(fail, ConnectionResetError("somewhere"))
    await asyncio.sleep(0.01)
    writer.write(b"survived")
    writer.close()


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    listeners = tuple(
        Listener("given", ListenerKind(kind), socket.socket(fileno=fd), slot) for fd, kind, slot in given["listeners"]
    )
    seat = Seat("web", 1, 0, os.getppid(), listeners, Channel(socket.socket(fileno=given["channel"])), given["grace"])
    log.configure("text", "info", seat.labels)
    os._exit(main(seat, Application(**given["application"])))
