"""The hub's selector: calls waiters, returns asyncio's events, and never polls for a direction without a waiter."""

from __future__ import annotations

import errno
import os
import selectors
import socket
from collections.abc import Callable, Iterable
from typing import Any

import greenlet
import pytest
from support.fake_poller import FakePoller
from support.hub import run_on, turns
from support.records import logged
from support.streams import open_ends

from hybrid.workers.hub.hub_runtime import HubRuntime
from hybrid.workers.hub.loop import HubLoop
from hybrid.workers.hub.pool import Job, Pool
from hybrid.workers.hub.selector import _MOST_JOBS, ACCEPTING, LOOKS, HubSelector
from hybrid.workers.pollers.contract import ERROR, HANGUP, READ, WRITE, Poller


class Hub:
    """A selector over a fake poller; callbacks passed to `call_soon` are queued in `soon`."""

    def __init__(self) -> None:
        self.poller = FakePoller()
        self.selector = HubSelector(self.poller)
        self.soon: list[Callable[[], object]] = []
        self.selector.call_soon = self.soon.append
        self.seen: list[str] = []

    def says(self, name: str) -> Callable[[], object]:
        return lambda: self.seen.append(name)


@pytest.fixture
def hub() -> Hub:
    return Hub()


# --- no waiter: no polling


@pytest.mark.parametrize("ready", [READ, READ | HANGUP, HANGUP, ERROR, READ | WRITE | ERROR | HANGUP])
def test_a_ready_direction_without_a_waiter_is_disarmed_immediately(hub: Hub, ready: int) -> None:
    fd = hub.poller.opens(ready)
    watch = hub.selector.open(fd)
    hub.selector.arm(watch, READ)
    assert hub.selector.select(0) == []
    assert (hub.poller.mask_of(fd), watch.armed) == (None, 0)
    assert hub.selector.select(0) == []


def test_a_direction_without_a_waiter_is_disarmed_and_the_other_stays(hub: Hub) -> None:
    fd = hub.poller.opens(READ)
    watch = hub.selector.open(fd)
    watch.on_writable = hub.says("write")
    hub.selector.arm(watch, READ | WRITE)
    hub.selector.select(0)
    assert (hub.poller.mask_of(fd), watch.armed, hub.seen) == (WRITE, WRITE, [])
    hub.poller.becomes(fd, READ | WRITE)
    hub.selector.select(0)
    assert hub.seen == ["write"]


def test_a_hang_up_wakes_both_and_is_then_left_alone(hub: Hub) -> None:
    fd = hub.poller.opens(HANGUP)
    watch = hub.selector.open(fd)
    watch.on_readable, watch.on_writable = hub.says("read"), hub.says("write")
    hub.selector.arm(watch, READ | WRITE)
    hub.selector.select(0)
    hub.selector.select(0)
    assert (sorted(hub.seen), hub.poller.mask_of(fd)) == (["read", "write"], None)


def test_a_direction_that_the_other_callback_begins_to_wait_for_stays_armed(hub: Hub) -> None:
    fd = hub.poller.opens(READ | WRITE)
    watch = hub.selector.open(fd)

    def written() -> None:
        hub.seen.append("write")
        watch.on_readable = hub.says("read")

    watch.on_writable = written
    hub.selector.arm(watch, READ | WRITE)
    hub.selector.select(0)
    assert watch.armed & READ
    hub.selector.select(0)
    assert hub.seen == ["write", "read"]


def test_a_waiter_released_by_its_own_callback_is_not_touched_again(hub: Hub) -> None:
    fd = hub.poller.opens(READ | WRITE)
    watch = hub.selector.open(fd)
    watch.on_readable = lambda: hub.selector.release(watch)
    hub.selector.arm(watch, READ | WRITE)
    hub.selector.select(0)
    assert (hub.poller.mask_of(fd), watch.armed, watch.fd) == (None, 0, -1)


