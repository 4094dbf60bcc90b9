"""`Job`: its states, and how coroutines, greenlets and threads wait for it."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from support.greens import Green, in_home, on_greens
from support.hub import outcome_of
from support.process import DEADLINE

from hybrid.workers.offload.errors import OffloadCancelled
from hybrid.workers.offload.job import Job, Outcome, cancelled_error


class FakeCarrier:
    """Carries jobs nowhere; they end on `loop`, or in a thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.loop = loop
        self.cancelled: list[Job[Any]] = []

    def cancel(self, job: Job[Any]) -> None:
        self.cancelled.append(job)
        job.ends(Outcome.CANCELLED, error=cancelled_error(job))


def new_job(loop: asyncio.AbstractEventLoop | None = None) -> Job[Any]:
    return Job(FakeCarrier(loop), "render")


def in_thread(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function)
    thread.start()
    return thread


# --- states


def test_a_job_that_has_not_ended_says_so() -> None:
    job = new_job()
    assert (job.done(), job.cancelled(), job.outcome) == (False, False, Outcome.NONE)
    assert repr(job) == "<hybrid.Job render pending>"


def test_the_result_is_what_the_function_has_returned() -> None:
    job = new_job()
    assert job.ends(Outcome.DONE, 5)
    assert (job.result(), job.exception(), job.done(), job.cancelled()) == (5, None, True, False)
    assert repr(job) == "<hybrid.Job render done>"


def test_an_error_is_raised_each_time() -> None:
    job = new_job()
    error = LookupError("lost")
    job.ends(Outcome.RAISED, error=error)
    for _ in range(2):
        with pytest.raises(LookupError, match="lost"):
            job.result()
    assert job.exception() is error


def test_the_first_end_counts() -> None:
    job = new_job()
    assert job.ends(Outcome.DONE, 5)
    assert not job.ends(Outcome.CANCELLED, error=cancelled_error(job))
    assert not job.cancel()
    assert job.result() == 5


def test_a_cancelled_job_raises_that() -> None:
    job = new_job()
    assert job.cancel()
    assert job.cancelled()
    with pytest.raises(OffloadCancelled, match="render was cancelled"):
        job.result()


# --- callbacks


def test_a_callback_is_called_once_at_the_end() -> None:
    job, called = new_job(), []
    job.add_done_callback(called.append)
    assert called == []
    job.ends(Outcome.DONE, 5)
    job.ends(Outcome.DONE, 6)
    assert called == [job]


def test_a_callback_after_the_end_is_called_now() -> None:
    job, called = new_job(), []
    job.ends(Outcome.DONE, 5)
    job.add_done_callback(called.append)
    assert called == [job]


def test_a_callback_that_fails_is_logged_and_the_others_are_called(caplog: pytest.LogCaptureFixture) -> None:
    job, called = new_job(), []

    def fails(_: Job[Any]) -> None:
        raise LookupError("of the callback")

    job.add_done_callback(fails)
    job.add_done_callback(called.append)
    job.ends(Outcome.DONE, 5)
    assert called == [job]
    assert "a callback of render failed" in caplog.text
    assert "LookupError: of the callback" in caplog.text


# --- errors that nobody sees


def test_an_error_that_nobody_has_asked_for_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    job = new_job()
    job.ends(Outcome.RAISED, error=LookupError("lost"))
    del job
    gc.collect()
    assert "render was offloaded, and nobody asked for its error" in caplog.text
    assert "LookupError: lost" in caplog.text


def asks_for_the_result(job: Job[Any]) -> None:
    with pytest.raises(LookupError):
        job.result()


@pytest.mark.parametrize("look", [Job.exception, asks_for_the_result])
def test_an_error_that_somebody_has_seen_is_not_logged(
    look: Callable[[Job[Any]], object], caplog: pytest.LogCaptureFixture
) -> None:
    job = new_job()
    job.ends(Outcome.RAISED, error=LookupError("lost"))
    look(job)
    del job
    gc.collect()
    assert caplog.text == ""


def test_a_job_that_its_owner_has_cancelled_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    job = new_job()
    job.cancel()
    del job
    gc.collect()
    assert "nobody asked" not in caplog.text


# --- threads


def test_threads_wait_for_the_end() -> None:
    job, found = new_job(), []
    threads = [in_thread(lambda: found.append(job.result(DEADLINE))) for _ in range(3)]
    job.ends(Outcome.DONE, 5)
    for thread in threads:
        thread.join()
    assert found == [5, 5, 5]


def test_a_wait_with_a_limit_has_no_effect_on_the_call() -> None:
    job = new_job()
    for wait in (job.result, job.exception):
        with pytest.raises(TimeoutError, match=r"render has not ended within 0\.01 s"):
            wait(0.01)
    assert not job.done()
    job.ends(Outcome.DONE, 5)
    assert job.result(0) == 5


# --- coroutines


