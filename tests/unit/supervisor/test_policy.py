"""Back-off and deadlines, as numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.supervisor import policy as rules
from hybrid.supervisor.policy import Policy
from hybrid.supervisor.states import State

POLICY = Policy(graceful_timeout=30, boot_timeout=60, backoff=0.1, backoff_max=1.0, healthy_after=1.0, boot_attempts=5)


@pytest.mark.parametrize(
    ("failures", "delay"), [(0, 0), (1, 0), (2, 0.1), (3, 0.2), (4, 0.4), (5, 0.8), (6, 1.0), (7, 1.0)]
)
def test_the_first_restart_is_at_once_and_then_the_delay_doubles_to_its_limit(failures: int, delay: float) -> None:
    assert rules.restart_delay(POLICY, failures) == pytest.approx(delay)


@given(st.integers(min_value=0, max_value=10**9))
def test_no_number_of_failures_makes_the_delay_overflow_or_pass_its_limit(failures: int) -> None:
    assert 0 <= rules.restart_delay(POLICY, failures) <= POLICY.backoff_max


@given(st.integers(min_value=1, max_value=100))
def test_a_failed_fork_is_never_repeated_at_once(failures: int) -> None:
    assert rules.fork_delay(POLICY, failures) >= POLICY.backoff


@pytest.mark.parametrize(("served", "failures"), [(None, 4), (0.0, 4), (0.99, 4), (1.0, 1), (500.0, 1)])
def test_a_worker_that_served_well_for_a_while_has_no_history(served: float | None, failures: int) -> None:
    assert rules.failures_after_death(POLICY, 3, served) == failures


@pytest.mark.parametrize(("failures", "gives_up"), [(4, False), (5, True), (6, True)])
def test_a_start_is_given_up_after_so_many_attempts(failures: int, gives_up: bool) -> None:
    assert rules.gives_up(POLICY, failures) is gives_up


def test_only_who_serves_or_is_gone_or_about_to_exit_has_no_deadline_of_its_own() -> None:
    endless = {state for state in State if rules.patience(POLICY, state) is None}
    assert endless == {State.READY, State.GONE, State.FAILED}


@pytest.mark.parametrize(
    ("state", "seconds"), [(State.BOOTING, 60), (State.DRAINING, 30), (State.KILLED, rules.KILL_PATIENCE)]
)
def test_each_state_has_the_patience_that_was_set_for_it(state: State, seconds: float) -> None:
    assert rules.patience(POLICY, state) == seconds
