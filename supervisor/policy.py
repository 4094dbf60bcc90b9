"""How long things may take: back-off, deadlines, the kill ladder. Pure functions of their arguments."""

from __future__ import annotations

import dataclasses

from hybrid.supervisor.states import State

KILL_PATIENCE = 10.0
"""Seconds between SIGKILL and the conclusion that the kernel cannot end the process (uninterruptible sleep)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Policy:
    """The limits a supervisor works with; seconds unless said otherwise."""

    graceful_timeout: float = 30.0
    boot_timeout: float = 60.0
    backoff: float = 0.1
    backoff_max: float = 10.0
    healthy_after: float = 1.0
    boot_attempts: int = 5
    """Attempts per slot."""


def restart_delay(policy: Policy, failures: int) -> float:
    """Return the seconds to wait after the `failures`-th failure in a row: none after the first, then doubling.

    A single crash costs nothing; a crash loop soon costs next to nothing either.
    """
    if failures <= 1:
        return 0.0
    doublings = min(failures - 2, 64)  # 2.0 ** 1100 would overflow after some weeks of a crash loop
    delay: float = policy.backoff * 2.0**doublings
    return min(delay, policy.backoff_max)


def fork_delay(policy: Policy, failures: int) -> float:
    """Return the seconds to wait after the `failures`-th failure if it was fork(2) that failed.

    Never none: the kernel has just said that it has no room.
    """
    return restart_delay(policy, failures + 1)


def failures_after_death(policy: Policy, failures: int, served: float | None) -> int:
    """Return the count of failures in a row after a worker died that had been ready for `served` seconds (or never)."""
    if served is not None and served >= policy.healthy_after:
        return 1
    return failures + 1


def gives_up(policy: Policy, failures: int) -> bool:
    """Whether a slot that failed so often, before any worker was ready, is tried again no more."""
    return failures >= policy.boot_attempts


def patience(policy: Policy, state: State) -> float | None:
    """Return the seconds a child may stay in `state`; None: for ever."""
    match state:
        case State.BOOTING:
            return policy.boot_timeout
        case State.DRAINING:
            return policy.graceful_timeout
        case State.KILLED:
            return KILL_PATIENCE
        case _:
            return None
