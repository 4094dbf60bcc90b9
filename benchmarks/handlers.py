"""The stream handlers that every server is measured with: hybrid and its peers run these very functions.

They import nothing, so that a server's memory and boot time hold only what that server needs itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    import socket

CHUNK = 65536  # bytes; what asyncio's own transports read at once is four times as much, gevent's examples use less


def sync_echo(sock: socket.socket, address: object) -> None:
    """Send back whatever comes, until the client closes: the loop of every gevent tutorial."""
    while data := sock.recv(CHUNK):
        sock.sendall(data)


async def async_echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back whatever comes, until the client closes: the loop of the asyncio documentation."""
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()
