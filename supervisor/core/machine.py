"""The decisions of the supervisor: `step(event, now) -> actions`.

Sans-IO: it never waits, never loops, reads no clock and touches no process. Only the machine and its parts write to
their table. The caller feeds every event in order, performs the actions in order, and calls again no later than
`deadline()`.

    lives        a worker, fork to death         generations  zygotes and reloads
    stalls       stalled loops                   upgrades     another supervisor
    promotion    warm workers become zygotes     ending       the stop, until new connections are refused
    rollout      the workers to start and to retire
    reasons      why a worker is started
"""

from __future__ import annotations

from typing import assert_never

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core import policy as rules
from hybrid.supervisor.core import rollout
from hybrid.supervisor.core.base import OVER, Core, Phase, count_of
from hybrid.supervisor.core.ending import Ending
from hybrid.supervisor.core.events import Level
from hybrid.supervisor.core.generations import Generations
from hybrid.supervisor.core.lives import Lives, exit_of
from hybrid.supervisor.core.policy import Policy
from hybrid.supervisor.core.promotion import Promotion
from hybrid.supervisor.core.reasons import note_retired, reason_to_start
from hybrid.supervisor.core.roles import MAX_WORKERS, ZYGOTE, Roster
from hybrid.supervisor.core.stalls import Stalls
from hybrid.supervisor.core.states import Reason
from hybrid.supervisor.core.status import WorkerStatus, companion_rows, worker_rows
from hybrid.supervisor.core.table import NEVER, Child, Fork
from hybrid.supervisor.core.upgrades import Upgrades
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import BootFailed, Broken, Draining, Ready, RecycleDue, ReforkReady, Unfit, Warm

__all__ = ["MAX_WORKERS", "Machine", "Phase"]