@pytest.mark.parametrize("name", ["select", "poll", "epoll"])
def test_an_idle_connection_costs_no_wake_up(name: str) -> None:
    class Counting:
        def __init__(self, poller: Poller) -> None:
            self._poller = poller
            self.add, self.modify, self.remove, self.close = poller.add, poller.modify, poller.remove, poller.close
            self.reports = 0

        def wait(self, timeout: float | None = None) -> list[tuple[int, int]]:
            found = self._poller.wait(timeout)
            self.reports += len(found)
            return found

    async def main(runtime: HubRuntime) -> None:
        assert isinstance(runtime.loop, HubLoop)
        counting = runtime.loop.watches._poller = Counting(runtime.loop.watches._poller)
        left, right = socket.socketpair()
        with right:
            ends = await open_ends(runtime, left, right)
            task = runtime.create_task(ends.reader.read(1))
            await turns()
            ends.says(b"many bytes that nobody reads")
            await task
            await turns(3)
            right.close()
            before = counting.reports
            await turns(50)
            assert counting.reports - before <= 2
            ends.writer.close()

    run_on(name, main)


# --- errors


def test_a_callback_that_fails_is_logged_and_the_others_are_called(hub: Hub) -> None:
    def fail() -> None:
        raise LookupError("mine")

    with logged() as log:
        select_failing(hub, fail)
    assert hub.seen == ["well", "well"]
    assert log == ["ERROR a callback of the event loop failed; the loop continues"] * 3


def select_failing(hub: Hub, fail: Callable[[], None]) -> None:
    """Poll beside callbacks that fail: one, and then two of one descriptor."""
    for ready in (READ, READ | WRITE):
        failing, well = hub.selector.open(hub.poller.opens(ready)), hub.selector.open(hub.poller.opens(ready))
        failing.on_readable = failing.on_writable = fail
        well.on_readable = hub.says("well")
        for watch in (failing, well):
            hub.selector.arm(watch, READ | (ready & WRITE))
        hub.selector.select(0)
        hub.selector.release(failing)
        hub.selector.release(well)


def test_an_error_of_the_poller_leaves_the_watch_as_it_was(hub: Hub) -> None:
    watch = hub.selector.open(hub.poller.opens())
    hub.poller.refuses_next(errno.ENOSPC)
    with pytest.raises(OSError, match="No space"):
        hub.selector.arm(watch, READ)
    assert watch.armed == 0
    hub.selector.arm(watch, READ)
    hub.poller.refuses_next(errno.ENOMEM)
    with pytest.raises(OSError, match="Cannot allocate"):
        hub.selector.arm(watch, WRITE)
    assert watch.armed == READ


# --- one batch


def test_a_number_used_again_within_a_batch_is_not_confused(hub: Hub) -> None:
    first, second = hub.poller.opens(READ), hub.poller.opens(READ)
    old, new = hub.selector.open(second), hub.selector.open(second)

    def replace() -> None:
        hub.selector.release(old)
        hub.poller.becomes(second, 0)  # closed, and the number reused
        new.on_readable = hub.says("new")
        hub.selector.arm(new, READ)

    watch = hub.selector.open(first)
    watch.on_readable = replace
    old.on_readable = hub.says("old")
    hub.selector.arm(watch, READ)
    hub.selector.arm(old, READ)
    hub.selector.select(0)
    for callback in hub.soon:
        callback()
    assert "old" in hub.seen  # woken by the release
    hub.poller.becomes(first, 0)
    if hub.seen.count("new") == 0:  # a late event may wake it early: it tries and waits again
        hub.poller.becomes(second, READ)
        hub.selector.select(0)
    assert hub.seen.count("new") == 1


def test_a_late_event_of_a_released_watch_is_dropped(hub: Hub) -> None:
    first, second = hub.poller.opens(READ), hub.poller.opens(READ)
    watch, other = hub.selector.open(first), hub.selector.open(second)
    watch.on_readable = lambda: hub.selector.release(other)
    hub.selector.arm(watch, READ)
    hub.selector.arm(other, READ)
    assert hub.selector.select(0) == []
    assert hub.poller.mask_of(second) is None


