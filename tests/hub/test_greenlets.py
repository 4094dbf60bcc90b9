"""Greenlets beside tasks: spawn, join, kill, and the two bridges, on every loop with a `HubRuntime`."""

from __future__ import annotations

import asyncio
import contextvars
import time
from typing import Any

import greenlet
import pytest
from greenlet import GreenletExit
from support.greens import OURS, Green, in_home, on_greens
from support.hub import run_on, turns
from support.records import logged

from hybrid.workers.hub.hub_runtime import HubRuntime
from hybrid.workers.hub.lazy_timeout import LazyTimeout
from hybrid.workers.hub.parking import Parking

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def fail() -> None:
    raise LookupError("mine")


# --- spawn, get, join


@on_greens
def test_a_greenlet_runs_in_the_next_turn_and_has_a_result(green: Green) -> None:
    started = green.runtime.spawn(lambda a, b=0: a + b, 1, b=2)
    assert (started.started, started.ready(), started.successful(), bool(started)) == (True, False, False, False)
    with pytest.raises(TimeoutError):
        started.get(block=False)
    assert started.get() == started.value == 3
    assert (started.ready(), started.successful(), started.exception, bool(started)) == (True, True, None, False)
    assert started.exc_info == (None, None, None)
    assert started.get(block=False) == 3


@on_greens
def test_an_error_is_kept_raised_by_get_and_logged(green: Green) -> None:
    with logged() as log:
        started = green.spawn(fail)
        started.join()
        assert (started.ready(), started.successful(), started.value) == (True, False, None)
        assert isinstance(started.exception, LookupError)
        assert started.exc_info[:2] == (LookupError, started.exception)
        for _ in range(2):
            with pytest.raises(LookupError, match="mine"):
                started.get()
    assert [line.partition(".")[0].startswith("ERROR greenlet ") for line in log] == [True]


@on_greens
def test_waiting_has_a_limit(green: Green) -> None:
    started = green.spawn(green.sleep, 9)
    assert started.join(timeout=0.005) is None
    with pytest.raises(TimeoutError, match=r"within 0.005 s"):
        started.get(timeout=0.005)
    assert bool(started)
    started.kill()


@on_greens
def test_a_greenlet_runs_once(green: Green) -> None:
    started = green.spawn(lambda: None)
    started.join()
    with pytest.raises(RuntimeError, match="runs once"):
        started.run()


@on_greens
def test_a_coroutine_function_is_refused(green: Green) -> None:
    async def coroutine() -> None:
        raise AssertionError("never called")

    with pytest.raises(TypeError, match=r"asyncio\.create_task"):
        green.spawn(coroutine)


@on_greens
def test_links_are_called_after_the_end_or_soon_if_it_has_ended(green: Green) -> None:
    seen: list[object] = []
    started = green.spawn(lambda: "value")
    started.link(lambda ended: seen.append(ended.value))
    taken_back = seen.append
    started.link(taken_back)
    started.unlink(taken_back)
    started.unlink(taken_back)
    started.join()
    green.turns()
    started.rawlink(lambda ended: seen.append("late"))
    green.turns()
    assert seen == ["value", "late"]


@on_greens
def test_children_see_their_parents_variables_and_keep_their_own(green: Green) -> None:
    def child() -> str:
        before = variable.get()
        variable.set("child")
        green.turns()
        return before + variable.get()

    variable.set("parent")
    children = [green.spawn(child) for _ in range(2)]
    assert [item.get() for item in children] == ["parentchild"] * 2
    assert variable.get() == "parent"


@on_greens
def test_greenlets_take_turns(green: Green) -> None:
    seen: list[str] = []

    def count(first: str, second: str) -> None:
        seen.append(first)
        green.sleep(0)
        seen.append(second)

    green.runtime.joinall([green.spawn(count, "12", "34"), green.spawn(count, "56", "78")])
    assert seen == ["12", "56", "34", "78"]


@on_greens
def test_sleeping_takes_its_time(green: Green) -> None:
    began = time.monotonic()
    green.sleep(0.02)
    green.sleep(-1)
    assert time.monotonic() - began >= 0.019


# --- joinall


@on_greens
def test_joinall_waits_for_all_in_the_order_of_their_ends(green: Green) -> None:
    slow, fast = green.spawn(green.sleep, 0.01), green.spawn(lambda: None)
    assert green.runtime.joinall([slow, fast, slow]) == [fast, slow]
    assert green.runtime.joinall([slow, fast]) == [slow, fast]
    assert green.runtime.joinall([]) == []


