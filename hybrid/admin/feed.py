"""The pages that are open, and the snapshots for them as server-sent events.

A snapshot is encoded once, and only if a page is open. There is no queue: a page gets the newest snapshot once it has
taken the one before. A page that does not take one is dropped by `Response`; the browser connects again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any, Final

MOST_PAGES: Final = 64
"""Pages that may be open; further ones are refused."""
RETRY: Final = 1000
"""Milliseconds until a browser connects again."""


class Feed:
    """Sends snapshots to pages. Belongs to one loop."""

    def __init__(self, most_pages: int = MOST_PAGES) -> None:
        self._most_pages = most_pages
        self._snapshot: Mapping[str, Any] | None = None
        self._frame: bytes | None = None  # the same, encoded; None: not yet
        self._number = 0  # of the newest snapshot
        self._next: asyncio.Future[None] | None = None  # done at the next one; None: no page waits
        self.pages = 0
        """The pages that are open."""

    @property
    def is_full(self) -> bool:
        """True if no further page may be opened."""
        return self.pages >= self._most_pages

    def publish(self, snapshot: Mapping[str, Any]) -> None:
        """Send a snapshot to all pages. One of the same moment as the last is not sent again."""
        if self._snapshot is not None and snapshot["at"] == self._snapshot["at"]:
            return
        self._snapshot, self._frame = snapshot, None
        self._number += 1
        if self._next is not None:
            self._next.set_result(None)
            self._next = None

    async def stream(self, gone: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[bytes]:
        """Yield the events of a page until `gone` returns: its client has left, or this process drains."""
        leaving = asyncio.get_running_loop().create_task(gone())
        self.pages += 1
        try:
            yield b"retry: %d\n\n" % RETRY
            sent = 0
            while not leaving.done():
                if sent != self._number:
                    sent = self._number
                    yield self._encoded()
                else:
                    await asyncio.wait((leaving, self._coming()), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.pages -= 1
            leaving.cancel()

    def _coming(self) -> asyncio.Future[None]:
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        return self._next

    def _encoded(self) -> bytes:
        if self._frame is None:
            # JSON has no line break but as an escape, so it is one line of the event
            self._frame = b"data: %b\n\n" % json.dumps(self._snapshot, separators=(",", ":")).encode()
        return self._frame
