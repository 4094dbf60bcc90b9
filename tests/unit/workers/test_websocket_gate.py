"""A gate wakes a task as a future does, but at once, and survives cancellation at every moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from support.http import in_callback

from hybrid.workers.tasks.parked import Gate
from hybrid.workers.tasks.request_tasks import RequestTasks


def in_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


async def waiting_at(gate: Gate, log: list[str]) -> asyncio.Task[None]:
    """Return a task that waits at the gate and says when it is through."""

    async def wait() -> None:
        await gate
        assert asyncio.current_task() is task
        log.append("through")

    task = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    assert gate.taken
    return task


def test_opening_steps_the_waiting_task_at_once() -> None:
    async def scenario() -> None:
        gate, log = Gate(asyncio.get_running_loop()), list[str]()
        task = await waiting_at(gate, log)
        await in_callback(lambda: (gate.open(), log.append("opened")))
        assert log == ["through", "opened"]
        assert not gate.taken
        await task

    in_loop(scenario)


def test_opening_soon_steps_it_in_the_next_turn() -> None:
    async def scenario() -> None:
        gate, log = Gate(asyncio.get_running_loop()), list[str]()
        task = await waiting_at(gate, log)
        gate.open_soon()
        log.append("opened")
        await task
        assert log == ["opened", "through"]

    in_loop(scenario)


@pytest.mark.parametrize("message", [None, "enough"])
def test_a_cancelled_wait_raises_and_the_gate_can_be_used_again(message: str | None) -> None:
    async def scenario() -> None:
        gate, log = Gate(asyncio.get_running_loop()), list[str]()
        task = await waiting_at(gate, log)
        task.cancel(message)
        with pytest.raises(asyncio.CancelledError, match=message):
            await task
        assert not gate.taken
        again = await waiting_at(gate, log)
        await in_callback(gate.open)
        await again
        assert log == ["through"]

    in_loop(scenario)


def test_a_timeout_ends_the_wait() -> None:
    async def scenario() -> None:
        gate = Gate(asyncio.get_running_loop())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await gate
        assert not gate.taken

    in_loop(scenario)


def test_a_cancellation_between_opening_soon_and_the_turn_counts() -> None:
    async def scenario() -> None:
        gate, log = Gate(asyncio.get_running_loop()), list[str]()
        task = await waiting_at(gate, log)
        gate.open_soon()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    in_loop(scenario)


def test_an_opening_between_cancellation_and_its_turn_wakes_nobody_twice() -> None:
    async def scenario() -> None:
        gate, log = Gate(asyncio.get_running_loop()), list[str]()
        task = await waiting_at(gate, log)

        def cancel_then_open() -> None:
            task.cancel()
            gate.open()

        await in_callback(cancel_then_open)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert log == []

    in_loop(scenario)


@pytest.mark.parametrize("verb", ["open", "open_soon"])
def test_an_opening_before_the_task_has_seen_the_gate_is_not_lost(verb: str) -> None:
    """The first step of a request's coroutine is taken in the name of a task that has not begun yet."""

    async def scenario() -> None:
        gate, log = Gate(asyncio.get_running_loop()), list[str]()
        tasks = RequestTasks(asyncio.get_running_loop())

        async def wait() -> None:
            await gate
            log.append("through")

        started: list[asyncio.Task[None] | None] = []

        def run() -> None:
            started.append(tasks.run(wait()))
            getattr(gate, verb)()

        await in_callback(run)
        (task,) = started
        assert task is not None
        await task
        assert log == ["through"]
        tasks.close()

    in_loop(scenario)


def test_the_task_sees_its_own_context_variables_after_the_wait() -> None:
    async def scenario() -> None:
        import contextvars

        gate = Gate(asyncio.get_running_loop())
        variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

        async def wait() -> str:
            variable.set("of the task")
            await gate
            return variable.get()

        task = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        variable.set("of the opener")
        await in_callback(gate.open)
        assert await task == "of the task"

    in_loop(scenario)
