"""The desk, over real sockets: what each way in which a connection can end means for the call."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import pytest
from support.http import until
from support.hub import outcome_of
from support.limits import scarce_descriptors

from hybrid.workers.contract import offload_queue
from hybrid.workers.contract.messages import CallDied, CallOverdue, Message, OffloadAsked
from hybrid.workers.contract.scoreboard import OFFLOAD_OUTCOMES, OUTCOMES, UNDERWAY, Scoreboard
from hybrid.workers.offload import letters
from hybrid.workers.offload.desk import MOST_SENT, Desk
from hybrid.workers.offload.errors import OffloadCancelled, OffloadDied, OffloadError, OffloadTimeout
from hybrid.workers.offload.job import Job, Outcome
from hybrid.workers.offload.packing import Packed, pack_call, pack_result
from hybrid.workers.offload.settings import PoolSettings


class Call:
    """A call that an offload worker runs."""

    def __init__(self, sock: socket.socket, letter: letters.Letter) -> None:
        self.sock = sock
        self.key = letter.key
        self.word = letter.load()[1][0]

    def returns(self, value: object) -> None:
        letters.send(self.sock, letters.RESULT, self.key, pack_result(value))
        self.sock.close()

    def raises(self, error: Exception, text: str) -> None:
        letters.send(self.sock, letters.RAISED, self.key, pack_result((error, text)))
        self.sock.close()

    def fails(self, text: str) -> None:
        letters.send(self.sock, letters.FAILED, self.key, pack_result((text, "")))
        self.sock.close()

    def says(self, data: bytes) -> None:
        self.sock.send(data)
        self.sock.close()

    def dies(self) -> None:
        self.sock.close()

    async def wait_given_up(self) -> None:
        """Wait until the caller has shut its side."""
        assert await asyncio.get_running_loop().sock_recv(self.sock, 1) == b""


class Bench:
    """A desk, and the queue that offload workers would serve."""

    def __init__(self, backlog: int | None = None, most_waiting: int = 1000, pool: str = offload_queue.DEFAULT) -> None:
        self._pool = pool
        self._key = offload_queue.new_key()
        self._listener: socket.socket | None = None
        self._calls: list[Call] = []
        self.told: list[Message] = []
        self.record = Scoreboard(1).record(0).calls_to(0)
        loop = asyncio.get_running_loop()
        address = offload_queue.address(self._key, 1, pool)
        limits = PoolSettings(pool, queue=most_waiting)
        self.desk = Desk(loop, address, self.told.append, self.record, limits, itertools.count(os.getpid() << 32))
        if backlog != 0:
            self.listens(backlog)

    def listens(self, backlog: int | None = None) -> None:
        self._listener = offload_queue.listen(self._key, 1, self._pool)
        self._listener.setblocking(False)
        if backlog is not None:
            self._listener.listen(backlog)

    def submits(self, word: object = "word", timeout: float | None = None, retries: int = 0) -> Job[Any]:
        job: Job[Any] = Job(self.desk, "render")
        self.desk.submit(job, pack_call(len, (word,), {}), timeout, retries)
        return job

    async def _accepts(self) -> socket.socket:
        assert self._listener is not None
        while True:
            with contextlib.suppress(BlockingIOError):
                sock, _ = self._listener.accept()
                sock.setblocking(False)
                return sock
            await asyncio.sleep(0.001)

    async def reads(self) -> Call:
        """Accept a call and read it, as an offload worker does."""
        sock = await self._accepts()
        letter = letters.Receiver().receive(sock)
        assert letter is not None
        self._calls.append(Call(sock, letter))
        return self._calls[-1]

    async def drops(self) -> None:
        """Accept a call and close without reading, as the kernel does for a process that dies then."""
        (await self._accepts()).close()

    def can_accept(self) -> bool:
        """Return True if a call is in the queue."""
        assert self._listener is not None
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return False
        sock.close()
        return True

    def counts(self) -> dict[str, int]:
        """Return how many calls have ended in each way, without zeros."""
        numbers = self.record.numbers[OUTCOMES : OUTCOMES + len(OFFLOAD_OUTCOMES)]
        return {name: number for name, number in zip(OFFLOAD_OUTCOMES, numbers, strict=True) if number}

    def close(self) -> None:
        self.desk.close()
        for call in self._calls:
            call.sock.close()
        if self._listener is not None:
            self._listener.close()


Scenario = Callable[[], Awaitable[None]]


def on_a_loop(scenario: Scenario) -> Any:
    """Make a test of a coroutine."""

    def test() -> None:
        asyncio.run(scenario())  # type: ignore[arg-type]

    test.__name__ = test.__qualname__ = scenario.__name__  # type: ignore[attr-defined]
    test.__doc__ = scenario.__doc__
    test.__module__ = scenario.__module__
    return test


@contextlib.asynccontextmanager
async def bench(**options: Any) -> AsyncIterator[Bench]:
    found = Bench(**options)
    try:
        async with asyncio.timeout(20):
            yield found
    finally:
        found.close()


# --- answers


@on_a_loop
async def test_an_answer_is_the_outcome() -> None:
    async with bench() as on:
        job = on.submits("hello")
        call = await on.reads()
        assert call.word == "hello"
        assert on.record.numbers[UNDERWAY] == 1
        call.returns({"length": 5})
        assert await job == {"length": 5}
        assert (on.counts(), on.record.numbers[UNDERWAY]) == ({"done": 1}, 0)


@on_a_loop
async def test_an_error_has_its_remote_traceback_as_the_cause() -> None:
    async with bench() as on:
        job = on.submits()
        (await on.reads()).raises(LookupError("lost"), "its traceback")
        with pytest.raises(LookupError, match="lost") as caught:
            await job
        assert str(caught.value.__cause__) == "in the offload worker:\nits traceback"
        assert on.counts() == {"raised": 1}


@on_a_loop
async def test_a_failure_has_the_name_of_the_function_and_the_text() -> None:
    async with bench() as on:
        job = on.submits()
        (await on.reads()).fails("the result is too large")
        with pytest.raises(OffloadError, match=r"^render: the result is too large$"):
            await job
        assert on.counts() == {"failed": 1}


class Unmakable:
    """Cannot be made again."""

    def __reduce__(self) -> Any:
        return int, ("not a number",)


@on_a_loop
async def test_an_answer_that_cannot_be_loaded_is_an_error_of_the_call() -> None:
    async with bench() as on:
        job = on.submits()
        (await on.reads()).returns(Unmakable())
        with pytest.raises(OffloadError, match="the outcome of render cannot be loaded: ValueError: "):
            await job


@on_a_loop
async def test_an_answer_of_another_form_is_an_error_of_the_call() -> None:
    async with bench() as on:
        job = on.submits()
        (await on.reads()).says(b"hello")
        with pytest.raises(OffloadError, match="render: the answer cannot be read: it is too short"):
            await job


@on_a_loop
async def test_a_coroutine_that_goes_on_with_an_answer_may_end_the_others() -> None:
    """It runs within the desk, which has other answers to read."""
    async with bench() as on:
        first, second = on.submits("first"), on.submits("second")
        calls = [await on.reads(), await on.reads()]

        async def goes_on() -> str:
            await first
            on.desk.close()
            return str(await outcome_of(second))

        going = asyncio.ensure_future(goes_on())
        await asyncio.sleep(0)
        for call in calls:
            call.returns(call.word)
        assert await going == str(OffloadCancelled)
        assert on.desk.sent == 0


@on_a_loop
async def test_a_connection_that_a_forked_process_holds_wakes_the_loop_once() -> None:
    async with bench() as on:
        job = on.submits()
        call = await on.reads()
        (fd,) = on.desk._watched
        copy = os.dup(fd)
        try:
            call.returns("word")
            assert await job == "word"
            assert on.desk._epoll is not None
            assert on.desk._epoll.poll(0) == []
        finally:
            os.close(copy)


@on_a_loop
async def test_calls_are_sent_in_order() -> None:
    async with bench() as on:
        jobs = [on.submits(str(number)) for number in range(20)]
        for number in range(20):
            call = await on.reads()
            assert call.word == str(number)
            call.returns(number)
        assert [await job for job in jobs] == list(range(20))


# --- deaths


@on_a_loop
async def test_the_end_of_the_stream_is_a_death_of_which_the_supervisor_tells() -> None:
    async with bench() as on:
        job = on.submits()
        call = await on.reads()
        call.dies()
        await until(lambda: on.desk.sent == 0, "the end is noticed")
        on.desk.hear(CallDied(call.key, "killed by SIGKILL"))
        with pytest.raises(OffloadDied, match=r"^the process that ran render has died: killed by SIGKILL$"):
            await job
        assert on.counts() == {"died": 1}


@on_a_loop
async def test_the_supervisor_may_tell_of_a_death_first() -> None:
    async with bench() as on:
        job = on.submits()
        call = await on.reads()
        on.desk.hear(CallDied(call.key, "killed by SIGSEGV"))
        assert not job.done(), "an answer may be on its way"
        call.dies()
        with pytest.raises(OffloadDied, match="killed by SIGSEGV"):
            await job


@on_a_loop
async def test_an_answer_before_a_death_counts() -> None:
    async with bench() as on:
        job = on.submits()
        call = await on.reads()
        on.desk.hear(CallDied(call.key, "killed by SIGSEGV"))
        call.returns(5)
        assert await job == 5


@on_a_loop
async def test_a_death_of_which_nobody_tells_is_an_error_too() -> None:
    async with bench() as on:
        job = on.submits()
        (await on.reads()).dies()
        with pytest.raises(OffloadDied, match=r"^the process that ran render has died$"):
            await job


@on_a_loop
async def test_a_death_counts_although_the_connection_stays_open() -> None:
    """A process that the call has forked may hold it."""
    async with bench() as on:
        job = on.submits()
        call = await on.reads()
        on.desk.hear(CallDied(call.key, "killed by SIGKILL"))
        with pytest.raises(OffloadDied, match="killed by SIGKILL"):
            await job


@on_a_loop
async def test_a_call_with_retries_is_sent_again_under_another_key() -> None:
    async with bench() as on:
        job = on.submits(retries=1)
        first = await on.reads()
        first.dies()
        second = await on.reads()
        assert second.key != first.key
        on.desk.hear(CallDied(first.key, "killed by SIGKILL"))
        second.dies()
        await until(lambda: on.desk.sent == 0, "the end is noticed")
        on.desk.hear(CallDied(second.key, "killed by SIGSEGV"))
        with pytest.raises(OffloadDied, match="killed by SIGSEGV"):
            await job


@on_a_loop
async def test_a_call_that_was_never_read_is_sent_again_before_others() -> None:
    async with bench() as on:
        jobs = [on.submits(str(number)) for number in range(MOST_SENT + 2)]
        await on.drops()
        found = []
        for _ in jobs:
            call = await on.reads()
            found.append(call.word)
            call.returns(call.word)
        assert [await job for job in jobs] == [str(number) for number in range(MOST_SENT + 2)]
        assert found.index("0") < found.index(str(MOST_SENT)), "those that waited come behind it"
        assert on.counts() == {"done": MOST_SENT + 2}


# --- the queue


@on_a_loop
async def test_no_more_calls_are_sent_at_a_time_than_allowed() -> None:
    async with bench() as on:
        jobs = [on.submits(number) for number in map(str, range(MOST_SENT + 6))]
        calls = [await on.reads() for _ in range(MOST_SENT)]
        assert not on.can_accept()
        calls[0].returns(0)
        await jobs[0]
        assert (await on.reads()).word == str(MOST_SENT)
        assert not on.can_accept()


@on_a_loop
async def test_a_full_queue_is_tried_again_in_order() -> None:
    async with bench(backlog=1) as on:
        jobs = [on.submits(str(number)) for number in range(10)]
        assert on.desk.sent == 2, "listen(1) holds two"
        for number in range(10):
            call = await on.reads()
            assert call.word == str(number)
            call.returns(number)
        assert [await job for job in jobs] == list(range(10))
        assert on.told == []


@on_a_loop
async def test_the_offload_workers_of_a_pool_are_asked_for_by_its_name() -> None:
    async with bench(backlog=0, pool="ml") as on:
        job = on.submits()
        assert on.told == [OffloadAsked("ml")]
        on.listens()
        (await on.reads()).returns(3)
        assert await job == 3


@on_a_loop
async def test_the_error_of_a_full_queue_names_the_pool() -> None:
    async with bench(backlog=0, most_waiting=1, pool="ml") as on:
        on.submits()
        text = "render is not run: 1 calls wait already (queue of the pool ml)"
        assert (on.desk.is_full, str(on.desk.refuses("render"))) == (True, text)


@on_a_loop
async def test_offload_workers_are_asked_for_once_if_nobody_listens() -> None:
    async with bench(backlog=0) as on:
        jobs = [on.submits(str(number)) for number in range(3)]
        tries = on.desk._tries
        await until(lambda: on.desk._tries >= tries + 3, "it was tried again")
        assert on.told == [OffloadAsked("cpu")]
        on.listens()
        for number in range(3):
            call = await on.reads()
            assert call.word == str(number)
            call.returns(number)
        assert [await job for job in jobs] == [0, 1, 2]
        assert on.told == [OffloadAsked("cpu")]


@on_a_loop
async def test_a_desk_with_too_many_calls_is_full_until_one_is_sent() -> None:
    async with bench(backlog=0, most_waiting=2) as on:
        called: list[str] = []
        on.desk.when_room(lambda: called.append("before"))
        for _ in range(2):
            on.submits()
        assert on.desk.is_full
        assert str(on.desk.refuses("render")) == "render is not run: 2 calls wait already (--offload-queue)"
        on.desk.when_room(lambda: called.append("behind"))
        assert called == ["before"]
        on.listens()
        await until(lambda: called == ["before", "behind"], "there is room")


@on_a_loop
async def test_no_more_are_called_back_than_there_is_room_for() -> None:
    async with bench(backlog=0, most_waiting=2) as on:
        called: list[int] = []
        for _ in range(2):
            on.submits()
        for number in range(5):
            on.desk.when_room(lambda number=number: called.append(number))  # type: ignore[misc]
        on.listens()
        await until(lambda: bool(called), "there is room")
        assert called == [0, 1]


@on_a_loop
async def test_room_that_is_not_needed_goes_to_the_next() -> None:
    async with bench(backlog=0, most_waiting=1) as on:
        called: list[str] = []
        callbacks = [partial(called.append, word) for word in ("woken", "gone", "next")]
        on.submits()
        for callback in callbacks:
            on.desk.when_room(callback)
        on.desk.needs_no_room(callbacks[1])
        on.listens()
        await until(lambda: called == ["woken"], "there is room")
        on.desk.needs_no_room(callbacks[0])
        assert called == ["woken", "next"]


@on_a_loop
async def test_a_call_that_cannot_be_sent_at_all_fails() -> None:
    async with bench() as on:
        job: Job[Any] = Job(on.desk, "render")
        on.desk._address = b"\0" + b"x" * 200  # longer than an address may be
        on.desk.submit(job, Packed(b""), None, 0)
        with pytest.raises(OffloadError, match="render cannot be sent: "):
            await job


# --- calls that are given up


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process open nothing."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_lack_of_descriptors_that_comes_and_goes_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    @on_a_loop
    async def calls() -> None:
        async with bench() as on:
            for word in ("one", "two"):
                with no_descriptors():
                    job = on.submits(word)
                (await on.reads()).returns(word)
                assert await job == word

    calls()
    assert [record.getMessage() for record in caplog.records] == [
        "cannot send offloaded calls, trying again: Too many open files"
    ]


@on_a_loop
async def test_a_call_that_waits_for_too_long_is_never_sent() -> None:
    async with bench(backlog=0) as on:
        job = on.submits(timeout=0.01)
        with pytest.raises(OffloadTimeout, match=r"^render has not ended within 0\.01 s$"):
            await job
        on.listens()
        last = on.submits("last")
        call = await on.reads()
        assert call.word == "last"
        call.returns(1)
        await last
        assert on.counts() == {"done": 1, "timed_out": 1}


@on_a_loop
async def test_a_call_that_runs_for_too_long_is_told_to_end_and_reported_a_second_later() -> None:
    async with bench() as on:
        job = on.submits(timeout=0.01)
        call = await on.reads()
        with pytest.raises(OffloadTimeout):
            await job
        await call.wait_given_up()
        await until(lambda: on.told, "the supervisor is told")
        assert on.told == [CallOverdue(call.key, "render")]
        call.returns("too late")
        await until(lambda: on.desk.sent == 0, "its place is free")
        assert await outcome_of(job) is OffloadTimeout
        assert on.counts() == {"timed_out": 1}


@on_a_loop
async def test_a_call_that_is_cancelled_while_it_waits_is_never_sent() -> None:
    async with bench(backlog=0) as on:
        first, second = on.submits("first"), on.submits("second")
        first.cancel()
        assert await outcome_of(first) is OffloadCancelled
        on.listens()
        call = await on.reads()
        assert call.word == "second"
        call.returns(2)
        assert await second == 2
        assert on.counts() == {"done": 1, "cancelled": 1}


@on_a_loop
async def test_a_cancelled_call_keeps_its_place_until_its_process_has_ended_it() -> None:
    async with bench() as on:
        jobs = [on.submits(str(number)) for number in range(MOST_SENT + 1)]
        calls = [await on.reads() for _ in range(MOST_SENT)]
        jobs[0].cancel()
        assert jobs[0].cancelled()
        await calls[0].wait_given_up()
        assert not on.can_accept()
        calls[0].dies()
        assert (await on.reads()).word == str(MOST_SENT)
        assert on.counts() == {"cancelled": 1}


@on_a_loop
async def test_a_cancelled_call_that_was_never_read_is_not_sent_again() -> None:
    async with bench() as on:
        on.submits("first").cancel()
        await on.drops()
        await until(lambda: on.desk.sent == 0, "its place is free")
        assert not on.can_accept()


@on_a_loop
async def test_a_thread_may_cancel_what_a_coroutine_awaits() -> None:
    async with bench() as on:
        job = on.submits()
        waiting = asyncio.ensure_future(outcome_of(job))
        call = await on.reads()
        assert await asyncio.to_thread(job.cancel)
        assert await waiting is OffloadCancelled
        await call.wait_given_up()


@on_a_loop
async def test_a_worker_that_ends_cancels_its_calls() -> None:
    async with bench(backlog=1, most_waiting=3) as on:
        jobs = [on.submits() for _ in range(5)]
        call = await on.reads()
        called: list[str] = []
        on.desk.when_room(lambda: called.append("room"))
        on.desk.close()
        assert [await outcome_of(job) for job in jobs] == [OffloadCancelled] * 5
        await call.wait_given_up()
        assert called == ["room"]
        assert await outcome_of(on.submits()) is OffloadCancelled, "also one that comes now"


@on_a_loop
async def test_a_job_that_was_cancelled_on_its_way_is_not_sent() -> None:
    async with bench() as on:
        job: Job[Any] = Job(on.desk, "render")
        job.cancel()
        on.desk.submit(job, pack_call(len, ("",), {}), None, 0)
        assert job.outcome is Outcome.CANCELLED
        assert not on.can_accept()


@on_a_loop
async def test_calls_that_wait_keep_their_order_when_others_between_them_are_cancelled() -> None:
    async with bench(backlog=0) as on:
        jobs = [on.submits(str(number)) for number in range(6)]
        for number in (4, 0, 2):
            assert jobs[number].cancel()
        on.listens()
        for number in (1, 3, 5):
            call = await on.reads()
            assert call.word == str(number)
            call.returns(number)
        assert [await jobs[number] for number in (1, 3, 5)] == [1, 3, 5]


def test_a_large_result_waits_until_there_is_a_descriptor_for_it(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with bench() as on:
            job = on.submits()
            (await on.reads()).returns("x" * 1_000_000)
            with scarce_descriptors(0):
                await until(lambda: "cannot receive the result of offloaded calls" in caplog.text, "it was tried")
                assert not job.done()
            assert await job == "x" * 1_000_000

    asyncio.run(scenario())
