"""The pool of greenlets: a pool worker runs job after job, and a job that parks keeps its pool worker."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from collections.abc import Callable
from typing import Any

import greenlet
import pytest
from support.hub import run_on, turns
from support.records import logged

from hybrid.workers.hub.parking import Parking
from hybrid.workers.hub.pool import MOST_IDLE, Pool

VARIABLE: contextvars.ContextVar[object] = contextvars.ContextVar("VARIABLE")


class Work:
    """A job that calls a function, and records its greenlet and the calls of `parked`."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function
        self.pool_worker: Any = None
        self.told: list[Any] = []

    def run(self) -> None:
        self.pool_worker = greenlet.getcurrent()
        self._function()

    def parked(self, pool_worker: Any) -> None:
        self.told.append(pool_worker)


class PoolOnLoop:
    """A pool at home, with verbs."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.home = greenlet.getcurrent()
        self.pool = Pool(self.home, loop)
        self.steps: list[str] = []
        self.parked: list[Parking] = []

    def run(self, *functions: Callable[[], object]) -> list[greenlet.greenlet]:
        """Run functions as jobs; return the greenlets that ran them."""
        jobs = [Work(function) for function in functions]
        self.pool.run(jobs)
        for job in jobs:
            assert job.told in ([], [job.pool_worker])
        return [job.pool_worker for job in jobs]

    def says(self, what: str) -> Callable[[], object]:
        return lambda: self.steps.append(what)

    def parks(self, name: str = "parked") -> Callable[[], object]:
        """Return a function that waits until the test wakes it."""

        def function() -> None:
            self.steps.append(f"{name} waits")
            self.parked.append(Parking(self.loop, self.home))
            self.parked[-1].wait()
            self.steps.append(f"{name} ends")

        return function

    def wakes(self, number: int = 0) -> None:
        self.parked[number].wake()


def in_callback(body: Callable[[PoolOnLoop], object]) -> Any:
    """Make a test from `def test(at)`, run in a callback of a loop, where jobs are run."""

    def test() -> None:
        async def main(_: object) -> None:
            loop = asyncio.get_running_loop()
            done = loop.create_future()

            def call() -> None:
                try:
                    body(PoolOnLoop(loop))
                except BaseException as error:  # noqa: BLE001 - raised in the test
                    done.set_exception(error)
                else:
                    done.set_result(None)

            loop.call_soon(call)
            await done
            await turns()

        run_on("epoll", main)

    test.__name__ = test.__qualname__ = body.__name__
    test.__doc__ = body.__doc__
    return test


# --- order and greenlets of jobs


@in_callback
def test_jobs_run_in_their_order_and_in_one_greenlet(at: PoolOnLoop) -> None:
    pool_workers = at.run(at.says("a"), at.says("b"), at.says("c"))
    assert at.steps == ["a", "b", "c"]
    assert len(set(pool_workers)) == 1
    assert at.home not in pool_workers


@in_callback
def test_a_pool_worker_is_reused(at: PoolOnLoop) -> None:
    assert at.run(at.says("a")) == at.run(at.says("b"))


@in_callback
def test_a_job_is_told_that_it_waits_and_in_which_greenlet(at: PoolOnLoop) -> None:
    jobs = [Work(at.says("a")), Work(at.parks()), Work(at.says("b")), Work(at.parks())]
    at.pool.run(jobs)
    assert [job.told for job in jobs] == [[], [jobs[1].pool_worker], [], [jobs[3].pool_worker]]


@in_callback
def test_a_job_is_told_of_its_first_wait_only_and_before_the_next_job_runs(at: PoolOnLoop) -> None:
    class Telling(Work):
        def parked(self, pool_worker: Any) -> None:
            super().parked(pool_worker)
            assert greenlet.getcurrent() is at.home
            assert _running() is at.loop
            at.steps.append("told")

    def twice() -> None:
        at.parks("first")()
        at.parks("second")()

    job = Telling(twice)
    at.pool.run([job, Work(at.says("next"))])
    at.wakes(0)
    at.pool.run([Work(at.parks("other"))])
    at.wakes(1)
    assert at.steps == ["first waits", "told", "next", "first ends", "second waits", "other waits", "second ends"]
    assert len(job.told) == 1


@in_callback
def test_a_job_that_has_ended_is_not_told_of_later_waits(at: PoolOnLoop) -> None:
    """A killed pool worker only makes room for the next one."""

    def leave() -> None:
        raise greenlet.GreenletExit

    jobs = [Work(at.says("a")), Work(leave)]
    at.pool.run(jobs[:1])
    jobs[0].pool_worker.throw(greenlet.GreenletExit)
    at.pool.run([])
    at.pool.run([Work(at.says("b"))])
    at.pool.run(jobs[1:])
    assert [job.told for job in jobs] == [[], []]


@in_callback
def test_nothing_to_run_is_no_error(at: PoolOnLoop) -> None:
    at.pool.run([])
    at.run(at.says("a"))
    assert at.steps == ["a"]


@in_callback
def test_a_job_that_parks_does_not_hold_the_others(at: PoolOnLoop) -> None:
    first, second, third = at.run(at.says("a"), at.parks("b"), at.says("c"))
    assert at.steps == ["a", "b waits", "c"]
    assert first is second
    assert third is not second
    at.wakes()
    assert at.steps == ["a", "b waits", "c", "b ends"]


@pytest.mark.parametrize("place", range(3))
def test_each_job_runs_once_at_any_position_of_the_parking_one(place: int) -> None:
    @in_callback
    def test(at: PoolOnLoop) -> None:
        functions = [at.says(name) for name in "abc"]
        functions[place] = at.parks("p")
        at.run(*functions)
        at.wakes()
        expected = ["a", "b", "c"]
        expected[place] = "p waits"
        assert at.steps == [*expected, "p ends"]

    test()


@in_callback
def test_parked_jobs_have_separate_pool_workers_and_wake_in_any_order(at: PoolOnLoop) -> None:
    pool_workers = at.run(*(at.parks(name) for name in "abc"))
    assert len(set(pool_workers)) == 3
    for number in (1, 2, 0):
        at.wakes(number)
    assert at.steps == ["a waits", "b waits", "c waits", "b ends", "c ends", "a ends"]


@in_callback
def test_a_job_may_park_again_and_again(at: PoolOnLoop) -> None:
    def twice() -> None:
        at.parks("first")()
        at.parks("second")()

    (pool_worker,) = at.run(twice)
    at.wakes(0)
    assert at.run(at.says("meanwhile")) != [pool_worker]
    at.wakes(1)
    assert at.steps == ["first waits", "first ends", "second waits", "meanwhile", "second ends"]


@in_callback
def test_a_pool_worker_is_reused_after_its_job_had_parked(at: PoolOnLoop) -> None:
    (pool_worker,) = at.run(at.parks())
    at.wakes()
    assert pool_worker in {at.run(at.says("a"))[0], at.run(at.parks())[0], at.run(at.parks())[0]}


@in_callback
def test_a_pool_worker_that_is_woken_does_not_take_jobs_of_another_batch(at: PoolOnLoop) -> None:
    at.run(at.parks("a"), at.says("b"))
    at.run(at.parks("c"), at.says("d"))
    at.wakes(1)
    at.wakes(0)
    assert at.steps == ["a waits", "b", "c waits", "d", "c ends", "a ends"]


@in_callback
def test_a_limited_number_of_idle_pool_workers_is_kept(at: PoolOnLoop) -> None:
    pool_workers = at.run(*[at.parks()] * (MOST_IDLE + 10))
    for number in range(len(pool_workers)):
        at.wakes(number)
    assert sum(pool_worker.dead for pool_worker in pool_workers) in (10, 11)  # one more found no job left
    assert at.run(at.says("a"))[0] in pool_workers


@in_callback
def test_a_pool_worker_that_was_killed_while_idle_is_passed_over(at: PoolOnLoop) -> None:
    (killed,) = at.run(at.says("a"))
    killed.throw(greenlet.GreenletExit)
    assert killed.dead
    assert at.run(at.says("b")) != [killed]
    assert at.steps == ["a", "b"]


@in_callback
def test_no_further_job_of_an_abandoned_batch_starts(at: PoolOnLoop) -> None:
    at.pool.run([Work(at.says("a")), Work(at.pool.abandon), Work(at.says("b"))])
    assert at.steps == ["a"]


# --- contexts and the running loop


@in_callback
def test_each_job_starts_with_an_empty_context(at: PoolOnLoop) -> None:
    seen: list[object] = []

    def sets() -> None:
        seen.append(VARIABLE.get(None))
        VARIABLE.set(1)

    VARIABLE.set("of home")
    at.run(sets, sets, sets)
    at.run(sets)
    assert seen == [None] * 4
    assert VARIABLE.get() == "of home"


@in_callback
def test_a_context_stays_with_its_job_over_a_park(at: PoolOnLoop) -> None:
    seen: list[object] = []

    def sets() -> None:
        VARIABLE.set("mine")
        at.parks()()
        seen.append(VARIABLE.get(None))

    def looks() -> None:
        seen.append(VARIABLE.get(None))

    at.run(sets, looks)
    assert seen == [None]
    at.wakes()
    at.run(looks)
    at.run(at.parks(), looks, looks)
    assert seen == [None, "mine", None, None, None]


def _running() -> object:
    return asyncio._get_running_loop()


@in_callback
def test_jobs_do_not_see_the_running_loop_and_home_does(at: PoolOnLoop) -> None:
    seen = []

    def looks() -> None:
        seen.append(_running())

    def parks() -> None:
        looks()
        at.parks()()
        looks()

    at.run(looks, looks)
    assert _running() is at.loop
    at.run(parks, looks)
    assert _running() is at.loop
    at.wakes()
    assert _running() is at.loop
    at.run(looks)
    assert seen == [None] * 6


@in_callback
def test_home_sees_the_running_loop_after_errors_and_kills(at: PoolOnLoop) -> None:
    def fail() -> None:
        raise LookupError

    with logged():
        (killed, _) = at.run(at.parks(), fail)
    assert _running() is at.loop
    killed.throw(greenlet.GreenletExit)
    assert _running() is at.loop


@in_callback
def test_a_job_may_run_a_loop_of_its_own(at: PoolOnLoop) -> None:
    async def nothing() -> str:
        return "ran"

    seen = []
    at.run(lambda: seen.append(asyncio.run(nothing())), lambda: seen.append(_running()))  # type: ignore[arg-type, func-returns-value]
    assert seen == ["ran", None]
    assert _running() is at.loop


# --- errors and ends


@in_callback
def test_an_error_is_logged_and_the_others_run(at: PoolOnLoop) -> None:
    def fail() -> None:
        raise SystemExit(3)

    with logged() as log:
        pool_workers = at.run(at.says("a"), fail, at.says("b"))
    assert at.steps == ["a", "b"]
    assert len(set(pool_workers)) == 1
    assert log == ["ERROR a greenlet failed"]


@in_callback
def test_an_error_after_a_wait_does_not_reach_the_waker(at: PoolOnLoop) -> None:
    def fail() -> None:
        at.parks()()
        raise LookupError

    at.run(fail)
    with logged() as log:
        at.wakes()
    assert log == ["ERROR a greenlet failed"]


@in_callback
def test_a_killed_job_ends_its_greenlet_without_a_log_line(at: PoolOnLoop) -> None:
    """The killer may check that it is dead."""
    ended = []

    def parks() -> None:
        try:
            at.parks()()
        finally:
            ended.append("finally")

    with logged() as log:
        (killed,) = at.run(parks)
        killed.throw(greenlet.GreenletExit)
        assert killed.dead
        assert at.run(at.says("a")) != [killed]
    assert (ended, log) == (["finally"], [])


@in_callback
def test_a_job_that_survives_its_kill_is_like_any_other(at: PoolOnLoop) -> None:
    def survives() -> None:
        try:
            at.parks()()
        except greenlet.GreenletExit:
            at.steps.append("survived")

    (pool_worker,) = at.run(survives)
    pool_worker.throw(greenlet.GreenletExit)
    at.run(at.says("a"))
    assert at.steps == ["parked waits", "survived", "a"]
    assert not pool_worker.dead


@in_callback
def test_a_job_that_exits_its_greenlet_does_not_end_others(at: PoolOnLoop) -> None:
    def leave() -> None:
        raise greenlet.GreenletExit

    with logged() as log:
        at.run(at.says("a"), leave, at.says("b"), at.says("c"))
    assert (at.steps, log) == (["a", "b", "c"], [])


@in_callback
def test_an_idle_pool_worker_may_be_killed(at: PoolOnLoop) -> None:
    """The kill was pending when its job ended."""
    (pool_worker,) = at.run(at.says("a"))
    pool_worker.throw(greenlet.GreenletExit)
    assert pool_worker.dead
    at.run(at.says("b"), at.says("c"))
    assert at.steps == ["a", "b", "c"]


@in_callback
def test_objects_of_a_finished_job_are_freed_immediately(at: PoolOnLoop) -> None:
    class Something:
        pass

    something = Something()
    gone: list[str] = []

    def uses(something: Something) -> None:
        VARIABLE.set(something)

    job = Work(lambda something=something: uses(something))  # type: ignore[misc]
    for each in (job, something):
        weakref.finalize(each, gone.append, type(each).__name__)
    at.pool.run([job])
    del job, something, each
    gc.collect()
    assert sorted(gone) == ["Something", "Work"]


@pytest.mark.parametrize("goes", [True, False])
def test_a_greenlet_that_ends_after_its_loop_does_not_show_the_loop_again(goes: bool) -> None:
    """The job either ends or, like WSGI's, catches all errors."""
    told = []
    waiting: list[greenlet.greenlet] = []

    @in_callback
    def test(at: PoolOnLoop) -> None:
        def parks() -> None:
            try:
                at.parks()()
            except greenlet.GreenletExit:
                told.append("exit")
                if goes:
                    raise

        waiting.extend(at.run(at.says("a"), parks))

    with logged() as log:
        test()
        waiting[1].throw(greenlet.GreenletExit)
    assert (told, log) == (["exit"], [])
    assert waiting[1].dead is goes
    assert _running() is None
