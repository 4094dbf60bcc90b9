"""Time limits and failure limits: back-off, deadlines, the kill ladder, restart intensity.

Pure functions of their arguments, and frozen values.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
from typing import Self

from hybrid.supervisor.core.states import State
from hybrid.workers.contract.records import record

KILL_PATIENCE = 10.0
"""Seconds after SIGKILL until the process counts as unkillable (uninterruptible sleep)."""
ABORT_PATIENCE = 2.0
"""Seconds from the stack dump of a hanging process, which SIGABRT follows, to SIGKILL."""
MOST_ORDERS = 4
"""Forks ordered from a zygote at a time: it forks them one after another, and each has a deadline."""
FORK_PATIENCE = 10.0
"""Seconds for a zygote to fork a worker; it does nothing else."""


class Restart(enum.Enum):
    """When a worker that has ended gets a successor, as in OTP's supervisor."""

    PERMANENT = "permanent"
    """Always."""
    TRANSIENT = "transient"
    """Unless it ended with exit code 0."""
    TEMPORARY = "temporary"
    """Never."""


@record(frozen=True, slots=True)
class Policy:
    """The limits of a supervisor; seconds unless said otherwise."""

    graceful_timeout: float = 30.0
    boot_timeout: float = 60.0
    backoff: float = 0.1
    backoff_max: float = 10.0
    healthy_after: float = 1.0
    boot_attempts: int = 5
    """Attempts per slot."""
    surge: int = 1
    """The maximum number of successors that start at a time."""
    avoids_stalled: bool = True
    """True if a stalled worker gets no new connections."""
    stall_report: float = 1.0
    """0: stalls are not reported."""
    stall_timeout: float = 0.0
    """0: a stalled worker is never killed."""
    upgrade_timeout: float = 150.0
    reforks: bool = False
    """True if workers that are refork ready become zygotes."""
    intensity: Intensity | None = None
    """How many worker deaths end the service; None: no limit."""
    restart: Restart = Restart.PERMANENT
    """Which workers that have ended get a successor."""
    ending_signal: str = ""
    """The signal by which a worker may end when it is told to drain, besides exit code 0; empty: none."""
    overlaps: bool = True
    """True if a worker's successor starts while it still serves; otherwise once it has ended."""


def restart_delay(policy: Policy, failures: int) -> float:
    """Return the seconds to wait after the `failures`-th failure in a row: none after the first, then doubling.

    A single crash causes no delay, and a crash loop soon costs little CPU time.
    """
    if failures <= 1:
        return 0.0
    doublings = min(failures - 2, 64)  # 2.0 ** 1100 would overflow after some weeks of a crash loop
    delay: float = policy.backoff * 2.0**doublings
    return min(delay, policy.backoff_max)


def fork_delay(policy: Policy, failures: int) -> float:
    """Return the seconds to wait after the `failures`-th failure of fork(2).

    Always more than 0: the kernel has just reported a lack of resources.
    """
    return restart_delay(policy, failures + 1)


def failures_after_death(policy: Policy, failures: int, served: float | None) -> int:
    """Return the failures in a row after the death of a worker that was ready for `served` seconds (None: never)."""
    if served is not None and served >= policy.healthy_after:
        return 1
    return failures + 1


def gives_up(policy: Policy, failures: int) -> bool:
    """Return True if a slot that failed this often, before any worker was ready, is given up."""
    return failures >= policy.boot_attempts


def stays_ended(policy: Policy, code: int | None) -> bool:
    """Return True if a worker that has ended with exit code `code` (None: by a signal) gets no successor."""
    return policy.restart is Restart.TEMPORARY or (policy.restart is Restart.TRANSIENT and code == 0)


def patience(policy: Policy, state: State) -> float | None:
    """Return the seconds a child may stay in `state`; None: no limit."""
    match state:
        case State.BOOTING:
            return policy.boot_timeout
        case State.DRAINING:
            return policy.graceful_timeout
        case State.ABORTED:
            return ABORT_PATIENCE
        case State.KILLED:
            return KILL_PATIENCE
        case _:
            return None


# --- restart intensity --------------------------------------------------------------------------------------------

_LONGEST_REASON = 200  # characters kept of the reason of a death
_TOLD = 5  # different deaths named in the last log line


@record(frozen=True, slots=True)
class Intensity:
    """Allow at most `restarts` restarts within `seconds`, over all slots, as in OTP's supervisor."""

    restarts: int
    """0: none."""
    seconds: float


@record(frozen=True, slots=True)
class Death:
    """A death that requires a restart."""

    at: float
    """Monotonic seconds."""
    worker: str
    """The worker, e.g. `web/0`."""
    how: str
    """E.g. `exited with code 3`."""

    def __str__(self) -> str:
        return f"{self.worker} {self.how}"


@record(frozen=True, slots=True)
class Deaths:
    """The deaths that count towards an intensity: those within its seconds before the newest, and no more than needed.

    The rule is `add_restart` in OTP's supervisor.erl, with fractions of seconds.
    """

    intensity: Intensity
    last: tuple[Death, ...] = ()
    """The oldest first; at most one more than the intensity allows."""

    def after(self, at: float, worker: str, how: str) -> Self:
        """Return the record after a further death, at `at` (monotonic seconds)."""
        recent = [death for death in self.last if death.at >= at - self.intensity.seconds]
        recent.append(Death(at, worker, " ".join(how.split())[:_LONGEST_REASON]))
        return dataclasses.replace(self, last=tuple(recent[-self.intensity.restarts - 1 :]))

    @property
    def is_exceeded(self) -> bool:
        """True if the newest death was one too many: more than `restarts` within `seconds`, both ends included."""
        return len(self.last) > self.intensity.restarts

    @property
    def reasons(self) -> tuple[str, ...]:
        """Each different death once, with its count, ordered by its newest occurrence."""
        counts = collections.Counter(str(death) for death in self.last)
        newest_first = dict.fromkeys(str(death) for death in reversed(self.last))
        return tuple(_times(reason, counts[reason]) for reason in reversed(newest_first))


def last_words(deaths: Deaths) -> str:
    """Return the line for the log when an intensity is exceeded: the limit, and the last deaths with their reasons."""
    allowed = deaths.intensity.restarts
    count = "1 worker death" if allowed == 1 else f"{allowed} worker deaths"
    reasons = ", ".join(deaths.reasons[-_TOLD:])
    return f"more than {count} within {deaths.intensity.seconds:g} s: giving up; the last ones: {reasons}"


def _times(reason: str, count: int) -> str:
    return reason if count == 1 else f"{reason} ({count}x)"