@on_greens
def test_joinall_may_wait_for_some_or_for_a_while(green: Green) -> None:
    slow, fast = green.spawn(green.sleep, 9), green.spawn(lambda: None)
    assert green.runtime.joinall([slow, fast], count=1) == [fast]
    assert green.runtime.joinall([slow, fast], timeout=0.005) == [fast]
    assert green.runtime.joinall([slow], timeout=0) == []
    slow.kill()


@on_greens
def test_joinall_raises_the_first_error_when_asked_to(green: Green) -> None:
    with logged():
        slow, failing = green.spawn(green.sleep, 9), green.spawn(fail)
        with pytest.raises(LookupError):
            green.runtime.joinall([slow, failing], raise_error=True)
        with pytest.raises(LookupError):
            green.runtime.joinall([slow, failing], raise_error=True)
        assert green.runtime.joinall([failing]) == [failing]
        slow.kill()


@on_greens
def test_a_timeout_error_thrown_in_is_not_taken_for_a_timeout_of_joinall(green: Green) -> None:
    slow = green.spawn(green.sleep, 9)
    joining = green.runtime.spawn(green.runtime.joinall, [slow])
    green.turns()
    with logged():
        joining.kill(TimeoutError)
    assert isinstance(joining.exception, TimeoutError)
    slow.kill()


# --- kill


@on_greens
def test_a_kill_raises_where_the_greenlet_is_parked(green: Green) -> None:
    seen: list[str] = []

    def body() -> None:
        try:
            green.sleep(9)
        finally:
            seen.append("cleaned")

    started = green.spawn(body)
    green.turns()
    started.kill()
    assert (seen, started.successful()) == (["cleaned"], True)
    assert isinstance(started.value, GreenletExit)
    started.kill()


@on_greens
def test_a_greenlet_killed_before_its_first_turn_never_starts(green: Green) -> None:
    started = green.spawn(fail)
    started.kill(block=False)
    started.join()
    assert (started.successful(), started.started) == (True, False)
    failed = green.spawn(lambda: None)
    failed.kill(LookupError("why"))
    with pytest.raises(LookupError, match="why"):
        failed.get()


@on_greens
def test_a_kill_may_be_refused_and_waiting_for_it_limited(green: Green) -> None:
    def refuse() -> str:
        try:
            green.sleep(9)
        except GreenletExit:
            green.sleep(0.02)
        return "refused"

    started = green.spawn(refuse)
    green.turns()
    started.kill(timeout=0.001)
    assert not started.ready()
    assert started.get() == "refused"


@on_greens
def test_a_kill_with_an_error_is_that_error(green: Green) -> None:
    with logged():
        started = green.spawn(green.sleep, 9)
        green.turns()
        started.kill(LookupError)
        with pytest.raises(LookupError):
            started.get()


@on_greens
def test_two_kills_in_one_turn_are_harmless(green: Green) -> None:
    started = green.spawn(green.sleep, 9)
    green.turns()
    started.kill(block=False)
    started.kill(block=False)
    started.join()
    assert started.successful()


# --- coroutines from greenlets


async def slowly(value: object) -> object:
    await asyncio.sleep(0.001)
    return value


async def fail_slowly() -> None:
    await asyncio.sleep(0.001)
    raise LookupError("mine")


@on_greens
def test_await_returns_the_result_or_raises_the_error_of_the_awaitable(green: Green) -> None:
    assert green.runtime.await_(slowly("value")) == "value"
    with pytest.raises(LookupError, match="mine"):
        green.runtime.await_(fail_slowly())
    future: asyncio.Future[str] = green.runtime.loop.create_future()
    green.runtime.loop.call_later(0.001, future.set_result, "future")
    assert green.runtime.await_(future) == "future"
    assert green.runtime.await_(future) == "future"


@on_greens
def test_killing_a_greenlet_cancels_its_awaitable(green: Green) -> None:
    future: asyncio.Future[str] = green.runtime.loop.create_future()
    waiting = green.spawn(green.runtime.await_, future)
    green.turns()
    waiting.kill()
    assert future.cancelled()


@on_greens
def test_a_cancelled_awaitable_raises_in_the_greenlet(green: Green) -> None:
    future: asyncio.Future[str] = green.runtime.loop.create_future()
    with logged():
        waiting = green.spawn(green.runtime.await_, future)
        green.turns()
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            waiting.get()


@in_home
def test_waiting_in_a_coroutine_is_refused(green: Green) -> None:
    future: asyncio.Future[str] = green.runtime.loop.create_future()
    started = green.spawn(lambda: None)
    for call in (
        lambda: green.runtime.sleep(0),
        lambda: green.runtime.sleep(1),
        lambda: green.runtime.await_(future),
        lambda: green.runtime.joinall([started]),
        lambda: started.get(),
    ):
        with pytest.raises(RuntimeError, match="would block the event loop"):
            call()
    started.kill()  # does not block here