def test_closing_forgets_everything_and_wakes_no_waiter(hub: Hub) -> None:
    watch = hub.selector.open(hub.poller.opens(READ))
    watch.on_readable = hub.says("read")
    hub.selector.arm(watch, READ)
    hub.selector.register(hub.poller.opens(), selectors.EVENT_READ)
    hub.selector.close()
    hub.selector.release(watch)
    assert (hub.soon, hub.seen, len(hub.selector.get_map())) == ([], [], 0)


# --- jobs of a turn


class Step:
    """A job that records its name, and may do more."""

    def __init__(self, hub: Hub, name: str, then: Callable[[], object] = lambda: None) -> None:
        self._hub = hub
        self._name = name
        self._then = then

    def run(self) -> None:
        self._hub.seen.append(self._name)
        self._then()

    def parked(self, pool_worker: Any) -> None:
        self._hub.seen.append(f"{self._name} waits")


def runs_jobs(hub: Hub) -> None:
    """Run jobs without greenlets."""

    def run_jobs(jobs: Iterable[Job]) -> None:
        for job in jobs:
            job.run()

    hub.selector.run_jobs = run_jobs


def brings(hub: Hub, job: Job, name: str = "", mask: int = READ) -> None:
    """Make a descriptor ready, and let its waiter run a job."""
    watch = hub.selector.open(hub.poller.opens(mask))

    def callback() -> None:
        if name:
            hub.seen.append(name)
        hub.selector.run_job(job)

    watch.on_readable = callback
    hub.selector.arm(watch, mask & (READ | WRITE) or READ)


def test_jobs_run_when_all_events_of_the_turn_are_served(hub: Hub) -> None:
    runs_jobs(hub)
    for name in "abc":
        brings(hub, Step(hub, f"job {name}"), name)
    hub.selector.select(0)
    assert hub.seen == ["a", "b", "c", "job a", "job b", "job c"]


def test_jobs_of_waiters_that_are_called_in_the_general_way_run_too(hub: Hub) -> None:
    runs_jobs(hub)
    for mask in (READ | HANGUP, ERROR, READ):
        brings(hub, Step(hub, "job"), "event", mask)
    hub.selector.select(0)
    assert hub.seen == ["event"] * 3 + ["job"] * 3


def test_many_events_do_not_delay_the_jobs_before_them(hub: Hub) -> None:
    runs_jobs(hub)
    for _ in range(_MOST_JOBS + 4):
        brings(hub, Step(hub, "job"), "event")
    hub.selector.select(0)
    assert hub.seen == ["event"] * _MOST_JOBS + ["job"] * _MOST_JOBS + ["event"] * 4 + ["job"] * 4


def test_a_job_outside_of_a_turn_runs_immediately(hub: Hub) -> None:
    runs_jobs(hub)
    hub.selector.run_job(Step(hub, "before"))
    assert hub.seen == ["before"]
    brings(hub, Step(hub, "within"))
    hub.selector.select(0)
    hub.selector.run_job(Step(hub, "behind"))
    assert hub.seen == ["before", "within", "behind"]


def test_a_job_that_a_job_brings_runs_in_the_same_turn(hub: Hub) -> None:
    runs_jobs(hub)
    second = Step(hub, "second", lambda: hub.selector.run_job(Step(hub, "third")))
    brings(hub, Step(hub, "first", lambda: hub.selector.run_job(second)))
    hub.selector.select(0)
    assert hub.seen == ["first", "second", "third"]


def test_a_job_that_parks_does_not_hold_the_others(hub: Hub) -> None:
    home = greenlet.getcurrent()
    hub.selector.run_jobs = Pool(home, None).run
    waiting: list[greenlet.greenlet] = []

    def park() -> None:
        waiting.append(greenlet.getcurrent())
        home.switch()
        hub.seen.append("goes on")

    for job in (Step(hub, "a"), Step(hub, "b", park), Step(hub, "c")):
        brings(hub, job)
    hub.selector.select(0)
    assert hub.seen == ["a", "b", "b waits", "c"]
    brings(hub, Step(hub, "d"))
    hub.selector.select(0)
    waiting[0].switch()
    assert hub.seen == ["a", "b", "b waits", "c", "d", "goes on"]


