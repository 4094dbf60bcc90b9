"""The pages that are open: one snapshot for all, none waits, and their number is bounded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hybrid.admin import messages
from hybrid.admin.feed import Feed
from hybrid.admin.messages import Message, Response
from hybrid.admin.sampler import period

DEADLINE = 10.0  # seconds


class Page:
    """A page that is open."""

    def __init__(self, feed: Feed) -> None:
        self.left = asyncio.Event()
        self._stream = feed.stream(self._gone)

    async def _gone(self) -> None:
        await self.left.wait()

    async def reads(self) -> bytes:
        """Wait for the next piece; empty at the end."""
        async with asyncio.timeout(DEADLINE):
            return await anext(self._stream, b"")

    async def shows(self) -> Any:
        """Wait for the next snapshot."""
        piece = (await self.reads()).decode()
        assert piece.startswith("data: ")
        assert piece.endswith("\n\n")
        return json.loads(piece.removeprefix("data: "))


async def opened(feed: Feed) -> Page:
    """Open a page, and let it read the first piece."""
    page = Page(feed)
    assert await page.reads() == b"retry: 1000\n\n"
    return page


def test_a_page_gets_the_newest_snapshot_at_once_and_then_each() -> None:
    async def run() -> None:
        feed = Feed()
        feed.publish({"at": 1})
        page = await opened(feed)
        assert await page.shows() == {"at": 1}
        coming = asyncio.ensure_future(page.shows())
        await asyncio.sleep(0)
        feed.publish({"at": 2})
        assert await coming == {"at": 2}

    asyncio.run(run())


def test_a_slow_page_skips_what_it_has_missed() -> None:
    async def run() -> None:
        feed = Feed()
        page = await opened(feed)
        for number in range(5):
            feed.publish({"at": number})
        assert await page.shows() == {"at": 4}

    asyncio.run(run())


def test_a_snapshot_of_the_same_moment_is_not_sent_again() -> None:
    async def run() -> None:
        feed = Feed()
        feed.publish({"at": 1, "of": "the page's own question"})
        page = await opened(feed)
        await page.shows()
        feed.publish({"at": 1, "of": "the sample"})
        feed.publish({"at": 2})
        assert await page.shows() == {"at": 2}
        coming = asyncio.ensure_future(page.shows())
        await asyncio.sleep(0)
        feed.publish({"at": 2})
        feed.publish({"at": 1})  # the clock was set back
        assert await coming == {"at": 1}

    asyncio.run(run())


def test_a_snapshot_is_encoded_once_for_all_pages() -> None:
    async def run() -> None:
        feed = Feed()
        pages = [await opened(feed) for _ in range(3)]
        feed.publish({"at": 1})
        first, *others = [await page.reads() for page in pages]
        assert all(other is first for other in others)

    asyncio.run(run())


def test_a_stream_ends_when_its_client_is_gone_or_the_process_drains() -> None:
    async def run() -> None:
        feed = Feed()
        page = await opened(feed)
        assert feed.pages == 1
        page.left.set()
        assert await page.reads() == b""
        assert feed.pages == 0

    asyncio.run(run())


def test_there_are_so_many_pages_and_no_more() -> None:
    async def run() -> None:
        feed = Feed(most_pages=2)
        pages = [await opened(feed) for _ in range(2)]
        assert feed.is_full
        pages[0].left.set()
        await pages[0].reads()
        assert not feed.is_full

    asyncio.run(run())


def test_line_breaks_in_a_text_do_not_break_an_event() -> None:
    async def run() -> None:
        feed = Feed()
        feed.publish({"at": 1, "text": "a\n\ndata: b\u2028"})
        page = await opened(feed)
        assert await page.shows() == {"at": 1, "text": "a\n\ndata: b\u2028"}

    asyncio.run(run())


def test_a_client_that_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "PATIENCE", 0.01)
    sent: list[Message] = []
    is_closed = asyncio.Event()

    async def parts() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"part"
        finally:
            is_closed.set()

    async def send(message: Message) -> None:
        if message.get("more_body"):
            await asyncio.Event().wait()  # there is never room
        sent.append(message)

    async def run() -> None:
        async with asyncio.timeout(DEADLINE):
            await Response(200, body=parts()).send(send)

    asyncio.run(run())
    assert is_closed.is_set()
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]


@pytest.mark.parametrize(("workers", "seconds"), [(0, 1), (2, 1), (200, 1), (1000, 5)])
def test_many_workers_are_sampled_less_often(workers: int, seconds: float) -> None:
    assert period({"services": [{"workers": [{}] * workers}]}) == seconds
    assert period(None) == 1
