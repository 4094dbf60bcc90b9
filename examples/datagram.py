"""A datagram handler, called once per datagram, in the worker that the kernel chose.

    hybrid run --bind udp://127.0.0.1:9000 examples.datagram:handle
    echo hello | nc -u -w1 127.0.0.1 9000                  answers: HELLO

Datagrams of one client (address and port) reach the same worker as long as the number of workers does not change. The
sync form, `def handle(data, address, transport)`, runs in a greenlet.
"""

from __future__ import annotations

import asyncio


async def handle(data: bytes, address: tuple[str, int], transport: asyncio.DatagramTransport) -> None:
    """Answer in capitals. `sendto` never waits, and UDP may lose the answer."""
    transport.sendto(data.upper(), address)
