"""The decisions of the supervisor: `step(event, now) -> actions`.

Sans-IO: it never waits, never loops, reads no clock and touches no process. It is the sole writer of its table. A
caller feeds every event in the order it was seen, performs the actions in order, and comes back no later than
`deadline()`.
"""

from __future__ import annotations

import enum

from hybrid.supervisor import events as ev
from hybrid.supervisor import policy as rules
from hybrid.supervisor import rollout
from hybrid.supervisor.events import Level
from hybrid.supervisor.policy import Policy
from hybrid.supervisor.states import KILLABLE, SEATED, News, State
from hybrid.supervisor.status import WorkerStatus
from hybrid.supervisor.table import Child, Table
from hybrid.workers.contract.exits import Exit

MAX_WORKERS = 1024
"""A steering program has two instructions per slot, and 4096 are allowed (linux/bpf_common.h)."""


class Phase(enum.Enum):
    """How far the supervisor is in its life."""

    NEW = "new"
    """Nothing was started yet."""
    STARTING = "starting"
    """No worker was ready yet: failures are likely to be the configuration's, and end the start."""
    SERVING = "serving"
    """At least one worker was ready: failures are met with patience."""
    STOPPING = "stopping"
    """All workers are to leave."""
    ENDED = "ended"
    """`Finish` was said."""


_LAST_HANDSHAKES = 0.25
"""Seconds in which handshakes that were under way at a stop are completed: workers serve what they find queued."""
_OVER = frozenset({Phase.STOPPING, Phase.ENDED})
_BEFORE_SERVING = frozenset({Phase.NEW, Phase.STARTING})


