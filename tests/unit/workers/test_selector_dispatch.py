"""Directions that the hub's selector disarms when a descriptor is readable and writable."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hybrid.workers.hub.selector import HubSelector
from hybrid.workers.pollers.contract import READ, WRITE


class BothReady:
    """A poller with one descriptor, which is always ready for all watched directions."""

    def __init__(self) -> None:
        self.mask = 0

    def add(self, fd: int, mask: int) -> None:
        self.mask = mask

    modify = add

    def remove(self, fd: int) -> None:
        self.mask = 0

    def wait(self, timeout: float | None) -> list[tuple[int, int]]:
        return [(7, self.mask)] if self.mask else []

    def close(self) -> None:
        self.mask = 0


@pytest.fixture
def poller() -> BothReady:
    return BothReady()


@pytest.fixture
def selector(poller: BothReady) -> HubSelector:
    return HubSelector(poller)


def test_a_writer_that_begins_to_read_in_its_callback_stays_armed_for_reading(
    selector: HubSelector, poller: BothReady
) -> None:
    """A greenlet that has sent everything begins to receive: it waits for input only after the poller's report."""
    watch = selector.open(7)
    heard: list[str] = []

    def sent_all() -> None:
        watch.on_readable = lambda: heard.append("read")

    selector.arm(watch, READ | WRITE)
    watch.on_writable = sent_all
    selector.select(0)
    assert poller.mask & READ == watch.armed & READ == READ
    selector.select(0)
    assert heard == ["read"]


def test_a_direction_without_a_waiter_is_disarmed_while_the_other_is_awaited(
    selector: HubSelector, poller: BothReady
) -> None:
    watch = selector.open(7)

    def wait_again() -> None:
        watch.on_writable = wait_again

    selector.arm(watch, READ | WRITE)
    watch.on_writable = wait_again
    selector.select(0)
    assert poller.mask == watch.armed == WRITE


def test_a_descriptor_without_a_waiter_is_forgotten(selector: HubSelector, poller: BothReady) -> None:
    watch = selector.open(7)
    selector.arm(watch, READ | WRITE)
    selector.select(0)
    assert poller.mask == watch.armed == 0


def test_a_listener_is_heard_each_time_until_that_is_ended(selector: HubSelector, poller: BothReady) -> None:
    heard: list[int] = []
    end = selector.listen(7, lambda: heard.append(7))
    selector.select(0)
    selector.select(0)
    assert heard == [7, 7]
    end()
    selector.select(0)
    assert (heard, poller.mask) == ([7, 7], 0)


def test_a_listener_may_be_ended_by_its_own_callback(selector: HubSelector, poller: BothReady) -> None:
    ends: list[Callable[[], object]] = []
    ends.append(selector.listen(7, lambda: ends[0]()))
    selector.select(0)
    assert poller.mask == 0


class TwoReady(BothReady):
    """A poller that finds a connection readable, and then a listener."""

    def wait(self, timeout: float | None) -> list[tuple[int, int]]:
        return [(7, READ), (8, READ)]


def test_requests_at_hand_are_served_before_another_connection_is_accepted() -> None:
    """A job that computes for long would delay a connection accepted before it, while a sibling may be free."""
    selector = HubSelector(TwoReady())
    heard: list[str] = []
    selector.run_jobs = lambda jobs: [job.run() for job in jobs]
    connection = selector.open(7)
    selector.arm(connection, READ)
    connection.on_readable = lambda: selector.run_job(Saying("request", heard))
    selector.listen(8, lambda: heard.append("accepted"))
    selector.select(0)
    assert heard == ["request", "accepted"]


class Saying:
    """A job that says so when it is run."""

    def __init__(self, word: str, heard: list[str]) -> None:
        self.word = word
        self.heard = heard

    def run(self) -> None:
        self.heard.append(self.word)

    def parked(self, pool_worker: object) -> None:
        raise AssertionError("it does not wait")


def test_a_callback_for_the_end_of_the_turn_comes_after_all_events_and_only_within_a_turn(
    selector: HubSelector,
) -> None:
    heard: list[str] = []

    def ready() -> None:
        assert selector.after_turn(lambda: heard.append("late"))
        heard.append("event")

    selector.listen(7, ready)
    selector.select(0)
    assert heard == ["event", "late"]
    assert not selector.after_turn(lambda: heard.append("never"))


def test_a_callback_that_fails_at_the_end_of_the_turn_does_not_keep_others_from_theirs(
    selector: HubSelector, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []

    def fail() -> None:
        raise ValueError("broken")

    def ready() -> None:
        selector.after_turn(fail)
        selector.after_turn(lambda: heard.append("late"))

    selector.listen(7, ready)
    selector.select(0)
    assert heard == ["late"]


def test_a_callback_that_ends_the_turn_leaves_the_others_to_the_next_one(selector: HubSelector) -> None:
    """Their connections would never be polled, or count forever."""
    soon: list[Callable[[], object]] = []
    selector.call_soon = soon.append
    heard: list[str] = []

    def leave() -> None:
        raise SystemExit

    def ready() -> None:
        for callback in (leave, lambda: heard.append("late")):
            selector.after_turn(callback)

    selector.listen(7, ready)
    with pytest.raises(SystemExit):
        selector.select(0)
    for callback in soon:
        callback()
    assert heard == ["late"]


def test_a_turn_that_a_job_has_ended_is_over(selector: HubSelector) -> None:
    def leave(jobs: object) -> None:
        raise SystemExit

    selector.run_jobs = leave
    selector.listen(7, lambda: selector.run_job(Saying("never", [])))
    with pytest.raises(SystemExit):
        selector.select(0)
    assert not selector.after_turn(lambda: None)