def test_an_error_while_jobs_run_does_not_end_the_loop(hub: Hub) -> None:
    def fail(jobs: Iterable[Job]) -> None:
        raise LookupError("mine")

    hub.selector.run_jobs = fail
    brings(hub, Step(hub, "lost"), "event")
    with logged() as log:
        hub.selector.select(0)
    assert log == ["ERROR a callback of the event loop failed; the loop continues"]
    runs_jobs(hub)
    brings(hub, Step(hub, "job"), "event")
    hub.selector.select(0)
    hub.selector.run_job(Step(hub, "behind"))
    assert hub.seen == ["event", "event", "job", "behind"]


def test_a_system_exit_in_a_callback_drops_no_job_and_no_response(hub: Hub) -> None:
    """A worker may survive it, and its loop continues; a signal handler may raise it anywhere."""

    class Answer:
        def flush(self) -> None:
            hub.seen.append("answer")

    def leave() -> None:
        hub.selector.outbox.hold(Answer())
        raise SystemExit(3)

    runs_jobs(hub)
    brings(hub, Step(hub, "job"))
    watch = hub.selector.open(hub.poller.opens(READ))
    watch.on_readable = leave
    hub.selector.arm(watch, READ)
    with pytest.raises(SystemExit):
        hub.selector.select(0)
    assert hub.seen == ["job", "answer"]
    hub.selector.run_job(Step(hub, "behind"))
    assert hub.seen == ["job", "answer", "behind"]


# --- responses of a turn


class Held:
    """Holds a response, if that is possible."""

    def __init__(self, hub: Hub, name: str) -> None:
        self._hub = hub
        self._name = name

    def __call__(self) -> None:
        self._hub.seen.append(f"{self._name} {'held' if self._hub.selector.outbox.open else 'sent'}")
        if self._hub.selector.outbox.open:
            self._hub.selector.outbox.hold(self)

    def flush(self) -> None:
        self._hub.seen.append(f"{self._name} flushed")


def answers(hub: Hub, *names: str) -> None:
    """Make descriptors ready, and let their waiters respond."""
    for name in names:
        watch = hub.selector.open(hub.poller.opens(READ))
        watch.on_readable = Held(hub, name)
        hub.selector.arm(watch, READ)


def test_responses_of_a_turn_are_sent_at_its_end(hub: Hub) -> None:
    answers(hub, "a", "b")
    hub.selector.select(0)
    assert hub.seen == ["a held", "b held", "a flushed", "b flushed"]
    assert not hub.selector.outbox.open


def test_responses_of_jobs_are_sent_at_the_end_of_the_turn_too(hub: Hub) -> None:
    runs_jobs(hub)
    for name in "ab":
        brings(hub, Step(hub, f"job {name}", Held(hub, name)))
    hub.selector.select(0)
    assert hub.seen == ["job a", "a held", "job b", "b held", "a flushed", "b flushed"]


def test_a_turn_with_one_event_holds_nothing(hub: Hub) -> None:
    answers(hub, "a")
    hub.selector.select(0)
    assert hub.seen == ["a sent"]


def test_nothing_is_held_between_the_turns(hub: Hub) -> None:
    answers(hub, "a", "b")
    hub.selector.select(0)
    Held(hub, "c")()
    assert hub.seen[-1] == "c sent"


# --- asyncio's registrations


