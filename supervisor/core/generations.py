"""Generations: zygotes, which import the application once for all workers of one, and reloads, which start a new one.

    reload asked -> the zygote of the next generation imports -> one worker of it gets ready
                 -> the new generation serves, and the workers of older ones are replaced (see `rollout`)

Any failure before that worker is ready ends the reload: it is logged once, and the old generation continues unchanged.
A refork takes the same path, starting with a zygote that was a worker before (see `promotion`).
"""

from __future__ import annotations

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core import policy as rules
from hybrid.supervisor.core import rollout
from hybrid.supervisor.core.base import BEFORE_SERVING, OVER, Core, Phase, count_of
from hybrid.supervisor.core.events import Level
from hybrid.supervisor.core.roles import ZYGOTE
from hybrid.supervisor.core.rollout import Readiness
from hybrid.supervisor.core.states import OCCUPYING, UNPROVEN, News, Reason, State
from hybrid.supervisor.core.table import NEVER, Child, Fork
from hybrid.workers.contract.exits import Exit


class Generations:
    """Tracks which code is served, and the zygotes that imported it."""

    def __init__(self, core: Core, *, preload: bool) -> None:
        self._core = core
        self._preload = preload
        self._alone: set[int] = set()  # generations without a zygote: each worker imports for itself
        self._failures = 0  # failures of zygotes in a row
        self._not_before = NEVER  # when the next zygote may start, seconds
        self._replacing: int | None = None  # the proven generation of a reload, while it replaces the others
        self._is_asked = False  # a reload was asked for before the first worker was ready
        self._attempt = "reload"  # the kind of the last attempt: reload or refork
        self._reforked: set[int] = set()  # the generations from a warm worker: the serving one, and the next

    # --- questions

    @property
    def is_reloading(self) -> bool:
        """True while a new generation is tried out, or replaces the workers of others."""
        return self._core.table.next is not None or self._replacing is not None

    def readiness(self) -> Readiness:
        """Return the generations of which workers can be started now."""
        table = self._core.table
        return Readiness(
            current=self._is_ready(table.generation),
            next=table.next is not None and self._is_ready(table.next),
            serves=self._core.phase is Phase.SERVING,
        )

    def zygote_of(self, generation: int) -> int | None:
        """Return the pid of the zygote that forks workers of a generation; None: the supervisor forks them."""
        zygote = self._core.table.zygote(generation)
        return zygote.pid if zygote is not None and zygote.state is State.READY else None

    def reason_of(self, generation: int) -> Reason:
        """Return why a generation that is not the first was started."""
        return Reason.REFORK if generation in self._reforked else Reason.RELOAD

    def next_start(self) -> float | None:
        """Return when the start of a missing zygote is due; None: none is missing."""
        return self._not_before if self._missing() else None

    def _is_ready(self, generation: int) -> bool:
        """Return True if workers of a generation may be started: its zygote can fork, or is unavailable for now."""
        if not self._preload or generation in self._alone:
            return True
        zygote = self._core.table.zygote(generation)
        if zygote is not None:
            return zygote.state is State.READY
        return generation == self._core.table.generation and self._failures > 0

    def _missing(self) -> list[int]:
        table = self._core.table
        if not self._preload or self._core.phase in OVER or table.slot(ZYGOTE).fork is not None:
            return []
        wanted = [table.generation] if table.next is None else [table.next, table.generation]
        return [one for one in wanted if one not in self._alone and table.zygote(one) is None]

    # --- the step

    def pursue(self, now: float) -> None:
        """Start a missing zygote, end unneeded ones."""
        core, table = self._core, self._core.table
        if self._is_asked and core.phase is Phase.SERVING:
            self._is_asked = False
            self._begin()
        needed = () if core.phase in OVER else (table.generation, table.next)
        for zygote in table.zygotes():
            if zygote.generation not in needed:
                core.do(core.drain(zygote, now))
        missing = self._missing()
        if missing and self._not_before <= now:
            table.reserve(ZYGOTE, Fork(missing[0], now + rules.FORK_PATIENCE, None))
            core.do(ev.ForkZygote(missing[0]))

    def conclude(self) -> None:
        """Report a complete reload."""
        core, table = self._core, self._core.table
        if self._replacing is None or core.phase in OVER or rollout.outdated(table):
            return
        if table.next is None and rollout.is_complete(table):
            workers = count_of(len(table.wanted))
            news = ev.News(self._attempt, (("outcome", "complete"), ("generation", self._replacing)))
            core.say(Level.INFO, f"{self._attempt} complete: {workers} of generation {self._replacing}", news=news)
        elif table.next is None and not rollout.is_failing(table):
            return  # slots that were vacant wait for their first worker
        self._replacing = None

    def on_reload_asked(self) -> None:
        """Start a reload."""
        core, table = self._core, self._core.table
        if core.phase in OVER:
            core.say(Level.WARNING, "stopping: not reloading")
        elif core.phase in BEFORE_SERVING:
            self._is_asked = True
            core.say(Level.INFO, "reload asked for before any worker is ready: it follows")
        else:
            if table.next is not None:
                anew = " anew" if self._attempt == "reload" else ""
                core.say(Level.INFO, f"reload asked for{anew}: giving up generation {table.next}")
                table.give_up_next()
            self._begin()

    def _begin(self) -> None:
        table = self._core.table
        self._attempt = "reload"
        self._failures, self._not_before = 0, NEVER
        before, after = table.generation, table.try_next()
        news = ev.News("reload", (("outcome", "started"), ("generation", after)))
        if self._core.policy.overlaps:
            self._core.say(Level.INFO, f"reloading: starting generation {after} beside generation {before}", news=news)
        else:
            self._core.say(Level.INFO, f"reloading: starting generation {after} after generation {before}", news=news)
            self._commit()  # nothing can be tried out beside the old one

    def try_heir(self, child: Child, generation: int, now: float) -> None:
        """Try out a generation whose zygote was a worker until now, and can fork."""
        core, table = self._core, self._core.table
        self._attempt = "refork"
        table.promote(child.pid, generation, now)
        before, after = table.generation, table.try_next(generation)
        self._reforked = (self._reforked & {before}) | {after}
        core.say(Level.INFO, f"reforking: starting generation {after} from a warm worker beside generation {before}")

    # --- workers

    def on_ready(self, child: Child) -> None:
        """A worker serves; if it is the first one of a new generation, commit that generation."""
        if child.generation == self._core.table.next:
            self._commit()

    def _commit(self) -> None:
        core, table = self._core, self._core.table
        is_served = any(child.generation == table.next for child in table.serving())
        table.commit()
        self._alone &= {table.generation}
        self._reforked &= {table.generation}
        self._replacing = table.generation
        old = count_of(len(rollout.outdated(table)))
        serves = f"generation {table.generation} serves; " if is_served else ""
        core.say(Level.INFO, f"{serves}replacing {old} of older ones")

    def on_failed(self, child: Child, reason: str) -> None:
        """A worker cannot start; if it is of the new generation, give that up."""
        if child.generation == self._core.table.next:
            self._give_up(reason)

    def on_fork_failed_of(self, generation: int, reason: str) -> bool:
        """The fork of a worker failed; return True if that only ends a reload, and its slot lost nothing."""
        table = self._core.table
        if generation == table.next:
            self._give_up(f"cannot fork a worker: {reason}")
            return True
        return generation > table.generation  # given up meanwhile

    def on_lost(self, child: Child, how: str) -> bool:
        """A worker that held its slot died; return True if that only ends a reload, and its slot lost nothing."""
        table = self._core.table
        if child.generation == table.next:
            self._give_up(child.failure or f"its worker {how}")
            return True
        # the generation was given up meanwhile, by another reload or a failure
        return child.generation > table.generation

    def _give_up(self, reason: str) -> None:
        core, table = self._core, self._core.table
        failed, before = table.next, table.generation
        table.give_up_next()
        core.say(
            Level.ERROR,
            f"{self._attempt} failed, generation {before} goes on: generation {failed} cannot start: {reason}",
            news=ev.News(self._attempt, (("outcome", "failed"), ("generation", failed), ("reason", reason))),
        )

    # --- zygotes

    def on_spawned(self, pid: int, now: float) -> None:
        """The fork of a zygote succeeded."""
        core = self._core
        fork = core.table.slot(ZYGOTE).fork
        generation = core.table.generation if fork is None else fork.generation
        deadline = core.due(State.BOOTING, now)
        core.table.add(Child(pid, ZYGOTE, generation, State.BOOTING, forked_at=now, deadline=deadline))

    def on_fork_failed(self, reason: str, now: float) -> None:
        """The fork of a zygote failed."""
        core = self._core
        fork = core.table.slot(ZYGOTE).fork
        core.table.miss(ZYGOTE, 0, NEVER)
        if core.phase in OVER:
            return
        if fork is not None and fork.generation == core.table.next:
            self._give_up(f"cannot fork a zygote: {reason}")
            return
        if fork is not None and fork.generation != core.table.generation:
            return  # no longer needed
        self._failures += 1
        delay = rules.fork_delay(core.policy, self._failures)
        self._not_before = now + delay
        core.say(Level.WARNING, f"cannot fork a zygote: {reason}; trying again in {delay:.1f} s")

    def on_warm(self, pid: int, now: float) -> None:
        """A zygote can fork workers."""
        child = self._core.table.child(pid)
        if child is not None and child.state is State.BOOTING:
            self._core.table.move(pid, News.READY, None, ready_at=now)

    def on_unfit(self, pid: int, findings: str, now: float) -> None:
        """A zygote reports that its process must not be forked."""
        core = self._core
        child = core.table.child(pid)
        if child is None or child.state is not State.BOOTING:
            return
        self._alone.add(child.generation)
        alone = f"each worker imports for itself{', and --refork-after has no effect' if core.policy.reforks else ''}"
        core.say_of(child, Level.INFO, f"not preloading: the import left {findings}; {alone}")
        core.do(core.drain(child, now))

    def on_zygote_failed(self, child: Child, code: Exit, reason: str) -> None:
        """A zygote cannot import the application, and is about to exit."""
        core, table = self._core, self._core.table
        if child.state is not State.BOOTING:
            return
        table.move(child.pid, News.FAILED, child.deadline)
        table.blame(child.pid, reason)
        if core.phase is Phase.STARTING:
            core.fail(code, reason)
        elif child.generation == table.next:
            self._give_up(reason)
        else:  # a replacement of a zygote: the code may have changed since
            self._alone.add(child.generation)
            core.say_of(child, Level.ERROR, f"zygote cannot start, workers import for themselves: {reason}")

    def on_zygote_exited(self, child: Child, how: ev.How, now: float) -> None:
        """A zygote is dead."""
        self._core.table.remove(child.pid)
        if child.state in OCCUPYING:
            self._lose(child, f"{how} after {now - child.forked_at:.1f} s", now)

    def on_zygote_overdue(self, child: Child, now: float) -> None:
        """A zygote has exceeded the deadline of its state."""
        core = self._core
        if child.state in UNPROVEN:
            core.abort(child, child.forked_at, now)
            self._lose(child, f"not ready after {core.policy.boot_timeout:g} s and killed", now)
        elif core.phase is Phase.STOPPING and child.state is State.KILLED:
            core.table.remove(child.pid)
        else:
            if child.state is State.DRAINING:
                core.say_of(child, Level.WARNING, "zygote does not end: killing it")
            core.kill(child, now)

    def on_mute(self, child: Child, now: float) -> None:
        """A zygote has not forked in time. Another one would hang at the same place, so none is started."""
        core = self._core
        if child.state not in OCCUPYING:
            return  # already leaving, with a deadline
        core.abort(child, now - rules.FORK_PATIENCE, now)
        if core.phase not in OVER and child.generation == core.table.generation:
            self._alone.add(child.generation)
            how = f"it did not fork within {rules.FORK_PATIENCE:g} s and was killed"
            core.say_of(child, Level.WARNING, f"zygote died: {how}; each worker imports for itself")

    def _lose(self, child: Child, how: str, now: float) -> None:
        core = self._core
        if child.failure is not None or core.phase in OVER:
            return  # reported already
        if child.generation == core.table.next:
            self._give_up(f"its zygote {how}")
            return
        if child.generation != core.table.generation:
            return
        if child.state in UNPROVEN:  # workers will fail as well, but they have labels, deadlines and back-off
            self._alone.add(child.generation)
            core.say_of(child, Level.WARNING, f"zygote died: {how}; each worker imports for itself")
            return
        if (child.served(now) or 0) >= core.policy.healthy_after:
            self._failures = 0
        self._failures += 1
        delay = rules.restart_delay(core.policy, self._failures)
        self._not_before = now + delay
        when = f"in {delay:.1f} s" if delay else "now"
        core.say_of(child, Level.WARNING, f"zygote died: {how}; starting another one {when}")
