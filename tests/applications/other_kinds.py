"""Applications that are not stream handlers: protocol factories and datagram handlers."""

from __future__ import annotations

import asyncio
from typing import Any

import hybrid


class Upper(asyncio.Protocol):
    """Sends everything back in capitals; ends when the client does."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data.upper())


class Slotted(asyncio.Protocol):
    """The same without a dictionary to put anything in."""

    __slots__ = ("transport",)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data.upper())


class Echo(asyncio.Protocol):
    """Sends everything back."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


def make_echo() -> Echo:
    """A factory that is not a class: nothing but the interface option tells what it is."""
    return Echo()


class Broken(asyncio.Protocol):
    """Cannot be made for every second connection."""

    made = 0

    def __init__(self) -> None:
        Broken.made += 1
        if Broken.made % 2:
            raise LookupError("not this one")

    def connection_made(self, transport: Any) -> None:
        transport.write(b"made")
        transport.close()


def datagram(data: bytes, address: Any, transport: Any) -> None:
    """Answer after a nap that holds nobody else up; `fail` raises."""
    if data == b"fail":
        raise LookupError("as asked")
    hybrid.sleep(0.01)
    transport.sendto(data.upper(), address)


async def datagram_async(data: bytes, address: Any, transport: Any) -> None:
    """The same as a coroutine."""
    if data == b"fail":
        raise LookupError("as asked")
    await asyncio.sleep(0.01)
    transport.sendto(data.upper(), address)