def test_asyncio_gets_its_own_registrations(hub: Hub) -> None:
    fd = hub.poller.opens(READ | WRITE)
    key = hub.selector.register(fd, selectors.EVENT_READ, "data")
    assert (key.fd, key.events, key.data) == (fd, selectors.EVENT_READ, "data")
    assert hub.selector.select(0) == [(key, selectors.EVENT_READ)]
    assert hub.selector.get_key(fd) is key
    assert hub.selector.get_map()[fd] is key
    key = hub.selector.modify(fd, selectors.EVENT_READ | selectors.EVENT_WRITE, "more")
    assert hub.selector.select(0) == [(key, selectors.EVENT_READ | selectors.EVENT_WRITE)]
    assert hub.selector.unregister(fd) is key
    assert hub.selector.select(0) == []


def test_an_error_of_a_descriptor_of_asyncios_is_both_events(hub: Hub) -> None:
    fd = hub.poller.opens(ERROR)
    key = hub.selector.register(fd, selectors.EVENT_WRITE)
    assert hub.selector.select(0) == [(key, selectors.EVENT_WRITE)]


def test_changing_the_data_alone_costs_no_system_call(hub: Hub) -> None:
    fd = hub.poller.opens()
    hub.selector.register(fd, selectors.EVENT_READ, 1)
    before = len(hub.poller.calls)
    assert hub.selector.modify(fd, selectors.EVENT_READ, 2).data == 2
    assert len(hub.poller.calls) == before


def test_wrong_registrations_are_refused_as_in_selectors(hub: Hub) -> None:
    fd = hub.poller.opens()
    for events in (0, 8):
        with pytest.raises(ValueError, match="nvalid events"):
            hub.selector.register(fd, events)
    hub.selector.register(fd, selectors.EVENT_READ)
    with pytest.raises(KeyError):
        hub.selector.register(fd, selectors.EVENT_READ)
    with pytest.raises(ValueError, match="nvalid events"):
        hub.selector.modify(fd, 0)
    for missing in (
        lambda: hub.selector.modify(99, 1),
        lambda: hub.selector.unregister(99),
        lambda: hub.selector.get_key(99),
    ):
        with pytest.raises(KeyError):
            missing()
    with pytest.raises(ValueError, match="nvalid file descriptor"):
        hub.selector.register(-1, selectors.EVENT_READ)


def test_a_refused_registration_leaves_no_trace(hub: Hub) -> None:
    fd = hub.poller.opens()
    hub.poller.refuses_next(errno.ENOSPC)
    with pytest.raises(OSError, match="No space"):
        hub.selector.register(fd, selectors.EVENT_READ)
    assert fd not in hub.selector.get_map()
    hub.selector.register(fd, selectors.EVENT_READ)


def test_asyncio_cannot_register_the_descriptor_of_a_watch(hub: Hub) -> None:
    fd = hub.poller.opens()
    watch = hub.selector.open(fd)
    hub.selector.arm(watch, READ)
    with pytest.raises(RuntimeError, match="belongs to a connection of a handler"):
        hub.selector.register(fd, selectors.EVENT_READ)
    assert fd not in hub.selector.get_map()


def test_a_closed_file_is_still_found_by_the_object() -> None:
    selector = HubSelector(FakePoller())
    with socket.socket() as sock:
        selector._poller.becomes(sock.fileno(), 0)  # type: ignore[attr-defined]
        key = selector.register(sock, selectors.EVENT_READ)
    assert selector.unregister(sock) is key
    with pytest.raises(KeyError):
        selector.unregister(sock)


# --- a process that a job forks


class Forking:
    """A job that forks; its child abandons the selector and continues as if it were the worker."""

    def __init__(self, selector: HubSelector) -> None:
        self._selector = selector
        self.code: int | None = None
        """How the child ended."""

    def run(self) -> None:
        """Fork; in the parent, wait for the child."""
        child = os.fork()
        if child:
            self.code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        else:
            self._selector.abandon()

    def parked(self, pool_worker: object) -> None:
        raise AssertionError("it does not park")


@pytest.fixture
def forking(hub: Hub) -> Forking:
    hub.selector.run_jobs = lambda jobs: [job.run() for job in jobs]
    job = Forking(hub.selector)
    fd = hub.poller.opens(READ)
    watch = hub.selector.open(fd)
    watch.on_readable = lambda: hub.selector.run_job(job)
    hub.selector.arm(watch, READ)
    return job


