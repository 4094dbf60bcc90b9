"""A task stepped by the poller behaves like any other: each test runs in one and in a plain task."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import io
import sys
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from support.hub import outcome_of, run_on, tcp_pair, turns, until
from support.streams import Ends, on_streams, open_ends

from hybrid.workers.hub.hub_runtime import HubRuntime
from hybrid.workers.streams.stepping import Stepper, begin_task, create_task

BOTH = [("epoll", "stepped"), ("epoll", "plain"), ("select", "stepped")]
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@on_streams(places=BOTH)
async def test_the_result_is_the_handlers_return_value(ends: Ends) -> None:
    async def handler() -> bytes:
        first = await ends.reader.read(10)
        return first + await ends.reader.read(10)

    task = ends.start(handler())
    assert isinstance(task, asyncio.Task)
    for data in (b"a", b"b"):
        ends.says(data)
        await turns()
    assert await task == b"ab"


@on_streams(places=BOTH)
async def test_a_handler_that_never_waits_for_its_socket_works(ends: Ends) -> None:
    async def handler() -> str:
        await asyncio.sleep(0)
        return "done"

    assert await ends.start(handler()) == "done"


@on_streams(places=BOTH)
async def test_an_error_of_the_handler_is_the_tasks(ends: Ends) -> None:
    async def handler() -> None:
        await ends.reader.read(10)
        raise LookupError("mine")

    task = ends.start(handler())
    await turns()
    ends.says(b"x")
    with pytest.raises(LookupError, match="mine") as raised:
        await task
    assert raised.traceback[-1].name == "handler"


@on_streams(places=BOTH)
async def test_an_error_before_the_first_wait_is_the_tasks(ends: Ends) -> None:
    async def handler() -> None:
        raise LookupError("mine")

    assert await outcome_of(ends.start(handler())) is LookupError


@on_streams(places=BOTH)
async def test_stop_iteration_out_of_a_handler_is_a_runtime_error(ends: Ends) -> None:
    async def handler() -> None:
        await ends.reader.read(10)
        raise StopIteration("mine")

    ends.says(b"x")
    assert await outcome_of(ends.start(handler())) is RuntimeError


@on_streams(places=BOTH)
async def test_waits_of_every_kind_alternate(ends: Ends) -> None:
    seen: list[object] = []
    future: asyncio.Future[str] = ends.loop.create_future()

    async def handler() -> None:
        seen.append(await ends.reader.read(1))
        await asyncio.sleep(0)
        seen.append(await ends.reader.read(1))
        await asyncio.sleep(0.001)
        seen.append(await future)
        seen.append(await ends.reader.read(1))
        seen.append(await asyncio.create_task(ends.reader.read(1)))
        seen.append(await asyncio.wait_for(ends.reader.read(1), 5))
        seen.append(await ends.reader.read(1))

    task = ends.start(handler())
    for data in (b"1", b"2"):
        await turns()
        ends.says(data)
    await until(lambda: len(seen) == 2)
    future.set_result("future")
    for data in (b"3", b"4", b"5", b"6"):
        await turns(10)
        ends.says(data)
    await task
    assert seen == [b"1", b"2", "future", b"3", b"4", b"5", b"6"]


@on_streams(places=BOTH)
async def test_a_failed_future_between_two_reads_raises_in_the_handler(ends: Ends) -> None:
    future: asyncio.Future[str] = ends.loop.create_future()

    async def handler() -> object:
        await ends.reader.read(1)
        seen = await outcome_of(future)
        return seen, await ends.reader.read(1)

    task = ends.start(handler())
    ends.says(b"x")
    await turns()
    future.set_exception(LookupError())
    await turns()
    ends.says(b"y")
    assert await task == (LookupError, b"y")


@on_streams(places=BOTH)
async def test_awaiting_a_non_future_is_an_error_in_the_handler(ends: Ends) -> None:
    class Strange:
        def __await__(self) -> Any:
            yield "strange"

    async def handler() -> object:
        await ends.reader.read(1)
        seen = await outcome_of(Strange())
        return seen, await ends.reader.read(1)

    task = ends.start(handler())
    ends.says(b"x")
    await turns()
    ends.says(b"y")
    assert await task == (RuntimeError, b"y")


@on_streams(places=BOTH)
async def test_awaiting_itself_is_an_error_in_the_handler(ends: Ends) -> None:
    async def handler() -> object:
        await ends.reader.read(1)
        return await outcome_of(task)

    task = ends.start(handler())
    await turns()
    ends.says(b"x")
    assert await task is RuntimeError


# --- the current task and its context


@on_streams(places=BOTH)
async def test_the_current_task_is_right_at_every_step_and_none_elsewhere(ends: Ends) -> None:
    seen: list[object] = []
    elsewhere: list[object] = []

    def look() -> None:
        elsewhere.append(asyncio.current_task())
        ends.loop.call_soon(look)

    async def handler() -> None:
        for _ in range(3):
            seen.append(asyncio.current_task())
            await ends.reader.read(1)
            seen.append(asyncio.current_task())
            await asyncio.sleep(0)

    ends.loop.call_soon(look)
    task = ends.start(handler())
    for _ in range(3):
        await turns()
        ends.says(b"x")
    await task
    assert set(seen) == {task}
    assert set(elsewhere) == {None}
    assert asyncio.current_task() is not task


@on_streams(places=BOTH)
async def test_variables_set_in_a_handler_last_over_reads_and_do_not_leak(ends: Ends) -> None:
    seen: list[str] = []

    async def handler() -> None:
        seen.append(variable.get())
        variable.set("first")
        await ends.reader.read(1)
        seen.append(variable.get())
        variable.set("second")
        await ends.reader.read(1)
        seen.append(variable.get())
        await asyncio.sleep(0)
        ends.loop.call_soon(lambda: seen.append("callback " + variable.get()))
        variable.set("third")
        seen.append(await asyncio.create_task(ask()))

    async def ask() -> str:
        return "task " + variable.get()

    variable.set("outer")
    task = ends.start(handler())
    for _ in range(2):
        await turns()
        ends.says(b"x")
    await task
    assert seen == ["outer", "first", "second", "callback second", "task third"]
    assert variable.get() == "outer"


@on_streams(places=BOTH)
async def test_two_handlers_keep_their_own_variables(ends: Ends) -> None:
    with tcp_pair() as (left, right):
        other = await open_ends(ends.runtime, left, right)

        async def handler(mine: Ends, name: str) -> list[str]:
            variable.set(name)
            seen = []
            for _ in range(5):
                await mine.reader.read(1)
                seen.append(variable.get())
            return seen

        tasks = [ends.start(handler(ends, "one")), ends.start(handler(other, "two"))]
        for _ in range(5):
            ends.says(b"x")
            other.says(b"x")
            await turns(10)
        assert await asyncio.gather(*tasks) == [["one"] * 5, ["two"] * 5]
        other.writer.close()


# --- other features of tasks


@on_streams(places=BOTH)
async def test_a_task_group_works_in_a_handler(ends: Ends) -> None:
    async def handler() -> object:
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(ends.reader.read(10))
            group.create_task(asyncio.sleep(0))
        return reading.result(), await ends.reader.read(10)

    task = ends.start(handler())
    for _ in range(2):
        await turns()
        ends.says(b"x")
    assert await task == (b"x", b"x")


@on_streams(places=BOTH)
async def test_a_failing_task_of_a_group_ends_the_read_of_the_handler(ends: Ends) -> None:
    async def fail() -> None:
        await asyncio.sleep(0.002)
        raise LookupError

    async def handler() -> object:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail())
                await ends.reader.read(10)
        except* LookupError:
            pass
        task = asyncio.current_task()
        assert task is not None
        ends.loop.call_soon(ends.says, b"x")
        return task.cancelling(), await ends.reader.read(10)

    assert await ends.start(handler()) == (0, b"x")


@on_streams(places=BOTH)
async def test_async_generators_read_and_are_closed(ends: Ends) -> None:
    seen: list[str] = []

    async def pieces() -> AsyncIterator[bytes]:
        try:
            while data := await ends.reader.read(1):
                yield data
        finally:
            await asyncio.sleep(0)
            seen.append("closed")

    async def handler() -> None:
        generator = pieces()
        async for data in generator:
            seen.append(data.decode())
            if data == b"b":
                break
        await generator.aclose()  # type: ignore[attr-defined]

    ends.says(b"abc")
    await ends.start(handler())
    assert seen == ["a", "b", "closed"]


@on_streams(places=BOTH)
async def test_async_with_over_a_read_cleans_up(ends: Ends) -> None:
    lock = asyncio.Lock()

    async def handler() -> bytes:
        async with lock:
            return bytes(await ends.reader.read(1))

    first, second = ends.start(handler()), ends.start(handler())
    await turns()
    assert lock.locked()
    ends.says(b"ab")
    assert await asyncio.gather(first, second) == [b"a", b"b"]
    assert not lock.locked()


@on_streams(places=BOTH)
async def test_a_parked_task_shows_where_the_handler_stands(ends: Ends) -> None:
    async def handler_with_a_name() -> None:
        await ends.reader.read(1)

    task = ends.start(handler_with_a_name())
    await turns()
    out = io.StringIO()
    task.print_stack(file=out)
    assert "handler_with_a_name" in out.getvalue()
    assert [frame.f_code.co_name for frame in task.get_stack()] == ["handler_with_a_name"]
    assert "handler_with_a_name() running at" in repr(task)
    ends.says(b"x")
    await task
    assert "handler_with_a_name() done" in repr(task)
    assert task.get_stack() == []


@on_streams(places=BOTH)
async def test_a_task_has_a_name_that_can_be_set(ends: Ends) -> None:
    async def handler() -> str:
        await ends.reader.read(1)
        task = asyncio.current_task()
        assert task is not None
        task.set_name("of its own")
        await ends.reader.read(1)
        return task.get_name()

    task = ends.start(handler())
    assert task.get_name().startswith("Task-")
    ends.says(b"x")
    await turns()
    ends.says(b"x")
    assert await task == "of its own"


@on_streams(places=BOTH)
async def test_done_callbacks_see_the_finished_task(ends: Ends) -> None:
    seen: list[object] = []

    async def handler() -> bytes:
        return bytes(await ends.reader.read(1))

    task = ends.start(handler())
    task.add_done_callback(lambda done: seen.append(done.result()))
    await turns()
    assert task in asyncio.all_tasks()
    ends.says(b"x")
    await task
    await turns()
    assert seen == [b"x"]
    assert task not in asyncio.all_tasks()


@on_streams(places=BOTH)
async def test_everything_works_in_debug_mode(ends: Ends) -> None:
    async def handler() -> object:
        await ends.reader.read(1)
        await asyncio.sleep(0)
        return await outcome_of(asyncio.wait_for(ends.reader.read(1), 0.001))

    ends.loop.set_debug(True)
    task = ends.start(handler())
    await turns()
    ends.says(b"x")
    assert await task is TimeoutError
    ends.loop.set_debug(False)


@on_streams(places=BOTH)
async def test_other_connections_are_read_by_the_same_handler(ends: Ends) -> None:
    with tcp_pair() as (left, right):
        other = await open_ends(ends.runtime, left, right)

        async def handler() -> bytes:
            received = b""
            for _ in range(3):
                received += await ends.reader.read(1)
                received += await other.reader.read(1)
            return received

        task = ends.start(handler())
        for _ in range(3):
            await turns()
            ends.says(b"1")
            await turns()
            other.says(b"2")
        assert await task == b"121212"
        other.writer.close()


@on_streams(places=BOTH)
async def test_closing_its_connection_wakes_a_parked_handler(ends: Ends) -> None:
    async def handler() -> bytes:
        return bytes(await ends.reader.read(1))

    task = ends.start(handler())
    await turns()
    ends.writer.transport.abort()
    assert await task == b""


@on_streams(places=BOTH)
async def test_closing_and_cancelling_in_one_turn_cancels(ends: Ends) -> None:
    async def handler() -> bytes:
        return bytes(await ends.reader.read(1))

    task = ends.start(handler())
    await turns()
    ends.writer.transport.abort()
    task.cancel()
    assert await outcome_of(task) is asyncio.CancelledError


@pytest.mark.parametrize("make", [create_task, asyncio.AbstractEventLoop.create_task], ids=["stepped", "plain"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_exit_out_of_a_handler_ends_the_loop(make: Any, error: type[BaseException]) -> None:
    async def main(runtime: HubRuntime) -> None:
        start: Callable[..., Any] = create_task if make is create_task else type(runtime.loop).create_task
        with tcp_pair() as (left, right):
            ends = await open_ends(runtime, left, right)

            async def handler() -> None:
                await ends.reader.read(1)
                raise error

            task = start(runtime.loop, handler())
            await turns()
            ends.says(b"x")
            try:
                await turns(100)
            finally:
                ends.writer.close()
                task.exception()

    with pytest.raises(error):
        run_on("epoll", main)


def test_a_poller_that_cannot_watch_is_an_error_of_the_read() -> None:
    async def main(runtime: HubRuntime) -> None:
        with tcp_pair() as (left, right):
            ends = await open_ends(runtime, left, right)
            refusals: list[OSError] = []

            def refuse(watch: object, mask: int) -> None:
                refusals.append(OSError(28, "no space"))
                raise refusals[-1]

            real, runtime.watches.arm = runtime.watches.arm, refuse  # type: ignore[method-assign]

            async def handler() -> object:
                first = await outcome_of(ends.reader.read(1))  # parks from the task's own step
                runtime.watches.arm = real  # type: ignore[method-assign]
                second = await ends.reader.read(1)
                ends.reader._watch.armed = 0
                runtime.watches.arm = refuse  # type: ignore[method-assign]
                third = await outcome_of(ends.reader.read(1))  # parks from the poller's step
                runtime.watches.arm = real  # type: ignore[method-assign]
                ends.reader._watch.armed = 1
                return first, second, third, await ends.reader.read(1)

            task = runtime.create_task(handler())
            await turns()
            ends.says(b"x")
            await until(lambda: len(refusals) == 2)
            await turns()
            ends.says(b"y")
            assert await task == (OSError, b"x", OSError, b"y")

            plain = asyncio.create_task(ends.reader.read(1))
            ends.reader._watch.armed = 0
            runtime.watches.arm = refuse  # type: ignore[method-assign]
            assert await outcome_of(plain) is OSError
            runtime.watches.arm = real  # type: ignore[method-assign]
            ends.reader._watch.armed = 1
            ends.writer.close()

    run_on("epoll", main)


def test_nothing_of_a_finished_handler_waits_for_the_garbage_collector() -> None:
    class Token:
        """An object that a handler holds."""

    async def main(runtime: HubRuntime) -> None:
        alive: list[weakref.ref[Any]] = []
        with tcp_pair() as (left, right):
            ends = await open_ends(runtime, left, right)
            holder: contextvars.ContextVar[Token] = contextvars.ContextVar("holder")

            async def handler(end: str) -> None:
                token = Token()
                holder.set(token)
                alive.append(weakref.ref(token))
                await ends.reader.read(1)
                await ends.reader.read(1)
                if end == "raises":
                    raise LookupError
                if end == "is cancelled":
                    await ends.reader.read(1)

            for end in ("returns", "raises", "is cancelled"):
                task = runtime.create_task(handler(end))
                for _ in range(2):
                    await turns()
                    ends.says(b"x")
                await turns(10)
                if end == "is cancelled":
                    task.cancel()
                    await turns()
                assert task.done()
                assert task.cancelled() or bool(task.exception()) is (end == "raises")
                del task
                await turns()
                assert [ref() for ref in alive] == [None] * len(alive)
            ends.writer.close()

    gc.collect()
    gc.disable()
    try:
        run_on("epoll", main)
    finally:
        gc.enable()


def test_a_task_that_never_started_warns_like_any_coroutine() -> None:
    async def main(runtime: HubRuntime) -> None:
        async def handler() -> None:
            raise AssertionError("never called")

        task = runtime.create_task(handler())
        task.cancel()
        assert await outcome_of(task) is asyncio.CancelledError

    run_on("epoll", main)


def test_a_stepper_is_a_coroutine_and_shows_the_handlers_attributes() -> None:
    async def main(runtime: HubRuntime) -> None:
        async def handler() -> str:
            return "done"

        coroutine = handler()
        stepper = Stepper(runtime.loop, coroutine)
        assert asyncio.iscoroutine(stepper)
        assert stepper.__qualname__.endswith("handler")
        assert stepper.cr_code is coroutine.cr_code
        with pytest.raises(AttributeError, match="no attribute 'gi_frame'"):
            _ = stepper.gi_frame
        assert await stepper == "done"
        stepper.close()

        unused = Stepper(runtime.loop, handler())
        unused.close()
        assert unused.cr_frame is None

    run_on("epoll", main)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_eager_tasks_step_their_handler_too() -> None:
    async def main(runtime: HubRuntime) -> None:
        runtime.loop.set_task_factory(asyncio.eager_task_factory)
        with tcp_pair() as (left, right):
            ends = await open_ends(runtime, left, right)

            async def handler() -> bytes:
                return bytes(await ends.reader.read(1) + await ends.reader.read(1))

            task = runtime.create_task(handler())
            for _ in range(2):
                await turns()
                ends.says(b"x")
            assert await task == b"xx"
            ends.writer.close()

    run_on("epoll", main)


# --- tasks that start immediately


def begun_in_callback(*handlers: Callable[[], Any]) -> tuple[list[bool], list[Any]]:
    """Start tasks in one callback of the hub; return which were done by then, and how they ended."""

    async def main(runtime: HubRuntime) -> tuple[list[bool], list[Any]]:
        tasks: list[asyncio.Task[Any]] = []
        were_done: list[bool] = []

        def begin() -> None:
            tasks.extend(begin_task(runtime.loop, handler()) for handler in handlers)
            were_done.extend(task.done() for task in tasks)

        runtime.loop.call_soon(begin)
        await until(lambda: were_done)
        return were_done, [await outcome_of(task) for task in tasks]

    return run_on("epoll", main)


def test_a_task_of_a_new_connection_takes_its_first_step_immediately() -> None:
    order: list[str] = []

    async def short() -> str:
        order.append("short")
        return "done"

    async def long() -> str:
        order.append("long")
        await asyncio.sleep(0)
        return "later"

    async def failing() -> None:
        assert asyncio.current_task() is not None
        raise LookupError

    assert begun_in_callback(short, long, failing) == ([True, False, True], ["done", "later", LookupError])
    assert order == ["short", "long"]


def test_within_a_task_it_starts_in_the_next_turn() -> None:
    async def main(runtime: HubRuntime) -> str:
        async def handler() -> str:
            return "done"

        task = begin_task(runtime.loop, handler())
        assert not task.done()
        return await task

    assert run_on("epoll", main) == "done"


def test_callbacks_queued_before_it_still_run_in_order() -> None:
    async def main(runtime: HubRuntime) -> list[str]:
        order: list[str] = []

        async def handler() -> None:
            order.append("task")
            await asyncio.sleep(0)
            order.append("task again")

        def begin() -> None:
            runtime.loop.call_soon(order.append, "before")
            begin_task(runtime.loop, handler())
            runtime.loop.call_soon(order.append, "after")

        runtime.loop.call_soon(begin)
        await until(lambda: len(order) == 4)
        return order

    assert run_on("epoll", main) == ["task", "before", "task again", "after"]
