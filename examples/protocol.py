"""An `asyncio.Protocol`: callbacks instead of a handler, and no greenlet or task at all.

    hybrid run --bind 127.0.0.1:9000 examples.protocol:Reverser
    printf 'stressed\\n' | nc -q1 127.0.0.1 9000             answers: desserts

The class itself is the factory; a function that returns a protocol works as well with `--interface protocol`.
"""

from __future__ import annotations

import asyncio
from typing import cast

LONGEST = 4096  # bytes of a line


class Reverser(asyncio.Protocol):
    """Answers every line with the reversed line."""

    def __init__(self) -> None:
        self._begun = b""  # the incomplete last line
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport for the answers."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer the complete lines; keep the rest until more data arrives."""
        *lines, self._begun = (self._begun + data).split(b"\n")
        if lines:
            self._transport.write(b"".join(line.rstrip(b"\r")[::-1] + b"\n" for line in lines))
        if len(self._begun) > LONGEST:
            self._transport.write(b"that line is too long\n")
            self._transport.close()

    def pause_writing(self) -> None:
        """Stop reading from a client that does not read its answers."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Resume reading: the answers have been sent."""
        self._transport.resume_reading()
