"""A TLS client on an asyncio loop that records what happens, with verbs for well and badly behaved clients."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl


class TlsPeer:
    """The client's end. `sock` is connected and non-blocking; it carries TLS records."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._loop = loop
        self.sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")

    async def shakes(self, *, with_data: bytes = b"") -> None:
        """Do the handshake; `with_data` goes out in one send with the end of it. Raises `ssl.SSLError`."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._send()
                await self._receive()
            else:
                break
        if with_data:
            self.tls.write(with_data)
        await self._send()

    async def says(self, data: bytes) -> None:
        """Send plain text."""
        for start in range(0, len(data), 1 << 20):
            self.tls.write(data[start : start + (1 << 20)])
            await self._send()

    async def hears(self, size: int) -> bytes:
        """Return the next `size` bytes of plain text, fewer if the server ends its stream.

        Raises `ssl.SSLEOFError` when the connection ends without that, `ssl.SSLError` for an alert.
        """
        received = bytearray()
        while len(received) < size:
            try:
                piece = self.tls.read(min(size - len(received), 1 << 20))
            except ssl.SSLWantReadError:
                await self._receive()
            except ssl.SSLZeroReturnError:
                break
            else:
                if not piece:
                    break
                received += piece
        return bytes(received)

    async def ends(self) -> None:
        """Send the end of the stream (close_notify), and nothing else."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        await self._send()

    async def is_gone(self) -> None:
        """Wait for the end of the TCP connection; drop earlier input."""
        while await self._loop.sock_recv(self.sock, 1 << 20):
            pass

    async def _send(self) -> None:
        if self._outgoing.pending:
            await self._loop.sock_sendall(self.sock, self._outgoing.read())

    async def _receive(self) -> None:
        data = await self._loop.sock_recv(self.sock, 1 << 18)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
