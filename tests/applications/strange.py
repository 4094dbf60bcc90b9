"""Protocols and handlers that do what is allowed and seldom done."""

from __future__ import annotations

import asyncio
import sys
from typing import Any


class Upgrading(asyncio.Protocol):
    """Hands the transport to another protocol with the first data, as an upgrade to WebSocket does."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.set_protocol(Upgraded(self.transport))
        self.transport.write(b"upgraded")


class Upgraded(asyncio.Protocol):
    """What it is handed to."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Exiting(asyncio.Protocol):
    """Calls sys.exit for one word, and echoes the others."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if data == b"exit":
            self.transport.close()
            sys.exit(3)
        self.transport.write(data)


_ONE = Upgraded(None)


def shared() -> Upgraded:
    """Give every connection the same protocol."""
    return _ONE


async def names(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Tell whether the peer's name is known at the start and after the close."""
    host, _ = writer.get_extra_info("peername")
    await reader.read(100)
    writer.write(host.encode())
    writer.close()
    await writer.wait_closed()
    assert writer.get_extra_info("peername")[0] == host
