"""Cancelling a task stepped by the poller: each test runs in one and in a plain task and expects the same."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

import pytest
from support.hub import outcome_of, turns, until
from support.streams import Ends, on_streams

BOTH = [("epoll", "stepped"), ("epoll", "plain"), ("poll", "stepped")]
Waiting = Callable[[Ends], Awaitable[object]]


def this_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def parked_twice(ends: Ends, handler: Callable[[], Awaitable[object]]) -> asyncio.Task[object]:
    """Start a handler and let it reach its second read: the poller has stepped it once."""

    async def body() -> object:
        await ends.reader.read(1)
        return await handler()

    task = ends.start(body())
    await turns()
    ends.says(b"x")
    await turns()
    return task


@on_streams(places=BOTH)
async def test_a_parked_task_is_cancelled(ends: Ends) -> None:
    for start in (
        lambda: ends.start(ends.reader.read(1)),  # parked by the task's first step
        lambda: parked_twice(ends, lambda: ends.reader.read(1)),  # parked by the poller's
    ):
        started = start()
        task = started if isinstance(started, asyncio.Task) else await started
        await turns()
        assert task.cancel()
        assert not task.cancelled()
        assert await outcome_of(task) is asyncio.CancelledError
        assert task.cancelled()
        assert not task.cancel()
    ends.says(b"y")
    assert await ends.reader.read(1) == b"y"


@on_streams(places=BOTH)
async def test_the_message_of_a_cancel_arrives_in_the_handler(ends: Ends) -> None:
    seen: list[tuple[object, ...]] = []

    async def handler() -> None:
        try:
            await ends.reader.read(1)
        except asyncio.CancelledError as error:
            seen.append(error.args)
            raise

    for message in (None, "why"):
        task = await parked_twice(ends, handler)
        task.cancel(message) if message else task.cancel()
        assert await outcome_of(task) is asyncio.CancelledError
    assert seen == [(), ("why",)]


@on_streams(places=BOTH)
async def test_requests_to_cancel_are_counted(ends: Ends) -> None:
    task = await parked_twice(ends, lambda: ends.reader.read(1))
    assert task.cancelling() == 0
    assert task.cancel()
    assert task.cancel()
    assert task.cancelling() == 2
    assert task.uncancel() == 1
    assert await outcome_of(task) is asyncio.CancelledError


@on_streams(places=BOTH)
async def test_a_handler_may_catch_the_cancel_and_read_again(ends: Ends) -> None:
    async def handler() -> object:
        seen = [await outcome_of(ends.reader.read(1)) for _ in range(2)]
        return seen, this_task().cancelling(), this_task().uncancel(), await ends.reader.read(1)

    task = await parked_twice(ends, handler)
    task.cancel()
    await turns()
    ends.says(b"a")
    await turns()
    ends.says(b"b")
    assert await task == ([asyncio.CancelledError, b"a"], 1, 0, b"b")


@on_streams(places=BOTH)
async def test_a_handler_may_be_cancelled_again_and_again(ends: Ends) -> None:
    async def handler() -> object:
        return [await outcome_of(ends.reader.read(1)) for _ in range(4)]

    task = await parked_twice(ends, handler)
    for _ in range(3):
        task.cancel()
        await turns()
    ends.says(b"a")
    assert await task == [asyncio.CancelledError] * 3 + [b"a"]


@on_streams(places=BOTH)
async def test_a_handler_may_wait_for_something_else_while_it_is_cancelled(ends: Ends) -> None:
    async def handler() -> object:
        try:
            await ends.reader.read(1)
        finally:
            await asyncio.sleep(0.001)
            ends.writer.write(b"bye")
            await ends.writer.drain()

    task = await parked_twice(ends, handler)
    task.cancel()
    assert await outcome_of(task) is asyncio.CancelledError
    assert await ends.hears(3) == b"bye"


@on_streams(places=BOTH)
async def test_a_handler_may_turn_the_cancel_into_an_error(ends: Ends) -> None:
    async def handler() -> object:
        try:
            return await ends.reader.read(1)
        except asyncio.CancelledError:
            raise LookupError from None

    task = await parked_twice(ends, handler)
    task.cancel()
    assert await outcome_of(task) is LookupError
    assert not task.cancelled()


@on_streams(places=BOTH)
async def test_data_and_cancel_in_one_turn_lose_no_byte(ends: Ends) -> None:
    async def handler() -> object:
        first = await outcome_of(ends.reader.read(1))
        return first, await ends.reader.read(1)

    task = await parked_twice(ends, handler)
    ends.says(b"a")
    task.cancel()
    await turns()
    ends.says(b"b")
    first, second = await task  # type: ignore[misc]
    assert (first, second) == (asyncio.CancelledError, b"a")


@on_streams(places=BOTH)
async def test_a_task_waiting_for_a_future_is_cancelled_there(ends: Ends) -> None:
    future: asyncio.Future[None] = ends.loop.create_future()

    async def handler() -> object:
        return await future

    task = await parked_twice(ends, handler)
    task.cancel("why")
    assert await outcome_of(task) is asyncio.CancelledError
    assert future.cancelled()


@on_streams(places=BOTH)
async def test_a_task_waiting_for_a_subtask_is_cancelled_with_it(ends: Ends) -> None:
    subtasks: list[asyncio.Task[bytes]] = []

    async def handler() -> object:
        subtasks.append(asyncio.create_task(ends.reader.read(1)))
        return await subtasks[0]

    task = await parked_twice(ends, handler)
    task.cancel()
    assert await outcome_of(task) is asyncio.CancelledError
    assert subtasks[0].cancelled()
    ends.says(b"a")
    assert await ends.reader.read(1) == b"a"


# --- a handler that cancels its own task, in a step by the poller


async def read(ends: Ends) -> object:
    return await ends.reader.read(1)


async def wait_for_a_future(ends: Ends) -> object:
    future: asyncio.Future[str] = ends.loop.create_future()
    ends.loop.call_later(0.001, lambda: future.done() or future.set_result("future"))
    return await future


async def wait_for_a_subtask(ends: Ends) -> object:
    return await asyncio.create_task(asyncio.sleep(0.001, "subtask"))


async def let_others_run(ends: Ends) -> object:
    await asyncio.sleep(0)
    return "turn"


async def read_in_a_subtask(ends: Ends) -> object:
    return await asyncio.create_task(ends.reader.read(1))


async def wait_for_a_done_future(ends: Ends) -> object:
    future: asyncio.Future[str] = ends.loop.create_future()
    future.set_result("done")
    return await future


async def wait_behind_a_shield(ends: Ends) -> object:
    return await asyncio.shield(asyncio.sleep(0.001, "shielded"))


WAITS: list[Waiting] = [
    read,
    wait_for_a_future,
    wait_for_a_subtask,
    let_others_run,
    read_in_a_subtask,
    wait_behind_a_shield,
]


@on_streams(places=BOTH)
async def test_a_handler_that_cancels_itself_is_cancelled_at_its_next_wait(ends: Ends) -> None:
    for waits in WAITS:
        seen: list[object] = []

        async def handler(waits: Waiting = waits, seen: list[object] = seen) -> None:
            this_task().cancel("by myself")
            seen.append("still running")
            try:
                seen.append(await waits(ends))
            except asyncio.CancelledError as error:
                seen.append(error.args)
                raise

        task = await parked_twice(ends, handler)
        assert await outcome_of(task) is asyncio.CancelledError, waits
        assert seen == ["still running", ("by myself",)], waits
    await asyncio.sleep(0.005)
    ends.says(b"a")
    assert await ends.reader.read(1) == b"a"


@on_streams(places=BOTH)
async def test_a_handler_continues_after_it_caught_its_own_cancel(ends: Ends) -> None:
    for waits in WAITS:

        async def handler(waits: Waiting = waits) -> object:
            this_task().cancel()
            first = await outcome_of(waits(ends))
            return first, await ends.reader.read(1), await waits(ends), await ends.reader.read(1)

        task = await parked_twice(ends, handler)
        await turns()
        ends.says(b"abcd" if waits in (read, read_in_a_subtask) else b"ab")
        first, *_ = await task  # type: ignore[misc]
        assert first is asyncio.CancelledError, waits
        while await asyncio.wait_for(outcome_of(asyncio.wait_for(ends.reader.read(10), 0.005)), 5) is not TimeoutError:
            pass


@on_streams(places=BOTH)
async def test_awaiting_a_done_future_does_not_wait(ends: Ends) -> None:
    async def handler() -> object:
        this_task().cancel()
        first = await wait_for_a_done_future(ends)
        return first, await outcome_of(ends.reader.read(1))

    task = await parked_twice(ends, handler)
    assert await task == ("done", asyncio.CancelledError)


@on_streams(places=BOTH)
async def test_a_handler_that_cancels_itself_and_returns_counts_as_cancelled(ends: Ends) -> None:
    async def handler() -> str:
        this_task().cancel()
        return "lost"

    task = await parked_twice(ends, handler)
    assert await outcome_of(task) is asyncio.CancelledError
    assert task.cancelled()


@on_streams(places=BOTH)
async def test_a_handler_that_cancels_itself_and_raises_has_failed(ends: Ends) -> None:
    async def handler() -> str:
        this_task().cancel()
        raise LookupError

    task = await parked_twice(ends, handler)
    assert await outcome_of(task) is LookupError


@on_streams(places=BOTH)
async def test_cancelling_itself_twice_in_a_turn_is_one_cancel(ends: Ends) -> None:
    async def handler() -> object:
        assert this_task().cancel("one")
        assert this_task().cancel("two")
        try:
            await ends.reader.read(1)
        except asyncio.CancelledError:
            return this_task().cancelling(), await ends.reader.read(1)

    task = await parked_twice(ends, handler)
    await turns()
    ends.says(b"a")
    assert await task == (2, b"a")


@on_streams(places=BOTH)
async def test_uncancel_in_the_same_step_works_as_in_python(ends: Ends) -> None:
    async def handler() -> object:
        this_task().cancel()
        assert this_task().uncancel() == 0
        return await outcome_of(ends.reader.read(1))

    task = await parked_twice(ends, handler)
    await turns()
    ends.says(b"a")
    # since 3.13 uncancel() also takes back a cancel that has not been delivered
    assert await task == (b"a" if sys.version_info >= (3, 13) else asyncio.CancelledError)


@on_streams(places=BOTH)
async def test_uncancel_before_the_return_works_as_in_python(ends: Ends) -> None:
    async def handler() -> str:
        this_task().cancel()
        this_task().uncancel()
        return "returned"

    task = await parked_twice(ends, handler)
    assert await outcome_of(task) == ("returned" if sys.version_info >= (3, 13) else asyncio.CancelledError)


@on_streams(places=BOTH)
async def test_a_cancel_by_a_callback_in_the_handlers_turn_is_a_cancel(ends: Ends) -> None:
    async def handler() -> object:
        ends.loop.call_soon(this_task().cancel)
        await asyncio.sleep(0)
        return await outcome_of(ends.reader.read(1))

    task = await parked_twice(ends, handler)
    assert await outcome_of(task) is asyncio.CancelledError


# --- timeouts


@on_streams(places=BOTH)
async def test_timeouts_around_reads_ring_and_leave_no_trace(ends: Ends) -> None:
    seen: list[object] = []

    async def handler() -> object:
        for _ in range(3):
            try:
                async with asyncio.timeout(0.003):
                    await ends.reader.read(1)
            except TimeoutError:
                seen.append("timed out")
        async with asyncio.timeout(5):
            seen.append(await ends.reader.read(1))
        return seen, this_task().cancelling()

    task = await parked_twice(ends, handler)
    await until(lambda: len(seen) == 3)
    ends.says(b"a")
    assert await task == (["timed out"] * 3 + [b"a"], 0)


@on_streams(places=BOTH)
async def test_timeouts_around_other_waits_ring_too(ends: Ends) -> None:
    seen: list[str] = []

    async def handler() -> object:
        for waits in (lambda: asyncio.sleep(9), lambda: asyncio.create_task(ends.reader.read(1)), asyncio.Event().wait):
            try:
                async with asyncio.timeout(0.003):
                    await asyncio.sleep(0)
                    await waits()
            except TimeoutError:
                seen.append("timed out")
            async with asyncio.timeout(5):
                assert await ends.reader.read(1) == b"a"
        return this_task().cancelling()

    task = await parked_twice(ends, handler)
    for count in (1, 2, 3):
        await until(lambda count=count: len(seen) == count)
        ends.says(b"a")
    assert await task == 0


@on_streams(places=BOTH)
async def test_timeouts_nest(ends: Ends) -> None:
    seen: list[str] = []

    async def handler() -> object:
        try:
            async with asyncio.timeout(0.01):
                try:
                    async with asyncio.timeout(5):
                        await ends.reader.read(1)
                except TimeoutError:
                    seen.append("inner")
        except TimeoutError:
            seen.append("outer")
        return seen, await ends.reader.read(1)

    task = await parked_twice(ends, handler)
    await until(lambda: seen)
    ends.says(b"a")
    assert await task == (["outer"], b"a")


@on_streams(places=BOTH)
async def test_a_timeout_that_is_over_already_ends_the_first_read(ends: Ends) -> None:
    async def handler() -> object:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(-1):
                await ends.reader.read(1)
        return await ends.reader.read(1)

    task = await parked_twice(ends, handler)
    await turns()
    ends.says(b"a")
    assert await task == b"a"


@on_streams(places=BOTH)
async def test_a_cancel_from_outside_is_no_timeout(ends: Ends) -> None:
    async def handler() -> object:
        async with asyncio.timeout(5):
            return await ends.reader.read(1)

    task = await parked_twice(ends, handler)
    task.cancel()
    assert await outcome_of(task) is asyncio.CancelledError


@on_streams(places=BOTH)
async def test_wait_for_rings_around_reads(ends: Ends) -> None:
    async def handler() -> object:
        seen.append(await outcome_of(asyncio.wait_for(ends.reader.read(1), 0.003)))
        seen.append(await asyncio.wait_for(ends.reader.read(1), 5))
        return await ends.reader.read(1)

    seen: list[object] = []
    task = await parked_twice(ends, handler)
    for count, data in ((1, b"a"), (2, b"b")):
        await until(lambda count=count: len(seen) == count)
        ends.says(data)
    assert await task == b"b"
    assert seen == [TimeoutError, b"a"]


@on_streams(places=BOTH)
async def test_a_cancelled_handler_is_gone_from_the_loop(ends: Ends) -> None:
    tasks = [await parked_twice(ends, lambda: ends.reader.read(1))]
    tasks[0].cancel()
    await until(tasks[0].done)
    assert tasks[0] not in asyncio.all_tasks()
