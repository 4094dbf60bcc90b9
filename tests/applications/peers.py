"""Handlers of every kind that answer with the address of their peer as they were told it."""

from __future__ import annotations

import asyncio
import socket
from typing import Any


def sync(sock: socket.socket, address: Any) -> None:
    sock.sendall(repr(address).encode())


async def coroutine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(repr(writer.get_extra_info("peername")).encode())
    writer.close()


class Protocol(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        transport.write(repr(transport.get_extra_info("peername")).encode())
        transport.close()


def datagram(data: bytes, address: Any, transport: Any) -> None:
    transport.sendto(repr(address).encode(), address)


async def datagram_coroutine(data: bytes, address: Any, transport: Any) -> None:
    transport.sendto(repr(address).encode(), address)
