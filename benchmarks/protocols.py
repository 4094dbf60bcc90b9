"""The callback form of the echo handler; apart from `handlers`, because it needs asyncio and they need nothing."""

from __future__ import annotations

import asyncio
from typing import cast


class EchoProtocol(asyncio.Protocol):
    """Sends back whatever comes."""

    __slots__ = ("_transport",)

    _transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Write it back; the transport buffers what the socket has no room for."""
        self._transport.write(data)