def test_a_forked_child_of_a_job_returns_no_events_to_asyncio(hub: Hub, forking: Forking) -> None:
    hub.selector.register(hub.poller.opens(READ), selectors.EVENT_READ)
    parent = os.getpid()
    keys = hub.selector.select(0)
    if os.getpid() != parent:
        os._exit(3)
    assert (forking.code, len(keys)) == (1, 1)


def test_a_forked_child_of_a_job_accepts_no_connections(hub: Hub, forking: Forking) -> None:
    parent = os.getpid()

    def accept() -> None:
        if os.getpid() != parent:
            os._exit(3)
        hub.seen.append("accept")

    hub.selector.listen(hub.poller.opens(READ), accept)
    hub.selector.select(0)
    assert (forking.code, hub.seen) == (1, ["accept"])


# --- several connections in a turn


class Queue:
    """A listener's queue; each connection takes some seconds to serve, in a job or at once."""

    def __init__(self, waiting: int, seconds: float, *, jobs: bool) -> None:
        self.now = 0.0
        self.selector = HubSelector(poller := FakePoller(), lambda: self.now)
        self.selector.run_jobs = lambda jobs: [job.run() for job in jobs]
        self.waiting = waiting
        self.served = 0
        self.fd = poller.opens(READ)
        self.end = self.selector.listen(self.fd, self.accept)
        self._seconds = seconds
        self._jobs = jobs

    def accept(self) -> bool:
        """Accept a connection if one waits."""
        if not self.waiting:
            return False
        self.waiting -= 1
        if self._jobs:
            self.selector.run_job(self)
        else:
            self.run()
        return True

    def run(self) -> None:
        """Serve a connection."""
        self.now += self._seconds
        self.served += 1

    def parked(self, pool_worker: object) -> None:
        raise AssertionError("it does not park")


@pytest.mark.parametrize("jobs", [False, True])
@pytest.mark.parametrize(
    ("seconds", "served"),
    [(0.0, 8), (ACCEPTING / 2.5, 3), (ACCEPTING, 1), (0.1, 1)],
    ids=["none", "short", "long", "longer"],
)
def test_a_turn_accepts_connections_until_their_requests_have_taken_its_time(
    seconds: float, served: int, jobs: bool
) -> None:
    queue = Queue(8, seconds, jobs=jobs)
    queue.selector.select(0)
    assert (queue.served, queue.waiting) == (served, 8 - served)


def test_after_a_turn_that_found_no_second_connection_some_look_for_none() -> None:
    queue = Queue(1, 0.0, jobs=False)
    queue.selector.select(0)
    queue.waiting = LOOKS + 8
    for _ in range(LOOKS):
        queue.selector.select(0)
    assert queue.waiting == 8
    queue.selector.select(0)
    assert queue.waiting == 0


def test_a_listener_that_is_no_longer_polled_accepts_no_further_connection() -> None:
    queue = Queue(8, 0.0, jobs=True)
    queue.run = queue.end  # type: ignore[assignment, method-assign]
    queue.selector.select(0)
    queue.selector.select(0)
    assert queue.waiting == 7


def test_a_child_forked_by_an_accepted_connection_accepts_no_other(hub: Hub) -> None:
    hub.selector = HubSelector(hub.poller, lambda: 0.0)
    hub.selector.run_jobs = lambda jobs: [job.run() for job in jobs]
    parent = os.getpid()
    forking = Forking(hub.selector)

    def accept() -> bool:
        if os.getpid() != parent:
            os._exit(3)
        hub.seen.append("accept")
        if len(hub.seen) == 1:
            forking.run()
        return len(hub.seen) < 2

    hub.selector.listen(hub.poller.opens(READ), accept)
    hub.selector.select(0)
    assert (forking.code, hub.seen) == (1, ["accept", "accept"])
