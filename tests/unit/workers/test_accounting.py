"""The stopwatch of `--accounting`, the totals by label, their bounds, and `hybrid.label`."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Iterator
from typing import Any

import greenlet
import pytest
from support.records import logged
from support.rows import for_each

from hybrid.workers.common.accounting import PAUSE, Account, Accounting, Steps
from hybrid.workers.common.labels import REQUEST, label
from hybrid.workers.contract.label_counts import (
    MOST_CHARACTERS,
    MOST_LABELS,
    OTHER,
    SHARED,
    UNLABELLED,
    LabelCounts,
    read_report,
    why_no_label,
)
from hybrid.workers.contract.messages import MAX_MESSAGE, LabelsCounted, decode, encode

SECOND = 1_000_000  # microseconds


class Clocks:
    """Two clocks that the test moves."""

    def __init__(self) -> None:
        self.wall = 100.0
        self.cpu = 10.0

    def run(self, seconds: float, cpu: float | None = None) -> None:
        """Let time pass for the running code; `cpu`: the seconds in which it has the processor."""
        self.wall += seconds
        self.cpu += seconds if cpu is None else cpu


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def accounting(clocks: Clocks) -> Iterator[Accounting]:
    """Accounting that follows the greenlets of this thread."""
    loop = asyncio.new_event_loop()
    made = Accounting("X-Route", lambda: clocks.wall, lambda: clocks.cpu)
    made.begin(loop)
    yield made
    made.end()
    loop.close()


def totals(accounting: Accounting) -> dict[str, LabelCounts]:
    """Return the labels that have changed."""
    report = accounting.report()
    return {} if report is None else dict(read_report(report.labels, report.numbers))


def labelled(accounting: Accounting, name: str) -> Account:
    account = accounting.open()
    account.label = name
    return account


# --- the stopwatch


def test_the_time_between_two_switches_is_charged_to_the_request(accounting: Accounting, clocks: Clocks) -> None:
    account = labelled(accounting, "a")
    clocks.run(1)  # it waits to begin
    before = accounting.switch(account)
    clocks.run(2, cpu=0.5)
    accounting.switch(before)
    clocks.run(4)  # after it
    accounting.close(account, 200)
    assert totals(accounting) == {"a": LabelCounts(1, (0, 1, 0, 0, 0), 7 * SECOND, 2 * SECOND, SECOND // 2)}


def test_a_request_within_a_step_of_another_interrupts_its_time(accounting: Accounting, clocks: Clocks) -> None:
    outer, inner = labelled(accounting, "outer"), labelled(accounting, "inner")
    nothing = accounting.switch(outer)
    clocks.run(1)
    before = accounting.switch(inner)
    clocks.run(2)
    accounting.switch(before)
    clocks.run(4)
    accounting.switch(nothing)
    for account in (outer, inner):
        accounting.close(account)
    found = totals(accounting)
    assert (found["outer"].loop, found["inner"].loop) == (5 * SECOND, 2 * SECOND)


def test_a_greenlet_that_waits_is_not_charged(accounting: Accounting, clocks: Clocks) -> None:
    home = greenlet.getcurrent()

    def request(name: str) -> None:
        account = labelled(accounting, name)
        before = accounting.switch(account)
        clocks.run(1)
        home.switch()
        clocks.run(2)
        accounting.switch(before)
        accounting.close(account)

    first, second = greenlet.greenlet(request), greenlet.greenlet(request)
    first.switch("first")
    clocks.run(8)  # the loop
    second.switch("second")
    first.switch()
    clocks.run(16)
    second.switch()
    found = totals(accounting)
    assert (found["first"].loop, found["second"].loop) == (3 * SECOND, 3 * SECOND)
    assert (found["first"].wall, found["second"].wall) == (12 * SECOND, 21 * SECOND)


def test_a_tracer_of_greenlets_that_was_there_goes_on(clocks: Clocks) -> None:
    seen: list[str] = []
    before = greenlet.settrace(lambda event, args: seen.append(event))
    loop = asyncio.new_event_loop()
    accounting = Accounting(None, lambda: clocks.wall, lambda: clocks.cpu)
    try:
        accounting.begin(loop)
        greenlet.greenlet(lambda: None).switch()
        assert seen == ["switch", "switch"]
        accounting.end()
        greenlet.greenlet(lambda: None).switch()
        assert len(seen) == 4
    finally:
        greenlet.settrace(before)
        loop.close()


# --- tasks


def test_tasks_of_a_request_are_charged_to_it_while_it_runs(clocks: Clocks) -> None:
    accounting = Accounting(None, lambda: clocks.wall, lambda: clocks.cpu)
    account = labelled(accounting, "a")

    async def child() -> None:
        clocks.run(1)
        await asyncio.sleep(0)
        clocks.run(2)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        accounting.begin(loop)
        REQUEST.set(account)
        await asyncio.create_task(child())
        late = asyncio.create_task(child())
        explicit = loop.create_task(child(), context=contextvars.Context())
        await asyncio.sleep(0)
        accounting.close(account)
        await asyncio.gather(late, explicit)
        accounting.end()

    asyncio.run(main())
    assert totals(accounting)["a"].loop == 4 * SECOND  # not the second half of the late one, and not the last one


def test_a_task_factory_of_the_application_stays(clocks: Clocks) -> None:
    accounting = Accounting(None, lambda: clocks.wall, lambda: clocks.cpu)
    loop = asyncio.new_event_loop()
    factory: Any = lambda loop, coroutine, **more: asyncio.Task(coroutine, loop=loop, **more)  # noqa: E731
    try:
        loop.set_task_factory(factory)
        accounting.begin(loop)
        assert loop.get_task_factory() is factory
        accounting.end()
        assert loop.get_task_factory() is factory
    finally:
        loop.close()


def test_steps_pass_values_errors_and_attributes(accounting: Accounting, clocks: Clocks) -> None:
    async def work() -> str:
        try:
            await asyncio.sleep(0)
        except ValueError as error:
            clocks.run(1)
            return f"caught {error}"
        return "nothing"

    account = labelled(accounting, "a")
    steps = Steps(accounting, account, work())
    assert inspect.getcoroutinestate(steps) == inspect.CORO_CREATED
    steps.send(None)
    assert inspect.getcoroutinestate(steps) == inspect.CORO_SUSPENDED
    assert steps.__name__ == "work"
    with pytest.raises(StopIteration) as ended:
        steps.throw(ValueError("it"))
    assert ended.value.value == "caught it"
    assert inspect.getcoroutinestate(steps) == inspect.CORO_CLOSED
    accounting.close(account)
    assert totals(accounting)["a"].loop == SECOND


def test_steps_that_are_closed_run_their_finally() -> None:
    ended: list[bool] = []

    async def work() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            ended.append(True)

    accounting = Accounting()
    steps = Steps(accounting, accounting.open(), work())
    steps.send(None)
    steps.close()
    assert ended == [True]


# --- totals and their bounds


def test_only_labels_that_have_changed_are_reported(accounting: Accounting) -> None:
    for name in ("a", "b"):
        accounting.close(labelled(accounting, name))
    assert set(totals(accounting)) == {"a", "b"}
    assert accounting.report() is None
    accounting.close(labelled(accounting, "b"))
    assert {name: one.requests for name, one in totals(accounting).items()} == {"b": 2}


def test_a_report_is_due_a_moment_after_the_last_one(accounting: Accounting, clocks: Clocks) -> None:
    assert accounting.is_due
    accounting.report()
    assert not accounting.is_due
    clocks.run(PAUSE)
    assert accounting.is_due


def test_a_request_without_a_label_is_counted_as_one(accounting: Accounting) -> None:
    accounting.close(accounting.open(), 404)
    assert totals(accounting)[UNLABELLED].responses == (0, 0, 0, 1, 0)


def test_a_long_request_is_reported_before_its_end(accounting: Accounting, clocks: Clocks) -> None:
    account = labelled(accounting, "a")
    for reported in (0, 3 * SECOND):  # a short one may still get another label
        before = accounting.switch(account)
        clocks.run(0.5 if not reported else 2.5)
        accounting.switch(before)
        assert totals(accounting).get("a", LabelCounts()) == LabelCounts(loop=reported, cpu=reported)
    accounting.close(account)
    assert totals(accounting)["a"] == LabelCounts(1, wall=3 * SECOND, loop=3 * SECOND, cpu=3 * SECOND)


def test_a_request_in_a_thread_has_its_processor_time_and_no_loop_time(accounting: Accounting, clocks: Clocks) -> None:
    account = accounting.open_in_thread()
    account.label = "a"
    clocks.run(3)
    accounting.close_in_thread(account, 200, cpu=1.0)
    clocks.run(5)  # until the next report
    assert totals(accounting) == {"a": LabelCounts(1, (0, 1, 0, 0, 0), 3 * SECOND, 0, SECOND)}


def test_labels_beyond_the_most_are_counted_together(accounting: Accounting) -> None:
    for number in range(MOST_LABELS + 5):
        accounting.close(labelled(accounting, f"label {number}"))
    accounting.close(accounting.open())
    accounting.close(labelled(accounting, "label 0"))
    found = totals(accounting)
    assert len(found.keys() - SHARED) == MOST_LABELS
    assert (found[OTHER].requests, found[UNLABELLED].requests, found["label 0"].requests) == (5, 1, 2)


def test_a_report_of_as_many_labels_as_there_can_be_fits_one_message() -> None:
    longest = [f"{number:02}".ljust(MOST_CHARACTERS, '"') for number in range(MOST_LABELS)]
    counts = LabelCounts(2**53, (2**53,) * 5, 2**53, 2**53, 2**53)
    message = LabelsCounted((*longest, OTHER, UNLABELLED), counts.numbers * (MOST_LABELS + 2))
    assert len(encode(message)) <= MAX_MESSAGE
    assert decode(encode(message)) == message


@for_each(
    ("labels", "numbers"),
    [
        (("a",), (1,) * 8),
        (("a",), (1,) * 10),
        (("a",), (1,) * 8 + (-1,)),
        (("a",), (1,) * 8 + ("x",)),
        (("a",), (1,) * 8 + (2**63,)),
        (("a\n",), (1,) * 9),
        ((7,), (1,) * 9),
    ],
)
def test_a_report_that_does_not_fit_together_is_refused(labels: tuple[Any, ...], numbers: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match=r"label|number"):
        read_report(labels, numbers)


# --- labels


@pytest.mark.parametrize("name", ["a", "checkout", "GET /orders/{id}", "shop:index", "x" * MOST_CHARACTERS, '"\\'])
def test_a_good_label_labels_the_request(name: str, accounting: Accounting) -> None:
    account = accounting.open()
    token = REQUEST.set(account)
    label(name)
    REQUEST.reset(token)
    accounting.close(account)
    assert set(totals(accounting)) == {name}


@for_each("name", ["", " a", "a ", "a\nb", "a\tb", "\x7f", "é", "x" * (MOST_CHARACTERS + 1), None, b"a"])
def test_a_bad_label_is_refused_also_where_nothing_is_counted(name: Any) -> None:
    with pytest.raises(ValueError, match="1 to 64 visible ASCII characters"):
        label(name)


def test_a_label_outside_of_a_request_has_no_effect(accounting: Accounting) -> None:
    label("nowhere")
    assert accounting.report() is None


@pytest.mark.parametrize("value", ["route", b"route", bytearray(b"route"), memoryview(b"route")])
def test_the_value_of_a_header_field_is_a_label(value: Any, accounting: Accounting) -> None:
    account = accounting.open()
    accounting.header_is(value, account)
    accounting.close(account)
    assert set(totals(accounting)) == {"route"}


def test_a_header_field_wins_over_a_later_label(accounting: Accounting) -> None:
    account = accounting.open()
    accounting.header_is("route", account)
    account.label = "later"
    accounting.close(account)
    assert set(totals(accounting)) == {"route"}


def test_the_value_of_a_header_field_that_is_no_label_is_logged_once(accounting: Accounting) -> None:
    account = labelled(accounting, "before")
    with logged() as log:
        accounting.header_is("a\tb", account)
        accounting.header_is("", account)
    accounting.close(account)
    assert set(totals(accounting)) == {"before"}
    assert [line for line in log if "--label-header" in line] == log
    assert len(log) == 1


def test_the_shared_labels_are_labels() -> None:
    assert [why_no_label(name) for name in SHARED] == [None, None]
