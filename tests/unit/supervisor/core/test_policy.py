"""Back-off, deadlines and restart intensity, as numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.rows import for_each

from hybrid.supervisor.core import policy as rules
from hybrid.supervisor.core.policy import Deaths, Intensity, Policy
from hybrid.supervisor.core.states import State

POLICY = Policy(graceful_timeout=30, boot_timeout=60, backoff=0.1, backoff_max=1.0, healthy_after=1.0, boot_attempts=5)


@for_each(("failures", "delay"), [(0, 0), (1, 0), (2, 0.1), (3, 0.2), (4, 0.4), (5, 0.8), (6, 1.0), (7, 1.0)])
def test_the_first_restart_is_at_once_and_then_the_delay_doubles_to_its_limit(failures: int, delay: float) -> None:
    assert rules.restart_delay(POLICY, failures) == pytest.approx(delay)


@given(st.integers(min_value=0, max_value=10**9))
def test_no_number_of_failures_makes_the_delay_overflow_or_pass_its_limit(failures: int) -> None:
    assert 0 <= rules.restart_delay(POLICY, failures) <= POLICY.backoff_max


@given(st.integers(min_value=1, max_value=100))
def test_a_failed_fork_is_never_repeated_at_once(failures: int) -> None:
    assert rules.fork_delay(POLICY, failures) >= POLICY.backoff


@for_each(("served", "failures"), [(None, 4), (0.0, 4), (0.99, 4), (1.0, 1), (500.0, 1)])
def test_a_worker_that_served_well_for_a_while_has_no_history(served: float | None, failures: int) -> None:
    assert rules.failures_after_death(POLICY, 3, served) == failures


@pytest.mark.parametrize(("failures", "gives_up"), [(4, False), (5, True), (6, True)])
def test_a_start_is_given_up_after_so_many_attempts(failures: int, gives_up: bool) -> None:
    assert rules.gives_up(POLICY, failures) is gives_up


def test_only_ready_failed_and_gone_children_have_no_own_deadline() -> None:
    endless = {state for state in State if rules.patience(POLICY, state) is None}
    assert endless == {State.READY, State.GONE, State.FAILED}


@pytest.mark.parametrize(
    ("state", "seconds"),
    [
        (State.BOOTING, 60),
        (State.DRAINING, 30),
        (State.ABORTED, rules.ABORT_PATIENCE),
        (State.KILLED, rules.KILL_PATIENCE),
    ],
)
def test_each_state_has_the_patience_that_was_set_for_it(state: State, seconds: float) -> None:
    assert rules.patience(POLICY, state) == seconds


# --- restart intensity


def _after(intensity: Intensity, *deaths: tuple[float, str, str]) -> Deaths:
    record = Deaths(intensity)
    for at, worker, how in deaths:
        record = record.after(at, worker, how)
    return record


def _at(intensity: Intensity, *times: float) -> Deaths:
    return _after(intensity, *((at, "web/0", "exited with code 3") for at in times))


def test_the_allowed_number_of_deaths_is_tolerated_and_one_more_is_not() -> None:
    five = Intensity(5, 10)
    assert not _at(five, 0, 0, 0, 0, 0).is_exceeded
    assert _at(five, 0, 0, 0, 0, 0, 0).is_exceeded


@pytest.mark.parametrize(("last", "is_exceeded"), [(9.9, True), (10.0, True), (10.1, False)])
def test_a_death_counts_for_the_seconds_given_the_ends_included(last: float, is_exceeded: bool) -> None:
    assert _at(Intensity(1, 10), 0, last).is_exceeded is is_exceeded


def test_there_are_no_deaths_at_first() -> None:
    assert not Deaths(Intensity(0, 10)).is_exceeded


def test_an_intensity_of_none_bears_no_death() -> None:
    assert _at(Intensity(0, 10), 5).is_exceeded


@given(
    restarts=st.integers(min_value=0, max_value=6),
    seconds=st.floats(min_value=0.001, max_value=100),
    pauses=st.lists(st.floats(min_value=0, max_value=60), max_size=60),
)
def test_it_is_exceeded_exactly_when_a_list_of_all_deaths_exceeds_it(
    restarts: int, seconds: float, pauses: list[float]
) -> None:
    record, now, everything = Deaths(Intensity(restarts, seconds)), 1000.0, list[float]()
    for pause in pauses:
        now += pause
        everything.append(now)
        record = record.after(now, "web/0", "died")
        assert record.is_exceeded is (sum(now - seconds <= at for at in everything) > restarts)
        assert len(record.last) <= restarts + 1


def test_the_record_has_a_bounded_size() -> None:
    record = Deaths(Intensity(3, 1e9))
    for number in range(1000):
        record = record.after(float(number), "web/0", "x" * 10_000)
    assert [len(death.how) for death in record.last] == [200] * 4


def test_the_last_line_has_the_limit_and_the_deaths_with_counts() -> None:
    record = _after(
        Intensity(2, 10),
        (1, "web/0", "exited with code 3"),
        (2, "web/0", "exited with code 3"),
        (3, "web/1", "killed by SIGSEGV"),
    )
    assert record.reasons == ("web/0 exited with code 3 (2x)", "web/1 killed by SIGSEGV")
    assert rules.last_words(record) == (
        "more than 2 worker deaths within 10 s: giving up; "
        "the last ones: web/0 exited with code 3 (2x), web/1 killed by SIGSEGV"
    )


def test_the_last_line_ends_with_the_newest_death() -> None:
    record = _after(Intensity(2, 0.5), (1, "web/0", "died"), (1, "web/1", "died"), (1, "web/0", "died"))
    assert rules.last_words(record).endswith("within 0.5 s: giving up; the last ones: web/1 died, web/0 died (2x)")


def test_the_last_line_stays_one_line_of_a_few_deaths() -> None:
    record = _after(Intensity(99, 10), *((1, f"web/{slot}", "could not\nstart") for slot in range(100)))
    text = rules.last_words(record)
    assert text.endswith("web/95 could not start, web/96 could not start, web/97 could not start, "
                         "web/98 could not start, web/99 could not start")  # fmt: skip
    assert "web/94" not in text
    assert "\n" not in text


def test_one_death_is_in_the_singular() -> None:
    assert rules.last_words(_at(Intensity(1, 60), 1, 2)).startswith("more than 1 worker death within 60 s")
