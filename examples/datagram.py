"""A handler of datagrams: called once for each, on whichever worker the kernel gave it to.

    hybrid run --bind udp://127.0.0.1:9000 examples.datagram:handle
    echo hello | nc -u -w1 127.0.0.1 9000                  answers: HELLO

Datagrams of one client (address and port) reach the same worker as long as the number of workers stays what it is. The
sync form, `def handle(data, address, transport)`, runs in a greenlet.
"""

from __future__ import annotations

import asyncio


async def handle(data: bytes, address: tuple[str, int], transport: asyncio.DatagramTransport) -> None:
    """Answer in capitals. `sendto` never waits, and UDP may lose it: that is what UDP is."""
    transport.sendto(data.upper(), address)