def test_coroutines_await_it_together() -> None:
    async def main() -> list[Any]:
        job = new_job(asyncio.get_running_loop())
        waiting = [asyncio.ensure_future(outcome_of(job)) for _ in range(3)]
        await asyncio.sleep(0)
        job.ends(Outcome.DONE, 5)
        return [*await asyncio.gather(*waiting), await job]

    assert asyncio.run(main()) == [5, 5, 5, 5]


def test_a_coroutine_waits_for_a_job_that_ends_in_a_thread() -> None:
    async def main() -> Any:
        job = new_job()
        asyncio.get_running_loop().call_soon(lambda: in_thread(lambda: job.ends(Outcome.DONE, 5)))
        async with asyncio.timeout(DEADLINE):
            return await job

    assert asyncio.run(main()) == 5


def test_a_coroutine_that_is_cancelled_cancels_its_job() -> None:
    async def main() -> tuple[bool, object, object]:
        job = new_job(asyncio.get_running_loop())
        one, other = (asyncio.ensure_future(outcome_of(job)) for _ in range(2))
        await asyncio.sleep(0)
        one.cancel()
        return await one, await other, job.cancelled()  # type: ignore[return-value]

    assert asyncio.run(main()) == (asyncio.CancelledError, OffloadCancelled, True)


def test_an_end_at_once_steps_the_coroutine_before_it_returns() -> None:
    async def main() -> list[str]:
        job, told = new_job(asyncio.get_running_loop()), []

        async def waits() -> None:
            told.append(await job)

        def ends() -> None:
            job.ends(Outcome.DONE, "ended", at_once=True)
            told.append("returned")

        waiting = asyncio.ensure_future(waits())
        asyncio.get_running_loop().call_soon(ends)
        await waiting
        await asyncio.sleep(0)
        return told

    assert asyncio.run(main()) == ["ended", "returned"]


def test_an_end_at_once_raises_in_the_coroutine_and_in_no_callback() -> None:
    async def main() -> object:
        job = new_job(asyncio.get_running_loop())
        error = LookupError("lost")
        asyncio.get_running_loop().call_soon(lambda: job.ends(Outcome.RAISED, error=error, at_once=True))
        return await outcome_of(job)

    assert asyncio.run(main()) is LookupError


def test_an_end_at_once_after_the_coroutine_was_cancelled_wakes_nothing() -> None:
    async def main() -> object:
        loop = asyncio.get_running_loop()
        job = new_job(loop)
        waiting = asyncio.ensure_future(outcome_of(job))
        await asyncio.sleep(0)
        waiting.cancel()
        loop.call_soon(lambda: job.ends(Outcome.DONE, 5, at_once=True))
        return await waiting

    assert asyncio.run(main()) is asyncio.CancelledError


def test_the_error_is_raised_in_the_coroutine() -> None:
    async def main() -> object:
        job = new_job(asyncio.get_running_loop())
        asyncio.get_running_loop().call_soon(lambda: job.ends(Outcome.RAISED, error=LookupError("lost")))
        return await outcome_of(job)

    assert asyncio.run(main()) is LookupError


# --- greenlets


@on_greens
def test_a_greenlet_is_parked_and_others_run(green: Green) -> None:
    job = new_job(green.runtime.loop)
    ran = []

    def ends() -> None:
        ran.append("other")
        job.ends(Outcome.DONE, 5)

    green.spawn(ends)
    assert job.result() == 5
    assert ran == ["other"]


@on_greens
def test_an_end_at_once_switches_to_the_greenlet_before_it_returns(green: Green) -> None:
    job, told = new_job(green.runtime.loop), []

    def ends() -> None:
        job.ends(Outcome.DONE, 5, at_once=True)
        told.append("returned")

    green.runtime.loop.call_soon(ends)
    told.append(str(job.result()))
    green.turns()
    assert told == ["5", "returned"]


@on_greens
def test_a_greenlet_waits_for_a_job_that_ends_in_a_thread(green: Green) -> None:
    """The loop sleeps meanwhile: it must be woken from there."""
    job, began = new_job(), threading.Event()
    thread = in_thread(lambda: began.wait(DEADLINE) and job.ends(Outcome.DONE, 5))
    green.runtime.loop.call_soon(began.set)
    assert job.result(DEADLINE) == 5
    thread.join()


@on_greens
def test_a_greenlet_with_a_limit_stops_waiting(green: Green) -> None:
    job = new_job(green.runtime.loop)
    with pytest.raises(TimeoutError):
        job.result(0.01)
    job.ends(Outcome.DONE, 5)
    green.turns()  # the late end must not wake it in another wait
    assert job.result() == 5


@in_home
def test_a_coroutine_must_await(green: Green) -> None:
    job = new_job(green.runtime.loop)
    with pytest.raises(RuntimeError, match="would block the event loop"):
        job.result()
    job.ends(Outcome.DONE, 5)
    assert job.result() == 5, "one that has ended does not wait"
