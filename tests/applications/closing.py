"""Handlers that end their connections while the client is still sending.

The first line of a connection says how much is answered and how it ends: `1000000 close`. What comes behind it is never
read. On the loops with streams of asyncio's the client has to send more than those buffer.
"""

from __future__ import annotations

import asyncio
import socket
from asyncio import StreamReader, StreamWriter
from typing import Any

RESET = b"\1\0\0\0\0\0\0\0"  # SO_LINGER on, 0 s


def blocking(sock: socket.socket, address: object) -> None:
    size, how = _first_line(sock).decode().split()
    sock.sendall(b"x" * int(size))
    if how == "reset":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    if how == "dup":
        other = sock.dup()
        sock.close()
        other.sendall(other.recv(4))
        other.close()
    elif how != "return":
        sock.close()
        sock.close()


def _first_line(sock: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        line += sock.recv(1)
    return line


async def coroutines(reader: StreamReader, writer: StreamWriter) -> None:
    line = b""
    while not line.endswith(b"\n"):
        line += await reader.read(1)
    size, how = line.decode().split()
    writer.write(b"x" * int(size))
    if how == "reset":
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    if how == "abort":
        writer.transport.abort()
    elif how != "return":
        writer.close()


class Protocol(asyncio.Protocol):
    """Reads the first line, and nothing more."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        size, how = data[: data.index(b"\n")].decode().split()
        self.transport.pause_reading()
        self.transport.write(b"x" * int(size))
        if how == "reset":
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        if how == "abort":
            self.transport.abort()
        else:
            self.transport.close()


def protocol() -> Protocol:
    return Protocol()
