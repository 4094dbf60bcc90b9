"""The pool of greenlets: used again, with nothing left over from the time before."""

from __future__ import annotations

import contextvars

import greenlet
from support.hub import run_on, turns
from support.records import logged

from hybrid.workers.hub.pool import MOST_IDLE, Pool
from hybrid.workers.hub.runtime import HubRuntime


def in_callback(body: object) -> None:
    """Run `body(pool, runtime)` as a callback of a loop, where greenlets are started."""

    async def main(runtime: HubRuntime) -> None:
        done = runtime.loop.create_future()

        def call() -> None:
            try:
                body(Pool(greenlet.getcurrent(), runtime.loop), runtime)  # type: ignore[operator]
            except BaseException as error:  # noqa: BLE001 - raised in the test
                done.set_exception(error)
            else:
                done.set_result(None)

        runtime.loop.call_soon(call)
        await done
        await turns()

    run_on("epoll", main)


def test_a_greenlet_is_used_again() -> None:
    def body(pool: Pool, runtime: HubRuntime) -> None:
        assert pool.start(lambda: None) is pool.start(lambda: None)

    in_callback(body)


def test_a_function_runs_at_once_until_it_parks() -> None:
    steps: list[str] = []

    def body(pool: Pool, runtime: HubRuntime) -> None:
        home = greenlet.getcurrent()

        def function() -> None:
            steps.append("began")
            home.switch()
            steps.append("ended")

        first = pool.start(function)
        assert steps == ["began"]
        assert pool.start(lambda: None) is not first
        first.switch()
        assert steps == ["began", "ended"]

    in_callback(body)


def test_context_variables_do_not_live_on() -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
    seen = []

    def body(pool: Pool, runtime: HubRuntime) -> None:
        def function() -> None:
            seen.append(variable.get())
            variable.set(1)

        pool.start(function)
        pool.start(function)

    in_callback(body)
    assert seen == [0, 0]


def test_an_error_is_logged_and_the_greenlet_lives_on() -> None:
    def fail() -> None:
        raise SystemExit(3)

    def body(pool: Pool, runtime: HubRuntime) -> None:
        assert pool.start(fail) is pool.start(lambda: None)

    with logged() as log:
        in_callback(body)
    assert log == ["ERROR a greenlet failed"]


def test_a_killed_greenlet_is_not_used_again() -> None:
    def body(pool: Pool, runtime: HubRuntime) -> None:
        home = greenlet.getcurrent()
        killed = pool.start(home.switch)
        killed.throw(greenlet.GreenletExit)
        assert killed.dead
        assert pool.start(lambda: None) is not killed

    in_callback(body)


def test_only_so_many_are_kept() -> None:
    def body(pool: Pool, runtime: HubRuntime) -> None:
        home = greenlet.getcurrent()
        started = [pool.start(home.switch) for _ in range(MOST_IDLE + 10)]
        for each in started:
            each.switch()
        assert sum(each.dead for each in started) == 10

    in_callback(body)