class Machine:
    """The supervisor's mind. All methods return at once."""

    def __init__(self, policy: Policy, workers: int) -> None:
        self._policy = policy
        self._table = Table(workers)
        self._phase = Phase.NEW
        self._actions: list[ev.Action] = []  # of the step under way
        self._steered = rollout.receiving(self._table)  # the slots that get new connections, as last said
        self._announced = False  # whether "serving with N workers" was said
        self._complaint: str | None = None  # the newest reason for a failed boot, not said twice in a row
        self._verdict: Exit | None = None  # why the start failed
        self._in_haste = False  # a stop at once was asked for
        self._killed = False  # a worker was killed while stopping
        self._refuses_at: float | None = None  # when new connections are refused; None: not yet known, or done

    # --- questions

    @property
    def phase(self) -> Phase:
        """How far the supervisor is in its life."""
        return self._phase

    @property
    def has_started(self) -> bool:
        """Whether there was a moment when every slot was served."""
        return self._announced

    def is_settled(self) -> bool:
        """Whether every wanted slot is served and no other child is left."""
        return self._phase is Phase.SERVING and rollout.is_settled(self._table)

    def deadline(self) -> float | None:
        """Return when `step` must be called with `Tick` at the latest; None: only when something happens."""
        if self._phase in (Phase.NEW, Phase.ENDED):
            return None
        deadlines = (self._table.next_deadline(), self._refuses_at)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def workers(self, now: float) -> tuple[WorkerStatus, ...]:
        """Return a snapshot of all workers and of the slots that wait for one, in order of slots."""
        rows = [self._describe(child, now) for child in self._table.children()]
        for slot in self._table.vacant():
            rows.append(WorkerStatus(slot.index, self._table.generation, None, "waiting", None, slot.restarts))
        return tuple(sorted(rows, key=lambda row: (row.slot, row.pid or 0)))

    def _describe(self, child: Child, now: float) -> WorkerStatus:
        ready = child.served(now) if child.state is State.READY else None
        restarts = self._table.slot(child.slot).restarts
        return WorkerStatus(child.slot, child.generation, child.pid, child.state.value, ready, restarts)

    # --- the step

    def step(self, event: ev.Event, now: float) -> list[ev.Action]:
        """Take in `event`, seen at `now` (monotonic seconds), and return what to do, in order."""
        if self._phase is Phase.ENDED:
            return []
        self._actions = []
        self._dispatch(event, now)
        self._pursue(now)
        return self._actions

    def _dispatch(self, event: ev.Event, now: float) -> None:
        match event:
            case ev.Started():
                self._phase = Phase.STARTING if self._phase is Phase.NEW else self._phase
            case ev.Spawned(slot, pid):
                self._on_spawned(slot, pid, now)
            case ev.ForkFailed(slot, reason):
                self._on_fork_failed(slot, reason, now)
            case ev.WorkerReady(pid):
                self._on_ready(pid, now)
            case ev.WorkerDraining(pid):
                self._on_draining(pid, now)
            case ev.WorkerFailed(pid, code, reason):
                self._on_failed(pid, code, reason)
            case ev.Exited(pid, how):
                self._on_exited(pid, how, now)
            case ev.Tick():
                for child in self._table.overdue(now):
                    self._on_overdue(child, now)
                if self._refuses_at is not None and now >= self._refuses_at:
                    self._refuses_at = None
                    self._actions.append(ev.RefuseConnections())
            case ev.ScaleAsked(workers):
                self._scale(workers)
            case ev.ScaleByAsked(step):
                self._scale(len(self._table.wanted) + step)
            case ev.StopAsked(graceful):
                self._stop(graceful, now)
            case ev.Interrupted():
                self._stop(self._phase is not Phase.STOPPING, now)
            case ev.ReloadAsked():
                self._say(Level.WARNING, "reload is not available yet: restart the service to load new code")

    def _pursue(self, now: float) -> None:
        """Take the next steps towards what is wanted."""
        if self._phase is Phase.NEW:
            return
        plan = rollout.plan(self._table, now)
        retired = [self._retire(child, now) for child in plan.retire]
        self._steer()  # before the signals: a retiring worker serves what its queue holds, and nothing may follow
        self._announce()  # what is said to serve gets connections
        if self._in_haste:
            self._kill_leaving(now)
        else:
            self._actions += retired
        for slot in plan.start:
            self._table.reserve(slot)
            self._actions.append(ev.Fork(slot, self._table.generation))
        if self._phase is Phase.STOPPING and self._table.is_empty():
            self._finish()

    # --- children

    def _on_spawned(self, slot: int, pid: int, now: float) -> None:
        deadline = self._due(State.BOOTING, now)
        self._table.seat(Child(pid, slot, self._table.generation, State.BOOTING, born=now, deadline=deadline))

    def _on_fork_failed(self, slot: int, reason: str, now: float) -> None:
        failures = self._table.slot(slot).failures + 1
        delay = rules.fork_delay(self._policy, failures)
        self._table.miss(slot, failures, now + delay)
        if self._phase in _OVER or slot not in self._table.wanted:
            return
        if not self._gave_up(failures, f"cannot fork: {reason}"):
            self._say(Level.WARNING, f"cannot fork a worker: {reason}; trying again in {delay:.1f} s", slot=slot)

    def _on_ready(self, pid: int, now: float) -> None:
        child = self._table.child(pid)
        if child is None or child.state is not State.BOOTING:
            return  # too late: it is leaving
        self._table.move(pid, News.READY, None, ready_at=now)
        self._complaint = None
        self._phase = Phase.SERVING if self._phase in _BEFORE_SERVING else self._phase

    def _on_draining(self, pid: int, now: float) -> None:
        """Let a successor take the slot of a worker that leaves without being asked."""
        child = self._table.child(pid)
        if child is None or child.state is not State.READY:
            return
        self._table.move(pid, News.DRAIN, self._due(State.DRAINING, now))
        self._say_of(child, Level.WARNING, "worker was told to drain by somebody else; starting its successor")

    def _on_failed(self, pid: int, code: int, reason: str) -> None:
        child = self._table.child(pid)
        if child is None or child.state is not State.BOOTING:
            return
        self._table.move(pid, News.FAILED, child.deadline)
        self._table.blame(pid, reason)
        if self._phase is Phase.STARTING:
            self._fail_start(_exit_of(code), reason)

    def _on_exited(self, pid: int, how: ev.How, now: float) -> None:
        child = self._table.child(pid)
        if child is None:
            return
        self._table.remove(pid)
        if child.state in SEATED:
            self._succeed(child, f"{how} after {now - child.born:.1f} s", now)
        elif child.state is State.DRAINING:
            self._on_drained(child, how, now)

    def _on_drained(self, child: Child, how: ev.How, now: float) -> None:
        if self._verdict is not None:
            return  # the reason was said, and its siblings leave for the same
        untimely = how.code != 0 and not (child.ready_at is None and how.signal == "SIGTERM")
        if untimely:
            self._say_of(child, Level.WARNING, f"worker died while draining: {how} after {now - child.born:.1f} s")
        elif self._phase is Phase.SERVING:
            self._say_of(child, Level.INFO, "worker retired")

    def _on_overdue(self, child: Child, now: float) -> None:
        match child.state:
            case State.BOOTING | State.FAILED:
                self._kill(child, now)
                self._succeed(child, f"not ready after {self._policy.boot_timeout:g} s and killed", now)
            case State.DRAINING:
                limit = f"after {self._policy.graceful_timeout:g} s"
                self._say_of(child, Level.WARNING, f"worker still not drained {limit}: killing it")
                self._kill(child, now)
            case _:
                self._insist(child, now)

    def _insist(self, child: Child, now: float) -> None:
        """Deal with a child that has outlived its SIGKILL: the kernel holds it, in uninterruptible sleep as a rule."""
        if self._phase is Phase.STOPPING:
            self._say_of(child, Level.ERROR, "worker cannot be killed: leaving it behind")
            self._table.remove(child.pid)
        else:
            self._say_of(child, Level.ERROR, "worker cannot be killed: trying again")
            self._kill(child, now)

    def _succeed(self, child: Child, how: str, now: float) -> None:
        """Book the death of a seated child and decide when its successor starts."""
        failures = rules.failures_after_death(self._policy, self._table.slot(child.slot).failures, child.served(now))
        delay = rules.restart_delay(self._policy, failures)
        self._table.lose(child.slot, failures, now + delay)
        if self._phase is Phase.STARTING and self._gave_up(failures, how):
            return
        when = f"restarting in {delay:.1f} s" if delay else "restarting now"
        if child.failure is None:
            self._say_of(child, Level.WARNING, f"worker died: {how}; {when}")
        elif child.failure != self._complaint:
            self._complaint = child.failure
            self._say_of(child, Level.ERROR, f"worker cannot start, {when}: {child.failure}")

    def _gave_up(self, failures: int, how: str) -> bool:
        if self._phase is not Phase.STARTING or not rules.gives_up(self._policy, failures):
            return False
        self._fail_start(Exit.BOOT, f"no worker became ready in {failures} attempts; the last one: {how}")
        return True

    # --- wishes

    def _scale(self, workers: int) -> None:
        before = len(self._table.wanted)
        if self._phase in _OVER:
            self._say(Level.WARNING, "stopping: the number of workers stays as it is")
        elif not 1 <= workers <= MAX_WORKERS:
            self._say(Level.WARNING, f"not scaling to {workers}: the number of workers is 1 to {MAX_WORKERS}")
        elif workers != before:
            self._say(Level.INFO, f"scaling from {before} to {_count(workers)}")
            for slot in range(before, workers):
                self._table.pardon(slot)
            self._table.want(workers)

    def _stop(self, graceful: bool, now: float) -> None:
        if graceful and self._phase is Phase.STOPPING:
            return
        alive = sum(child.state in KILLABLE for child in self._table.children())
        if self._phase is not Phase.STOPPING or not self._in_haste:
            limit = f"{self._policy.graceful_timeout:g}"
            hint = f"draining {_count(alive)} (at most {limit} s); press Ctrl-C again to end at once"
            self._say(Level.INFO, f"stopping: {hint}" if graceful else f"stopping at once: killing {_count(alive)}")
        if graceful and alive:
            self._actions.append(ev.HoldConnections())
            self._refuses_at = now + _LAST_HANDSHAKES
        self._in_haste = not graceful
        self._phase = Phase.STOPPING
        self._table.want(0)

    def _fail_start(self, code: Exit, reason: str) -> None:
        self._verdict = code
        self._say(Level.ERROR, reason)
        self._phase = Phase.STOPPING
        self._table.want(0)

    def _finish(self) -> None:
        code = self._verdict or (Exit.KILLED if self._killed else Exit.OK)
        if self._verdict is None:
            self._say(Level.INFO, "stopped")
        self._phase = Phase.ENDED
        self._actions.append(ev.Finish(code))

    # --- means

    def _retire(self, child: Child, now: float) -> ev.Action:
        self._table.move(child.pid, News.DRAIN, self._due(State.DRAINING, now))
        return ev.Drain(child.pid)

    def _kill_leaving(self, now: float) -> None:
        for child in self._table.leaving():
            if child.state in KILLABLE:
                self._kill(child, now)

    def _kill(self, child: Child, now: float) -> None:
        self._table.move(child.pid, News.KILL, self._due(State.KILLED, now))
        self._killed = self._killed or self._phase is Phase.STOPPING
        self._actions.append(ev.Kill(child.pid))

    def _announce(self) -> None:
        if not self._announced and self._phase is Phase.SERVING and rollout.is_complete(self._table):
            self._announced = True
            self._say(Level.INFO, f"serving with {_count(len(self._table.wanted))}")

    def _steer(self) -> None:
        slots = rollout.receiving(self._table)
        if self._phase is not Phase.STOPPING and slots != self._steered:
            self._steered = slots
            self._actions.append(ev.Steer(slots))

    def _due(self, state: State, now: float) -> float | None:
        patience = rules.patience(self._policy, state)
        return None if patience is None else now + patience

    def _say(self, level: Level, text: str, slot: int | None = None) -> None:
        self._actions.append(ev.Report(level, text, slot, None if slot is None else self._table.generation))

    def _say_of(self, child: Child, level: Level, text: str) -> None:
        self._actions.append(ev.Report(level, text, child.slot, child.generation, child.pid))


def _count(workers: int) -> str:
    return "1 worker" if workers == 1 else f"{workers} workers"


def _exit_of(code: int) -> Exit:
    """Return the exit code a worker named; an unknown one is its bug, and so an error without a name."""
    try:
        return Exit(code) or Exit.ERROR
    except ValueError:
        return Exit.ERROR
