"""The conformance application in this process, over either wire: what its referee notes is an error."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hybrid.workers.http.settings import HttpSettings
from support.http import asgi_adapter, until
from support.wires import WIRES, Answer, Client

APPLICATIONS = Path(__file__).parent.parent / "applications"


class Court:
    """The application behind its referee, asked by clients of one wire."""

    def __init__(self, wire: str, application: Any, notes: Path, **settings: Any) -> None:
        self.adapter = asgi_adapter(application, HttpSettings(pathsend=True, **settings))
        self._wire = wire
        self._notes = notes

    def connect(self, **options: Any) -> Client:
        """Return a client on a connection of its own."""
        return WIRES[self._wire](self.adapter.site, **options)

    async def get(self, target: str, *fields: tuple[bytes, bytes], **options: Any) -> Answer:
        """Ask once, on a connection of its own."""
        return await get_on(self.connect(), target, *fields, **options, closes=True)

    def seen(self) -> list[str]:
        """What the pages have seen so far that their clients cannot see."""
        path = self._notes.with_suffix(".seen")
        return path.read_text().splitlines() if path.exists() else []

    async def wait_seen(self, *lines: str) -> None:
        """Wait until the pages have seen all of these."""
        await until(lambda: set(lines) <= set(self.seen()), f"{lines} are seen")

    @asynccontextmanager
    async def sits(self) -> AsyncIterator[Court]:
        """Run the lifespan around the block; see at the end that nothing was noted and nothing goes on."""
        await self.adapter.start_up()
        yield self
        assert await self.adapter.wait_idle(5), "a request goes on"
        for connection in self.adapter.site.connections():
            connection.close()
        await until(lambda: not self.adapter.site.clock.watched, "all connections end")
        await self.adapter.shut_down(5)
        assert not self._notes.exists(), self._notes.read_text()
        assert self._notes.with_suffix(".stopped").exists(), "the lifespan has ended"


class Courts:
    """Makes courts for one test."""

    def __init__(self, notes: Path) -> None:
        self.application = importlib.import_module("asgi_conformance").app
        self._notes = notes

    def of(self, wire: str, **settings: Any) -> Court:
        """Return a court whose clients use that wire; `settings` are those of `HttpSettings`."""
        return Court(wire, self.application, self._notes, **settings)


@pytest.fixture
def courts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Courts:
    """Give courts whose notes are this test's: the modules read where they go when they are imported."""
    notes = tmp_path / "notes"
    monkeypatch.setenv("NOTES", str(notes))
    monkeypatch.syspath_prepend(APPLICATIONS)
    for name in ("asgi_conformance", "asgi_pages"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return Courts(notes)


async def get_on(client: Client, target: str, *fields: tuple[bytes, bytes], **options: Any) -> Answer:
    """Ask on an open connection; return the answer when it is whole, or has broken off."""
    before = len(client.answers)
    await client.asks(options.pop("method", "GET"), target.encode(), *fields, **options)
    return await answer_of(client, before)


async def answer_of(client: Client, number: int) -> Answer:
    """Wait for an answer of a connection, the first one being 0; return it when it is whole, or has broken off."""
    await until(lambda: _is_over(client, number), "the answer")
    assert len(client.answers) > number, "the connection ends without an answer"
    return client.answers[number]


def _is_over(client: Client, number: int) -> bool:
    answers = client.answers
    return client.is_closed or (len(answers) > number and answers[number].is_whole)


async def moment() -> None:
    """Let the loop turn a few times."""
    for _ in range(5):
        await asyncio.sleep(0)
