"""What a worker tells of itself: chains of coroutines, awaited objects, greenlets, threads, requests."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import json
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from typing import Any

import greenlet
import pytest

import hybrid.workers.green  # noqa: F401 - by which an application could have started greenlets before
from hybrid.workers.common.requests import RequestInProgress
from hybrid.workers.contract.stack_report import MOST_ENTRIES, MOST_FRAMES, decode
from hybrid.workers.hub.pool import Pool
from hybrid.workers.inspection import coroutines, greenlets, heap, survey
from hybrid.workers.inspection.frames import OURS, stack_of
from hybrid.workers.tasks.parked import Gate
from hybrid.workers.tasks.request_tasks import RequestTasks

ROOM = 256 * 1024


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in a loop."""

    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        asyncio.run(test(**arguments))

    return run


async def in_a_callback(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function outside of all tasks; return its result."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[Any] = loop.create_future()
    loop.call_soon(lambda: result.set_result(function(*arguments)))
    return await result


class Unspeakable(asyncio.Future[None]):
    """A future of an application with code that must not run."""

    def __repr__(self) -> str:
        raise AssertionError

    @property
    def __class__(self) -> type:  # type: ignore[override]
        raise AssertionError

    def __getattr__(self, name: str) -> Any:
        raise AssertionError


class Awaitables:
    """Things that an application can await, each of which waits for `future` in the end."""

    def __init__(self, future: asyncio.Future[None]) -> None:
        self.future = future

    async def inner(self) -> None:
        await self.future

    async def nested(self) -> None:
        await self.inner()

    def __await__(self) -> Generator[Any, None, None]:
        return self.inner().__await__()

    async def by_await(self) -> None:
        await self

    async def each(self) -> AsyncIterator[int]:
        await self.inner()
        yield 1

    async def by_async_for(self) -> None:
        async for _ in self.each():
            pass

    async def by_anext(self) -> None:
        await anext(self.each())

    async def by_default(self) -> None:
        await anext(self.each(), None)

    async def deep(self, depth: int) -> None:
        await (self.deep(depth - 1) if depth else self.inner())


def functions(entry: dict[str, Any]) -> list[str]:
    return [frame["function"].rpartition(".")[2] for frame in entry["frames"]]


async def entry_of(start: Callable[[Awaitables], Awaitable[None]]) -> dict[str, Any]:
    """Return the entry of a task that waits in what `start` returns."""
    future = Unspeakable()
    task = asyncio.ensure_future(start(Awaitables(future)))
    try:
        await asyncio.sleep(0)
        return coroutines.task_entry(task)  # type: ignore[arg-type]
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (Awaitables.nested, ["inner", "nested"]),
        (Awaitables.by_await, ["inner", "by_await"]),
        (Awaitables.by_async_for, ["inner", "each", "by_async_for"]),
        (Awaitables.by_anext, ["inner", "each", "by_anext"]),
        (Awaitables.by_default, ["inner", "each", "by_default"]),
    ],
)
@in_a_loop
async def test_the_chain_leads_to_the_innermost_await(
    start: Callable[[Awaitables], Awaitable[None]], expected: list[str]
) -> None:
    entry = await entry_of(start)
    assert functions(entry) == expected
    assert entry["waits_for"].endswith(".Unspeakable")


@in_a_loop
async def test_of_a_deep_chain_the_inner_frames_are_told() -> None:
    entry = await entry_of(lambda them: them.deep(300))
    assert (len(entry["frames"]), entry["is_cut"]) == (MOST_FRAMES, True)
    assert functions(entry)[:2] == ["inner", "deep"]


@in_a_loop
async def test_a_task_that_waits_for_another_names_it() -> None:
    gate = asyncio.Event()
    first = asyncio.create_task(gate.wait(), name="first")
    second = asyncio.create_task(asyncio.wait_for(first, None))
    await asyncio.sleep(0)
    assert coroutines.task_entry(second)["waits_for"] == "task first"
    gate.set()
    await second


@in_a_loop
async def test_a_task_that_is_about_to_run_waits_for_nothing() -> None:
    task = asyncio.create_task(asyncio.sleep(0))
    assert coroutines.task_entry(task)["waits_for"] is None
    await task


@in_a_loop
async def test_a_coroutine_at_a_gate_waits_for_its_connection() -> None:
    gate = Gate(asyncio.get_running_loop())

    async def wait() -> None:
        await gate

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    assert coroutines.task_entry(task)["waits_for"] == "an event of its connection"
    gate.open_soon()
    await task


@in_a_loop
async def test_a_spare_task_is_not_told_and_the_task_of_a_request_shows_the_request() -> None:
    tasks = RequestTasks(asyncio.get_running_loop())
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def quick() -> None:
        pass

    await in_a_callback(tasks.run, quick())
    await asyncio.sleep(0)
    spare = [task for task in asyncio.all_tasks() if coroutines.is_spare(task)]
    assert len(spare) == 1
    waiting = await in_a_callback(tasks.run, Awaitables(future).nested())
    assert waiting is not None
    waiting.set_name("GET /secret?token=x")
    await asyncio.sleep(0)
    entry = coroutines.task_entry(waiting)
    assert functions(entry) == ["inner", "nested"]
    assert (entry["waits_for"], entry["name"]) == ("a future", "GET /secret")
    assert not coroutines.is_spare(waiting)
    future.set_result(None)
    await waiting
    tasks.close()
    await asyncio.sleep(0)


@in_a_loop
async def test_of_too_many_tasks_the_oldest_and_the_newest_are_told() -> None:
    gate = asyncio.Event()
    tasks = [asyncio.create_task(gate.wait()) for _ in range(50)]
    chosen = survey.oldest_and_newest(tasks[::-1], 10)
    assert chosen == [*tasks[:5], *tasks[-5:]]
    assert survey.oldest_and_newest(tasks, 50) == tasks
    gate.set()
    await asyncio.gather(*tasks)


