"""When statuses are sent to a collector, with a sender that fails or blocks on demand."""

from __future__ import annotations

import asyncio
import logging
import queue
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from hybrid.admin.exporting import Exporting, Status
from hybrid.admin.line import Line
from hybrid.control.errors import GoneError

DEADLINE = 10.0  # seconds
LONG = 3600.0  # seconds
URL = "http://collector:4318"


class FakeLine:
    """A supervisor that numbers its answers."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[Mapping[str, Any]], None]] = []
        self.asked = 0
        self.failures = 0
        """So many questions fail."""

    async def ask(self, request: str, timeout: float) -> Mapping[str, Any]:
        """Answer with the number of the question."""
        if self.failures:
            self.failures -= 1
            raise GoneError("no connection")
        if request == "labels":
            return {"labels": []}
        self.asked += 1
        return {"number": self.asked}


class FakeSender:
    """Passes on what is sent, and waits for the outcome."""

    def __init__(self, sent: Callable[[Status], None]) -> None:
        self._sent = sent
        self.outcomes: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.is_closed = False

    def send(self, status: Status) -> str | None:
        """Wait for an outcome of the test."""
        self._sent(status)
        return self.outcomes.get()

    def close(self) -> None:
        """Note it."""
        self.is_closed = True


class Scene:
    """What a test sees."""

    def __init__(self, interval: float, patience: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.line = FakeLine()
        self.arrived: asyncio.Queue[int] = asyncio.Queue()
        self.sender = FakeSender(
            lambda status: cast(None, self.loop.call_soon_threadsafe(self.arrived.put_nowait, status["number"]))
        )
        self.exporting = Exporting(cast(Line, self.line), URL, interval, lambda: self.sender, patience)

    async def sends(self, outcome: str | None) -> int:
        """Wait for the next status and give its outcome; return its number."""
        number = await self.begins()
        self.sender.outcomes.put(outcome)
        return number

    async def begins(self) -> int:
        """Wait for the next status that is on its way; return its number."""
        async with asyncio.timeout(DEADLINE):
            return await self.arrived.get()

    def tells(self, event: str) -> None:
        """Tell of an event."""
        for listener in self.line.listeners:
            listener({"event": event})


@asynccontextmanager
async def scene(interval: float = 0.001, patience: float = LONG, failures: int = 0) -> AsyncIterator[Scene]:
    found = Scene(interval, patience)
    found.line.failures = failures
    found.exporting.start()
    yield found
    found.sender.outcomes.put(None)  # in case something is on its way
    await found.exporting.stop()


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "hybrid")


def test_statuses_are_sent_at_each_interval() -> None:
    async def play() -> None:
        async with scene() as found:
            assert [await found.sends(None) for _ in range(3)] == [1, 2, 3]

    asyncio.run(play())


def test_the_log_says_once_that_it_works(caplog: pytest.LogCaptureFixture) -> None:
    async def play() -> None:
        async with scene() as found:
            for _ in range(3):
                await found.sends(None)

    asyncio.run(play())
    assert caplog.messages == [f"sending metrics to {URL} every 0.001 s"]


def test_a_failure_is_logged_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    async def play() -> None:
        async with scene() as found:
            for outcome in ("refused", "refused", None, None):
                await found.sends(outcome)
            await found.begins()

    asyncio.run(play())
    assert caplog.messages == [
        f"metrics cannot be sent to {URL}: refused; trying again",
        f"metrics are sent to {URL} again",
    ]


def test_a_failure_of_another_kind_is_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    async def play() -> None:
        async with scene() as found:
            for outcome in ("refused", "it answers 401", "refused", "it answers 401", None, "refused"):
                await found.sends(outcome)
            await found.begins()

    asyncio.run(play())
    assert caplog.messages == [
        f"metrics cannot be sent to {URL}: refused; trying again",
        f"metrics cannot be sent to {URL}: it answers 401; trying again",
        f"metrics are sent to {URL} again",
        f"metrics cannot be sent to {URL}: refused; trying again",
    ]


def test_failures_that_are_all_different_fill_no_log(caplog: pytest.LogCaptureFixture) -> None:
    async def play() -> None:
        async with scene() as found:
            for number in range(30):
                await found.sends(f"refused {number}")
            await found.begins()

    asyncio.run(play())
    assert len(caplog.messages) == 8


def test_no_other_status_is_made_while_one_is_on_its_way(caplog: pytest.LogCaptureFixture) -> None:
    async def play() -> None:
        async with scene(patience=0.001) as found:
            assert await found.begins() == 1
            async with asyncio.timeout(DEADLINE):
                while not caplog.messages:
                    await asyncio.sleep(0)
            assert found.line.asked == 1
            found.sender.outcomes.put(None)
            assert await found.begins() == 2

    asyncio.run(play())
    assert caplog.messages[0] == f"metrics cannot be sent to {URL}: no answer within 0.001 s; trying again"


def test_a_stop_sends_at_once() -> None:
    async def play() -> None:
        async with scene(interval=LONG) as found:
            assert await found.sends(None) == 1
            found.tells("stop")
            assert await found.sends(None) == 2

    asyncio.run(play())


def test_a_stop_that_the_end_overtakes_sends_all_the_same() -> None:
    async def play() -> None:
        async with scene(interval=LONG) as found:
            assert await found.sends(None) == 1
            found.tells("stop")
        assert await found.begins() == 2

    asyncio.run(play())


def test_other_events_change_nothing() -> None:
    async def play() -> None:
        async with scene(interval=LONG) as found:
            assert await found.sends(None) == 1
            found.tells("ready")
        assert found.line.asked == 1

    asyncio.run(play())


def test_a_supervisor_that_does_not_answer_is_asked_again() -> None:
    async def play() -> None:
        async with scene(failures=2) as found:
            assert await found.sends(None) == 1

    asyncio.run(play())


def test_packages_that_are_missing_are_logged_and_the_process_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> FakeSender:
        raise ImportError("No module named 'opentelemetry'")

    async def play() -> None:
        line = FakeLine()
        exporting = Exporting(cast(Line, line), URL, 0.001, fail)
        exporting.start()
        async with asyncio.timeout(DEADLINE):
            while line.asked < 3:
                await asyncio.sleep(0)
        await exporting.stop()

    asyncio.run(play())
    assert caplog.messages == [f"metrics cannot be sent to {URL}: No module named 'opentelemetry'; trying again"]


def test_an_end_closes_the_connection() -> None:
    async def play() -> None:
        async with scene(interval=LONG) as found:
            await found.sends(None)
        async with asyncio.timeout(DEADLINE):
            while not found.sender.is_closed:  # by the thread
                await asyncio.sleep(0)

    asyncio.run(play())


def test_an_end_does_not_wait_long_for_what_is_on_its_way() -> None:
    async def play() -> None:
        found = Scene(LONG, LONG)
        found.exporting.start()
        await found.begins()
        async with asyncio.timeout(DEADLINE):
            await found.exporting.stop()
        found.sender.outcomes.put(None)  # let the thread end

    asyncio.run(play())