class Machine:
    """Makes the decisions of a supervisor. All methods return at once."""

    def __init__(
        self,
        policy: Policy,
        workers: int,
        *,
        preload: bool = False,
        roster: Roster | None = None,
        companions: tuple[int, ...] = (),
    ) -> None:
        """`preload`: True if zygotes import the application. `companions`: slots that `roster` has given."""
        self._core = Core(policy, workers, Roster() if roster is None else roster, companions)
        self._table = self._core.table
        self._generations = Generations(self._core, preload=preload)
        self._lives = Lives(self._core, self._generations)
        self._stalls = Stalls(self._core, self._lives)
        self._upgrades = Upgrades(self._core)
        self._promotion = Promotion(self._core, self._generations)
        self._ending = Ending(self._core)
        self._steered = self._receiving()  # where new connections and datagrams go, by the last action
        self._announced = False  # True once "serving with N workers" was reported
        self._now = NEVER  # time of the newest step
        self.edition = 0
        """Grows with each step: while it stays, all questions without a time have the same answers."""
        self._deadline: tuple[int, float | None] = (-1, None)  # the edition of which it is, and the deadline

    # --- questions

    @property
    def phase(self) -> Phase:
        """The phase of the supervisor's life."""
        return self._core.phase

    @property
    def verdict(self) -> Exit | None:
        """The exit code, if the service ends because of a failure."""
        return self._core.verdict

    @property
    def has_started(self) -> bool:
        """True once every slot has been served at one time."""
        return self._announced

    @property
    def is_reloading(self) -> bool:
        """True while a new generation is tried out, or replaces the workers of others."""
        return self._generations.is_reloading

    @property
    def wanted(self) -> int:
        """The number of wanted workers."""
        return len(self._table.wanted)

    @property
    def slots(self) -> tuple[int, ...]:
        """The slots that should have a child: of workers, then of companions."""
        return (*self._table.wanted, *self._table.companions)

    def replacement(self, slot: int, since: float) -> int | None:
        """Return the pid of the child that is ready in a slot and needs no replacement, if it is so since `since`.

        It may have been forked before: one that was starting then is as new as any.
        """
        for child in (*self._table.serving(), *self._table.attending()):
            is_new = child.ready_at is not None and child.ready_at >= since
            if child.slot == slot and is_new and not rollout.is_outdated(self._table, child):
                return child.pid
        return None

    @property
    def ready(self) -> int:
        """The number of slots with a ready worker."""
        return len(self._table.ready_slots())

    @property
    def up_to_date(self) -> int:
        """The number of slots with a ready worker that needs no replacement; 0 while a generation is tried out."""
        table = self._table
        if table.next is not None:
            return 0
        return len({child.slot for child in table.serving() if not rollout.is_outdated(table, child)})

    @property
    def generation(self) -> int:
        """The generation that serves."""
        return self._table.generation

    @property
    def next_generation(self) -> int:
        """The number that the next generation will have."""
        return self._table.newest + 1

    @property
    def living(self) -> int:
        """The number of children."""
        return len(list(self._table.children()))

    @property
    def has_successor(self) -> bool:
        """True if another supervisor has taken over."""
        return self._upgrades.has_successor

    @property
    def is_upgrading(self) -> bool:
        """True while a successor is starting, or is about to."""
        return self._upgrades.is_upgrading

    def is_settled(self) -> bool:
        """Return True if every wanted slot has an up-to-date worker, and no other worker is left."""
        return self._core.phase is Phase.SERVING and rollout.is_settled(self._table)

    def has_turned_since(self, moment: float) -> bool:
        """Return True if the loop of a serving worker has begun a turn, or waited, after `moment` (seconds)."""
        stalls = [child.stalled_since for child in self._table.serving()]
        return any(since is None or since > moment for since in stalls)

    def serving(self) -> tuple[int, ...]:
        """Return the pids of the ready workers: their loops should turn."""
        return tuple(child.pid for child in self._table.serving())

    def turning(self) -> tuple[int, ...]:
        """Return the pids of the ready workers whose loops are not known to stand still."""
        return tuple(child.pid for child in self._table.serving() if child.stalled_since is None)

    def attending(self, *, turning: bool = False) -> tuple[int, ...]:
        """Return the pids of the ready companions; `turning`: of those whose loops are not known to stand still."""
        return tuple(child.pid for child in self._table.attending() if not turning or child.stalled_since is None)

    @property
    def steering(self) -> ev.Steer:
        """Where new connections and datagrams should go, by the last action."""
        return self._steered

    def reason(self, pid: int) -> Reason | None:
        """Return why a worker or a companion was forked; None for a child that is not known."""
        child = self._table.child(pid)
        return None if child is None else child.reason

    def summary(self) -> str:
        """Return a summary of one line."""
        ready, wanted = len(self._table.ready_slots()), len(self._table.wanted)
        return f"{ready} of {count_of(wanted)} ready, generation {self._table.generation}"

    def deadline(self) -> float | None:
        """Return when `step` must be called with `Tick` at the latest; None: only with the next event."""
        if self._deadline[0] != self.edition:
            self._deadline = (self.edition, self._next_deadline())
        return self._deadline[1]

    def _next_deadline(self) -> float | None:
        if self._core.phase in (Phase.NEW, Phase.ENDED):
            return None
        deadlines = (
            self._table.next_deadline(),
            rollout.next_start(self._table, self._now),
            self._generations.next_start(),
            self._stalls.next_deadline(),
            self._upgrades.next_deadline(),
            self._ending.next_deadline(),
        )
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def workers(self, now: float) -> tuple[WorkerStatus, ...]:
        """Return a snapshot of all workers and of the slots that wait for one, in order of slots."""
        return worker_rows(self._table, now)

    def companions(self, now: float) -> tuple[WorkerStatus, ...]:
        """Return a snapshot of all companions and of the slots that wait for one, in order of slots."""
        return companion_rows(self._table, now)

    def refit(self, policy: Policy, companions: tuple[int, ...] = ()) -> None:
        """Use other limits from now on, and have these companions from the next generation on."""
        self.edition += 1
        self._core.policy = policy
        self._table.enroll(companions, self.next_generation)
        self._lives.refit()

    # --- the step

    def step(self, event: ev.Event, now: float) -> list[ev.Action]:
        """Handle `event`, seen at `now` (monotonic seconds); return the actions in order."""
        if self._core.phase is Phase.ENDED:
            return []
        self.edition += 1
        self._core.actions = []
        self._now = now
        self._dispatch(event, now)
        self._pursue(now)
        return self._core.actions

    def _dispatch(self, event: ev.Event, now: float) -> None:
        """Give an event to the part that handles it."""
        core = self._core
        if isinstance(event, ev.ChildEvent):
            self._on_child(event, now)
        elif isinstance(event, ev.Wish):
            self._on_wish(event, now)
        elif isinstance(event, ev.SuccessorEvent):
            self._on_successor(event)
        else:
            match event:
                case ev.Started():
                    core.phase = Phase.STARTING if core.phase is Phase.NEW else core.phase
                case ev.Tick():
                    self._on_tick(now)
                case ev.QueuesChecked(waiting):
                    self._ending.on_checked(waiting=waiting)
                case ev.SlotsInherited(slots):
                    self._table.inherit(slots)
                case _:
                    assert_never(event)

    def _on_tick(self, now: float) -> None:
        for child in self._table.overdue(now):
            if child.is_zygote:
                self._generations.on_zygote_overdue(child, now)
            else:
                self._lives.on_overdue(child, now)
        for slot in self._table.overdue_forks(now):
            self._on_overdue_fork(slot.index, slot.fork, now)
        self._stalls.on_tick(now)
        self._upgrades.on_tick(now)
        self._ending.on_tick(now)

    def _pursue(self, now: float) -> None:
        """Take the next steps towards the wanted state."""
        core = self._core
        if core.phase is Phase.NEW:
            return
        if core.phase is Phase.SERVING and len(self._table.done()) == len(self._table.wanted):
            core.phase = Phase.STOPPING  # the last worker has ended for good
            self._table.want(0)
        if core.phase is Phase.STOPPING:
            self._upgrades.give_up()
        self._ending.pursue(now, has_successor=self._upgrades.has_successor)
        self._upgrades.pursue()  # before another worker is forked
        self._generations.pursue(now)
        self._promotion.pursue()
        plan = self._plan(now)
        retired = [self._retire(child, now) for child in plan.retire]
        plan = self._plan(now) if retired else plan  # fill the vacated slots in this step
        self._steer()  # before the signals: a retiring worker serves its queue, and gets nothing more
        self._announce()  # after steering: an announced service gets connections
        if self._ending.in_haste:
            self._ending.kill_leaving(now)
        else:
            core.actions += retired
        self._adopt()
        for start in plan.start:
            zygote = self._generations.zygote_of(start.generation)
            if zygote is not None and (self._upgrades.is_held or self._table.orders_of(zygote) >= rules.MOST_ORDERS):
                continue  # planned again after the next fork
            reason = reason_to_start(self._table, start.slot, start.generation, self._generations.reason_of)
            self._table.reserve(start.slot, Fork(start.generation, now + rules.FORK_PATIENCE, zygote, reason))
            core.do(ev.Fork(start.slot, start.generation, zygote))
        self._generations.conclude()
        if core.phase is Phase.STOPPING and self._table.is_empty():
            self._finish()

    def _retire(self, child: Child, now: float) -> ev.Action:
        action = self._promotion.retire(child, now)
        note_retired(self._table, child, self._generations.reason_of)
        return action

    def _plan(self, now: float) -> rollout.Plan:
        policy, readiness = self._core.policy, self._generations.readiness()
        return rollout.plan(self._table, now, surge=policy.surge, readiness=readiness, overlaps=policy.overlaps)

    # --- children

    def _on_child(self, event: ev.ChildEvent, now: float) -> None:
        match event:
            case ev.Spawned(slot, pid):
                (self._generations.on_spawned(pid, now) if slot == ZYGOTE else self._lives.on_spawned(slot, pid, now))
            case ev.ForkFailed(slot, reason):
                self._on_fork_failed(slot, reason, now)
            case ev.ChildSaid(pid, message):
                self._on_said(pid, message, now)
            case ev.Stalled() | ev.Recovered():
                self._stalls.on_news(event, now)
            case ev.Looked(news):
                for item in news:
                    self._stalls.on_news(item, now)
            case ev.CompanionsAsked(slots):
                self._table.attend(slots)
            case ev.CallOverdue(pid, name):
                self._lives.on_call_overdue(pid, name, now)
            case ev.Exited(pid, how):
                self._on_exited(pid, how, now)
            case _:
                assert_never(event)

    def _on_said(self, pid: int, message: ev.ChildMessage, now: float) -> None:
        match message:
            case Ready():
                self._lives.on_ready(pid, now)
            case Draining():
                self._lives.on_draining(pid, now)
            case Broken(why):
                self._lives.on_broken(pid, why, now)
            case BootFailed(code, reason):
                self._on_failed(pid, exit_of(code), reason)
            case RecycleDue(why):
                self._lives.on_recycle_due(pid, why)
            case ReforkReady():
                self._promotion.on_refork_ready(pid)
            case Warm():  # a zygote, or a worker that became one
                if not self._promotion.on_warm(pid, now):
                    self._generations.on_warm(pid, now)
            case Unfit(findings):
                if not self._promotion.on_unfit(pid, findings):
                    self._generations.on_unfit(pid, findings, now)
            case _:
                assert_never(message)

    def _on_fork_failed(self, slot: int, reason: str, now: float) -> None:
        if slot == ZYGOTE:
            self._generations.on_fork_failed(reason, now)
        else:
            self._lives.on_fork_failed(slot, reason, now)

    def _on_failed(self, pid: int, code: Exit, reason: str) -> None:
        child = self._table.child(pid)
        if child is not None and child.is_zygote:
            self._generations.on_zygote_failed(child, code, reason)
        elif child is not None:
            self._lives.on_failed(child, code, reason)

    def _on_exited(self, pid: int, how: ev.How, now: float) -> None:
        child = self._table.child(pid)
        if child is not None and child.is_zygote:
            self._generations.on_zygote_exited(child, how, now)
        elif child is not None and self._promotion.on_exited(child, how):
            self._table.remove(pid)
        elif child is not None:
            self._lives.on_exited(child, how, now)

    def _on_overdue_fork(self, slot: int, fork: Fork | None, now: float) -> None:
        """Handle a zygote that does not answer: it hangs, and may or may not have forked the worker."""
        self._core.do(ev.CallOff(slot))
        self._on_fork_failed(slot, "its zygote does not answer", now)
        zygote = None if fork is None or fork.zygote is None else self._table.child(fork.zygote)
        if zygote is not None and zygote.is_zygote:
            self._generations.on_mute(zygote, now)

    # --- wishes, and another supervisor

    def _on_wish(self, wish: ev.Wish, now: float) -> None:
        match wish:
            case ev.ScaleAsked(workers):
                self._scale(workers)
            case ev.ScaleByAsked(step):
                self._scale(len(self._table.wanted) + step)
            case ev.StopAsked(graceful):
                self._ending.on_asked(graceful=graceful)
            case ev.Interrupted():
                self._ending.on_asked(graceful=self._core.phase is not Phase.STOPPING, interrupted=True)
            case ev.ReloadAsked():
                self._generations.on_reload_asked()
            case ev.UpgradeAsked():
                self._upgrades.on_asked(now)
            case ev.RestartAsked(slot):
                self._restart(slot)
            case _:
                assert_never(wish)

    def _on_successor(self, event: ev.SuccessorEvent) -> None:
        match event:
            case ev.SuccessorStarted(pid):
                self._upgrades.on_started(pid)
            case ev.SuccessorServes():
                self._upgrades.on_serves()
            case ev.SuccessorFailed(reason):
                self._upgrades.on_failed(reason)
            case _:
                assert_never(event)

    def _restart(self, slot: int) -> None:
        """Replace the ready child of a slot, or start one if it has ended for good, and forgive its failures."""
        if self._table.slot(slot).is_done:
            self._table.expect(slot, Reason.RESTART)
        self._table.reopen(slot)
        for child in (*self._table.serving(), *self._table.attending()):
            if child.slot == slot and child.recycle_reason is None:
                self._table.set_recycle_reason(child.pid, "was asked to restart", Reason.RESTART)
                self._core.say_of(child, Level.INFO, "restart asked for: starting its successor")

    def _scale(self, workers: int) -> None:
        before = len(self._table.wanted)
        if self._core.phase in OVER:
            self._core.say(Level.WARNING, "stopping: the number of workers stays as it is")
        elif not 1 <= workers <= MAX_WORKERS:
            self._core.say(Level.WARNING, f"not scaling to {workers}: the number of workers is 1 to {MAX_WORKERS}")
        elif workers != before:
            news = ev.News("scale", (("workers", workers), ("before", before)))
            self._core.say(Level.INFO, f"scaling from {before} to {count_of(workers)}", news=news)
            for slot in range(before, workers):
                self._table.reopen(slot)
                self._table.expect(slot, Reason.SCALE)
            self._table.want(workers)

    def _finish(self) -> None:
        core = self._core
        code = core.verdict or (Exit.KILLED if core.killed else Exit.OK)
        if core.verdict is None:
            core.say(Level.INFO, "stopped")
        core.phase = Phase.ENDED
        core.do(ev.Finish(code))

    # --- means

    def _announce(self) -> None:
        if not self._announced and self._core.phase is Phase.SERVING and rollout.is_complete(self._table):
            self._announced = True
            self._core.say(Level.INFO, f"serving with {count_of(len(self._table.wanted))}")

    def _receiving(self) -> ev.Steer:
        return ev.Steer(rollout.receiving(self._table), rollout.receiving_datagrams(self._table))

    def _steer(self) -> None:
        steer = self._receiving()
        if self._core.phase is not Phase.STOPPING and steer != self._steered:
            self._steered = steer
            self._core.do(steer)

    def _adopt(self) -> None:
        """Tell healthy workers which queues of others to serve too."""
        if self._core.phase is not Phase.SERVING:
            return
        orphaned = rollout.orphaned(self._table)
        for child in self._table.serving():
            if child.is_healthy and self._table.adopted(child.pid) != orphaned:
                self._table.adopt(child.pid, orphaned)
                self._core.do(ev.Adopt(child.pid, orphaned))