@in_a_loop
async def test_ten_thousand_tasks_are_a_small_report_with_a_count() -> None:
    gate = asyncio.Event()
    tasks = [asyncio.create_task(gate.wait()) for _ in range(10_000)]
    await asyncio.sleep(0)
    report = decode(survey.report(asyncio.get_running_loop(), [], 0.0, ROOM))
    assert len(report["tasks"]) <= MOST_ENTRIES
    assert len(report["tasks"]) + report["left_out"]["tasks"] == len(asyncio.all_tasks())
    gate.set()
    await asyncio.gather(*tasks)


# --- greenlets


class Special(greenlet.greenlet):
    """A subclass as gevent has it, with a truth of its own."""

    def __bool__(self) -> bool:
        raise AssertionError


def stand_here() -> None:
    greenlet.getcurrent().parent.switch()  # type: ignore[union-attr]


def stand() -> None:
    stand_here()


@pytest.fixture
def waiting() -> Iterator[list[greenlet.greenlet]]:
    made = [greenlet.greenlet(stand), Special(stand)]
    for one in made:
        one.switch()
    yield made
    for one in made:
        one.switch()


def test_greenlets_that_wait_are_told_with_their_frames(waiting: list[greenlet.greenlet]) -> None:
    found, left_out = greenlets.entries(MOST_ENTRIES)
    ours = [entry for entry in found if functions(entry) == ["stand_here", "stand"]]
    assert sorted(entry["name"].rpartition(".")[2] for entry in ours) == ["Special", "greenlet"]
    assert left_out == 0


def test_greenlets_that_do_not_wait_are_not_told() -> None:
    unstarted = greenlet.greenlet(stand)
    found: list[list[str]] = []

    def look() -> None:
        found.extend(functions(entry) for entry in greenlets.entries(MOST_ENTRIES)[0])

    running = greenlet.greenlet(look)
    running.switch()
    assert not any("look" in names or "stand" in names for names in found)
    assert running.dead
    assert not unstarted


def test_greenlets_from_before_a_freeze_are_told(waiting: list[greenlet.greenlet]) -> None:
    heap.keep_in_view()
    gc.freeze()
    try:
        found, _ = greenlets.entries(MOST_ENTRIES)
        assert sum(functions(entry) == ["stand_here", "stand"] for entry in found) == 2
    finally:
        gc.unfreeze()


def test_too_many_greenlets_are_counted() -> None:
    made = [greenlet.greenlet(stand) for _ in range(30)]
    for one in made:
        one.switch()
    found, left_out = greenlets.entries(10)
    assert (len(found), left_out >= 20) == (10, True)
    for one in made:
        one.switch()


def test_an_idle_greenlet_of_the_pool_is_not_told() -> None:
    class Job:
        def run(self) -> None:
            pass

        def parked(self, pool_worker: Any) -> None:
            raise AssertionError

    pool = Pool(greenlet.getcurrent(), None)
    pool.run([Job()])
    assert not any("_work" in functions(entry) for entry in greenlets.entries(MOST_ENTRIES)[0])
    pool.close()


# --- threads, requests, the whole


@in_a_loop
async def test_threads_are_told_by_name_with_the_loop_first() -> None:
    is_there, end = threading.Event(), threading.Event()

    def stay() -> None:
        is_there.set()
        end.wait()

    thread = threading.Thread(target=stay, name="stays")
    thread.start()
    is_there.wait()
    try:
        report = decode(survey.report(asyncio.get_running_loop(), [], 0.0, ROOM))
    finally:
        end.set()
        thread.join()
    is_loop = [entry["is_loop"] for entry in report["threads"]]
    assert is_loop == [True] + [False] * (len(is_loop) - 1)
    stays = next(entry for entry in report["threads"] if entry["name"] == "stays")
    assert "stay" in functions(stays)


@in_a_loop
async def test_requests_are_told_without_their_query_and_the_longest_first() -> None:
    requests = [
        RequestInProgress("GET", b"/new?secret=1", None),
        RequestInProgress("POST", b"/\xffold", 90.0, "abc"),
        RequestInProgress("GET", b"/exact", 99.5),
    ]
    report = decode(survey.report(asyncio.get_running_loop(), requests, 100.0, ROOM))
    assert report["requests"] == [
        {"method": "POST", "path": "/\xffold", "seconds": 10.0, "id": "abc"},
        {"method": "GET", "path": "/exact", "seconds": 0.5, "id": None},
        {"method": "GET", "path": "/new", "seconds": None, "id": None},
    ]


@pytest.mark.parametrize("most", [0, 255, 2**20 + 1])
@in_a_loop
async def test_a_report_of_a_senseless_size_is_refused(most: int) -> None:
    with pytest.raises(ValueError, match="a report of"):
        survey.write(-1, asyncio.get_running_loop(), [], 0.0, most)


@in_a_loop
async def test_frames_of_hybrid_are_marked() -> None:
    report = json.loads(survey.report(asyncio.get_running_loop(), [], 0.0, ROOM))
    frames = [frame for entry in report["threads"] for frame in entry["frames"]]
    assert all(frame.get("ours", False) == frame["file"].startswith(OURS) for frame in frames)
    assert coroutines.__file__.startswith(OURS)


def test_of_a_deep_stack_the_inner_frames_are_told() -> None:
    def deep(depth: int) -> tuple[list[dict[str, Any]], bool]:
        return deep(depth - 1) if depth else stack_of(sys._getframe())

    frames, is_cut = deep(300)
    assert (len(frames), is_cut) == (MOST_FRAMES, True)