# --- greenlets from coroutines


@pytest.mark.parametrize("loop", OURS)
def test_green_returns_the_result_or_raises_the_error_of_the_function(loop: str) -> None:
    async def main(runtime: HubRuntime) -> None:
        def body(value: str, more: str = "") -> str:
            runtime.sleep(0.001)
            return value + more

        assert await runtime.green(body, "value", more="!") == "value!"
        with logged() as log, pytest.raises(LookupError, match="mine"):
            await runtime.green(fail)
        assert log == []

    run_on(loop, main)


@pytest.mark.parametrize("loop", OURS)
def test_cancelling_the_coroutine_kills_the_greenlet(loop: str) -> None:
    async def main(runtime: HubRuntime) -> None:
        seen: list[str] = []

        def body() -> None:
            try:
                runtime.sleep(9)
            except GreenletExit:
                seen.append("killed")
                raise

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.005):
                await runtime.green(body)
        await turns()
        assert seen == ["killed"]

    run_on(loop, main)


@pytest.mark.parametrize("loop", OURS)
def test_both_worlds_nest(loop: str) -> None:
    async def main(runtime: HubRuntime) -> object:
        async def outer(depth: int) -> int:
            return depth if depth == 5 else await runtime.green(inner, depth + 1)

        def inner(depth: int) -> int:
            return runtime.await_(outer(depth + 1)) if depth < 5 else depth

        return await outer(0)

    assert run_on(loop, main) == 5


# --- the parts


def test_a_parking_is_woken_once() -> None:
    async def main(runtime: HubRuntime) -> None:
        seen: list[Any] = []

        def park() -> None:
            parking = Parking(runtime.loop, runtime.home)
            runtime.loop.call_soon(parking.wake, "first")
            runtime.loop.call_soon(parking.wake, "second")
            runtime.loop.call_soon(parking.fail, LookupError())
            seen.append(parking.wait(5))
            failing = Parking(runtime.loop, runtime.home)
            runtime.loop.call_soon(failing.fail, LookupError("failed"))
            runtime.loop.call_soon(failing.wake, "late")
            try:
                failing.wait()
            except LookupError as error:
                seen.append(str(error))
            seen.append(greenlet.getcurrent().parent is runtime.home)

        await runtime.green(park)
        await turns()
        assert seen == ["first", "failed", True]

    run_on("epoll", main)


class Clock:
    """A loop with only time and timers; verbs let time pass."""

    class Timer:
        def __init__(self, clock: Clock, when: float, callback: Any) -> None:
            self._clock, self._when, self.callback = clock, when, callback

        def when(self) -> float:
            return self._when

        def cancel(self) -> None:
            self._clock.timers.remove(self)

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Clock.Timer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Any) -> Timer:
        self.timers.append(self.Timer(self, when, callback))
        return self.timers[-1]

    def passes(self, seconds: float) -> None:
        """Let time pass and timers fire."""
        self.now += seconds
        for timer in [timer for timer in self.timers if timer.when() <= self.now]:
            self.timers.remove(timer)
            timer.callback()


def test_a_lazy_timeout_fires_once_at_its_time() -> None:
    clock: Any = Clock()
    called: list[float] = []
    timeout = LazyTimeout(clock)
    timeout.set(5, lambda: called.append(clock.now))
    clock.passes(4)
    clock.passes(1)
    clock.passes(100)
    assert (called, clock.timers) == ([5.0], [])


def test_a_later_timeout_reuses_the_running_timer() -> None:
    clock: Any = Clock()
    called: list[float] = []
    timeout = LazyTimeout(clock)
    for _ in range(1000):
        timeout.set(30, lambda: called.append(clock.now))
        clock.passes(0.01)
        timeout.clear()
        assert len(clock.timers) == 1
    timeout.set(30, lambda: called.append(clock.now))
    clock.passes(29)
    clock.passes(0.5)
    assert called == []
    clock.passes(1)
    assert len(called) == 1


def test_an_earlier_timeout_moves_the_timer() -> None:
    clock: Any = Clock()
    called: list[str] = []
    timeout = LazyTimeout(clock)
    timeout.set(30, lambda: called.append("late"))
    timeout.set(1, lambda: called.append("early"))
    assert len(clock.timers) == 1
    clock.passes(1)
    clock.passes(100)
    assert called == ["early"]


def test_a_cleared_or_closed_timeout_does_not_fire() -> None:
    clock: Any = Clock()
    timeout = LazyTimeout(clock)
    timeout.set(1, fail)
    timeout.clear()
    clock.passes(2)
    assert clock.timers == []
    timeout.set(1, fail)
    timeout.close()
    timeout.close()
    assert clock.timers == []
