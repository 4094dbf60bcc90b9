"""The decisions about several services: `step(event, now, service) -> deeds`.

Each service has a machine, which knows nothing of the others. The tree passes events to the machines, and decides what
concerns more than one:

    start      a service starts once all that it depends on have started
    stop       in the reverse order
    failure    of one service: the others stop too, or go on (`OnFailure`)
    reload     of all: one after another
    scaling    by a signal: of the first one
    upgrade    of all at once, by one successor
    sidecars   serve operators beside the services: they stop last, and the others go on without them

Sans-IO, as the machine is.
"""

from __future__ import annotations

import collections
import enum
from collections.abc import Iterable, Iterator

from hybrid.supervisor.core import dependencies
from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.base import BEFORE_SERVING, OVER, Phase
from hybrid.supervisor.core.machine import Machine
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.records import record

ALL = ""
"""In place of a service: the action is the tree's."""
Deed = tuple[str, ev.Action]
"""A service (or `ALL`), and an action."""


class OnFailure(enum.Enum):
    """What happens to the others if a service fails: it cannot start, or its workers die too often."""

    STOP_ALL = "stop-all"
    """All stop, and the exit code is that of the failure."""
    STOP = "stop"
    """They go on without it."""


@record(frozen=True, slots=True)
class Rules:
    """How a service relates to the others."""

    depends: tuple[str, ...] = ()
    """The services that must have started before it starts, and that stop after it."""
    on_failure: OnFailure = OnFailure.STOP_ALL
    is_sidecar: bool = False
    """True if it only serves the others: it stops after them, and neither its failure nor its state is theirs."""


class Stage(enum.Enum):
    """The stage of a service within the tree."""

    WAITING = "waiting"
    """It has not begun: it waits for those that it depends on."""
    RUNNING = "running"
    """Its machine decides."""
    ENDED = "ended"
    """Its machine has finished, or it will never begin."""


class _Node:
    """A service."""

    def __init__(self, machine: Machine, rules: Rules, *, is_late: bool) -> None:
        self.machine = machine
        self.is_late = is_late  # it was added to a tree that runs
        self.rules = rules
        self.stage = Stage.WAITING
        self.is_told_to_stop = False
        self.is_removed = False  # it is forgotten once it has ended
        self.code: Exit | None = None  # once it has ended
        self.has_failed = False


class Tree:
    """The services of a supervisor. All methods return at once."""

    def __init__(self, shutdown_delay: float = 0.0) -> None:
        self.shutdown_delay = shutdown_delay
        """Seconds between a request to stop all and the stop; the services go on meanwhile."""
        self.edition = 0
        """Grows with each step: while it stays, all questions without a time have the same answers."""
        self._closing_until: float | None = None  # the end of that delay, once it was asked to stop
        self._nodes: dict[str, _Node] = {}
        self._deeds: list[Deed] = []  # of the current step
        self._has_begun = False
        self._stop: ev.Event | None = None  # the request to stop all, as passed to each service when it is its turn
        self._verdict: Exit | None = None  # the exit code of the first failure that stopped all
        self._reloads: collections.deque[str] = collections.deque()  # services that wait for their turn
        self._reloading: str | None = None  # the service whose turn it is
        self._upgrading: tuple[str, ...] = ()  # the services that a successor is to take over
        self._holding: set[str] = set()  # those of them that have no fork in progress
        self._has_successor_started = False
        self._is_finished = False

    # --- services

    def add(self, name: str, machine: Machine, rules: Rules) -> None:
        """Add a service; it starts with the next step, if the tree has begun."""
        self.edition += 1
        self._nodes[name] = _Node(machine, rules, is_late=self._has_begun)

    def remove(self, name: str, now: float) -> list[Deed]:
        """Stop a service and forget it once it has ended."""
        self.edition += 1
        node = self._nodes[name]
        node.is_removed = True
        if node.stage is Stage.ENDED:
            del self._nodes[name]
            return []
        return self.step(ev.StopAsked(graceful=True), now, name)

    def rule(self, name: str, rules: Rules) -> None:
        """Change how a service relates to the others."""
        self.edition += 1
        self._nodes[name].rules = rules

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all services, in the order in which they were added."""
        return tuple(self._nodes)

    def __contains__(self, name: object) -> bool:
        return name in self._nodes

    def machine(self, name: str) -> Machine:
        """Return the machine of a service."""
        return self._nodes[name].machine

    def stage(self, name: str) -> Stage:
        """Return the stage of a service."""
        return self._nodes[name].stage

    def rules(self, name: str) -> Rules:
        """Return how a service relates to the others."""
        return self._nodes[name].rules

    def may_return(self, name: str) -> bool:
        """Return True if a service has ended by a failure or a request, not because it was done."""
        node = self._nodes[name]
        return node.stage is Stage.ENDED and (node.has_failed or node.is_told_to_stop)

    def is_new(self, name: str) -> bool:
        """Return True if a service was added to a tree that runs, and starts just now: it needs no reload."""
        node = self._nodes[name]
        return node.is_late and node.machine.phase in BEFORE_SERVING

    def has_failed(self, name: str) -> bool:
        """Return True if a service has ended by a failure."""
        return self._nodes[name].has_failed

    # --- questions

    @property
    def phase(self) -> Phase:
        """The phase of the whole."""
        if self._is_finished:
            return Phase.ENDED
        if not self._has_begun:
            return Phase.NEW
        if self._stop is not None or self._closing_until is not None:
            return Phase.STOPPING
        nodes = self._services()
        phases = {node.machine.phase for node in nodes if node.stage is Stage.RUNNING}
        if phases <= OVER:
            return Phase.STOPPING
        is_starting = any(node.stage is Stage.WAITING for node in nodes) or Phase.STARTING in phases
        return Phase.STARTING if is_starting else Phase.SERVING

    @property
    def has_started(self) -> bool:
        """True once every service that has not failed has started."""
        nodes = self._services()
        return any(node.stage is Stage.RUNNING for node in nodes) and all(_is_up(node) for node in nodes)

    @property
    def can_take_over(self) -> bool:
        """True while a predecessor may be replaced: all have started, and nothing stops, as it does after a failure."""
        return self.has_started and self.phase is Phase.SERVING

    @property
    def is_reloading(self) -> bool:
        """True while any service reloads, or waits for its turn."""
        return bool(self._reloads) or any(machine.is_reloading for machine in self._machines())

    @property
    def is_upgrading(self) -> bool:
        """True while a successor is starting."""
        return bool(self._upgrading)

    @property
    def has_successor(self) -> bool:
        """True if another supervisor has taken over."""
        return any(node.machine.has_successor for node in self._nodes.values())

    def has_turned_since(self, moment: float) -> bool:
        """Return True if the loop of any serving worker has begun a turn, or waited, after `moment` (seconds)."""
        return any(machine.has_turned_since(moment) for machine in self._machines())

    def is_settled(self) -> bool:
        """Return True if every service that has not ended has all its workers up to date, and no other is left."""
        nodes = [node for node in self._services() if node.stage is not Stage.ENDED]
        is_up = all(node.stage is Stage.RUNNING and node.machine.is_settled() for node in nodes)
        return bool(nodes) and is_up and not self._reloads

    def summary(self) -> str:
        """Return a summary of one line."""
        if self._is_alone():
            return self._services()[0].machine.summary()
        return ", ".join(f"{name}: {self._summary(node)}" for name, node in self._nodes.items())

    def deadline(self) -> float | None:
        """Return when `step` must be called with `Tick` at the latest; None: only with the next event."""
        due = self._closing_until if self._stop is None else None
        for node in self._nodes.values():
            if node.stage is Stage.RUNNING:
                when = node.machine.deadline()
                if when is not None and (due is None or when < due):
                    due = when
        return due

    def is_sidecar(self, name: str) -> bool:
        """Return True if a service only serves the others."""
        return self._nodes[name].rules.is_sidecar

    def _services(self) -> list[_Node]:
        """Return the services without the sidecars."""
        return [node for node in self._nodes.values() if not node.rules.is_sidecar]

    def _is_alone(self) -> bool:
        """Return True if there is one service; sidecars do not count."""
        return len(self._services()) == 1

    def _machines(self) -> Iterator[Machine]:
        """Return the machines of the services that run."""
        return (node.machine for node in self._nodes.values() if node.stage is Stage.RUNNING)

    def _summary(self, node: _Node) -> str:
        return node.machine.summary() if node.stage is Stage.RUNNING else node.stage.value

    # --- the step

    def step(self, event: ev.Event, now: float, service: str | None = None) -> list[Deed]:
        """Handle an event of a service, or of the whole (None), seen at `now`; return the deeds in order."""
        if self._is_finished:
            return []
        self.edition += 1
        self._deeds = []
        if service is None:
            self._of_all(event, now)
        elif (node := self._nodes.get(service)) is not None:
            self._of_one(service, node, event, now)
        self._pursue(now)
        return self._deeds

    def _of_one(self, name: str, node: _Node, event: ev.Event, now: float) -> None:
        if isinstance(event, ev.StopAsked):
            self._stop_one(name, node, event, now)
        elif node.stage is Stage.RUNNING or (node.stage is Stage.WAITING and isinstance(event, ev.ScaleAsked)):
            self._run(name, event, now)

    def _of_all(self, event: ev.Event, now: float) -> None:
        match event:
            case ev.Started():
                self._has_begun = True
            case ev.Tick():
                if self._closing_until is not None and self._closing_until <= now:
                    self._stop = self._stop or ev.StopAsked(graceful=True)
                for name in self._running():
                    deadline = self._nodes[name].machine.deadline()
                    if deadline is not None and deadline <= now:
                        self._run(name, event, now)
            case ev.StopAsked() | ev.Interrupted():
                self._stop_all(event, now)
            case ev.ReloadAsked():
                self._reload_all(now)
            case ev.ScaleAsked() | ev.ScaleByAsked():
                for name in self._running(sidecars=False)[:1]:
                    self._run(name, event, now)
            case ev.UpgradeAsked():
                self._upgrade(now)
            case ev.SuccessorStarted() | ev.SuccessorServes() | ev.SuccessorFailed():
                self._on_successor(event, now)
            case _:
                raise TypeError(f"{type(event).__name__} is about one service")

    def _running(self, *, sidecars: bool = True) -> list[str]:
        nodes = self._nodes.items()
        return [name for name, node in nodes if node.stage is Stage.RUNNING and (sidecars or not node.rules.is_sidecar)]

    def _run(self, name: str, event: ev.Event, now: float, unsaid: set[str] | None = None) -> None:
        """Step a machine, and take up its actions.

        `unsaid`: texts already reported about this event, which concerns several services in the same way.
        """
        for action in self._nodes[name].machine.step(event, now):
            match action:
                case ev.StartSuccessor():
                    self._holding.add(name)
                case ev.EndSuccessor():
                    self._end_successor(name, now)
                case ev.Report(_, text) if unsaid is not None and text in unsaid:
                    pass
                case ev.Finish(code):
                    self._end(name, Exit(code))
                    self._deeds.append((name, action))
                case _:
                    if unsaid is not None and isinstance(action, ev.Report):
                        unsaid.add(action.text)
                    self._deeds.append((name, action))

    def _run_all(self, names: Iterable[str], event: ev.Event, now: float) -> None:
        """Step several machines with one event; each text is reported once."""
        unsaid: set[str] = set()
        for name in names:
            if self._nodes[name].stage is Stage.RUNNING:
                self._run(name, event, now, unsaid)

    def _pursue(self, now: float) -> None:
        """Take the next steps, until there is none."""
        if not self._has_begun:
            return
        while True:
            self._note_failures()
            before = (len(self._deeds), self._stages())
            self._stop_next(now)
            self._start_next(now)
            self._reload_next(now)
            if before == (len(self._deeds), self._stages()):
                break
        self._keep_upgrading(now)
        if self._upgrading and not self._has_successor_started and self._holding >= set(self._upgrading):
            self._has_successor_started = True
            self._deeds.append((ALL, ev.StartSuccessor()))
        if all(node.stage is Stage.ENDED for node in self._nodes.values()) and not self._is_finished:
            self._is_finished = True
            self._deeds.append((ALL, ev.Finish(self._code())))

    def _stages(self) -> tuple[Stage, ...]:
        return tuple(node.stage for node in self._nodes.values())

    # --- start

    def _start_next(self, now: float) -> None:
        for name, node in tuple(self._nodes.items()):
            is_due = self._stop is None and self._closing_until is None
            if node.stage is Stage.WAITING and is_due and self._may_start(node):
                node.stage = Stage.RUNNING
                self._run(name, ev.Started(), now)

    def _may_start(self, node: _Node) -> bool:
        """Return True if all that a service depends on have started. A service that was removed holds up none."""
        return all(_is_up(self._nodes[name]) for name in node.rules.depends if name in self._nodes)

    # --- stop

    def _stop_all(self, event: ev.StopAsked | ev.Interrupted, now: float) -> None:
        is_first = self._stop is None and self._closing_until is None
        if is_first and self.shutdown_delay > 0 and event == ev.StopAsked(graceful=True) and self.has_started:
            self._closing_until = now + self.shutdown_delay
            text = f"stopping in {self.shutdown_delay:g} s; a second request stops at once"
            self._say(ev.Level.INFO, text, ev.News("stop", (("delay", self.shutdown_delay),)))
            return
        is_at_once = event == ev.StopAsked(graceful=False) or (
            isinstance(event, ev.Interrupted) and self._stop is not None
        )
        if self._stop is None or is_at_once:
            self._stop = ev.StopAsked(graceful=False) if is_at_once else event
        for name in self._running() if is_at_once else ():
            self._nodes[name].is_told_to_stop = True
            self._run(name, self._stop, now)

    def _stop_next(self, now: float) -> None:
        """Stop the services on which none that still runs depends; sidecars once all others have ended."""
        have_ended = all(node.stage is Stage.ENDED for node in self._services())
        stop = ev.StopAsked(graceful=True) if self._stop is None and have_ended else self._stop
        if stop is None:
            return
        for name, node in tuple(self._nodes.items()):
            if node.stage is Stage.WAITING:
                node.stage = Stage.ENDED
            elif node.stage is Stage.RUNNING and not node.is_told_to_stop and self._may_stop(name, node):
                node.is_told_to_stop = True
                self._run(name, stop, now)

    def _may_stop(self, name: str, node: _Node) -> bool:
        """Return True if all have ended that need a service."""
        if node.rules.is_sidecar:
            return all(other.stage is Stage.ENDED for other in self._services())
        depends = {other: above.rules.depends for other, above in self._nodes.items()}
        above = dependencies.dependents(depends, name)
        return all(self._nodes[other].stage is Stage.ENDED for other in above)

    def _stop_one(self, name: str, node: _Node, event: ev.StopAsked, now: float) -> None:
        node.is_told_to_stop = True
        if node.stage is Stage.WAITING:
            self._end(name, Exit.OK)
            self._deeds.append((name, ev.Finish(Exit.OK)))
        elif node.stage is Stage.RUNNING:
            self._run(name, event, now)

    def _end(self, name: str, code: Exit) -> None:
        node = self._nodes[name]
        node.stage, node.code = Stage.ENDED, code
        if node.is_removed:
            del self._nodes[name]

    def _note_failures(self) -> None:
        """Stop all, if a service has failed that the others need."""
        for name, node in self._nodes.items():
            code = node.machine.verdict
            if code is None or node.has_failed:
                continue
            node.has_failed = node.is_told_to_stop = True
            if node.rules.is_sidecar:
                text = "it has failed; the services go on without it, and a reload starts it again"
                self._deeds.append((name, ev.Report(ev.Level.WARNING, text)))
            elif node.rules.on_failure is OnFailure.STOP and not self._is_alone():
                others = "the other services go on (on-failure = stop)"
                self._deeds.append((name, ev.Report(ev.Level.WARNING, f"the service has failed; {others}")))
            else:
                self._verdict = self._verdict or code
                self._stop = self._stop or ev.StopAsked(graceful=True)

    def _say(self, level: ev.Level, text: str, news: ev.News | None = None) -> None:
        self._deeds.append((ALL, ev.Report(level, text, news=news)))

    def _code(self) -> Exit:
        """Return the exit code of the whole."""
        codes = [node.code for node in self._services() if node.code is not None]
        if self._verdict is not None:
            return self._verdict
        if Exit.KILLED in codes:
            return Exit.KILLED
        if self._stop is not None:
            return Exit.OK  # the others went on until they were stopped
        return next((code for code in codes if code is not Exit.OK), Exit.OK)

    # --- reloads

    def _reload_all(self, now: float) -> None:
        """Reload every service. A second request for the one whose turn it is reaches it at once, as a single one."""
        if self._stop is not None:
            self._run_all(self._running(sidecars=False), ev.ReloadAsked(), now)  # they say why not
            return
        if self._closing_until is not None:
            self._say(ev.Level.WARNING, "stopping: not reloading")
            return
        for name in self._running(sidecars=False):
            if self.is_new(name):
                continue
            if name == self._reloading or self._is_alone():
                self._run(name, ev.ReloadAsked(), now)
            elif name not in self._reloads:
                self._reloads.append(name)

    def _reload_next(self, now: float) -> None:
        if self._reloading is not None and not self._is_reloading(self._reloading):
            self._reloading = None
        while self._reloads and self._reloading is None:
            name = self._reloads.popleft()
            if name in self._nodes and self._nodes[name].stage is Stage.RUNNING and self._stop is None:
                self._run(name, ev.ReloadAsked(), now)
                self._reloading = name if self._is_reloading(name) else None

    def _is_reloading(self, name: str) -> bool:
        node = self._nodes.get(name)
        return node is not None and node.stage is Stage.RUNNING and node.machine.is_reloading

    # --- upgrade

    def _upgrade(self, now: float) -> None:
        if self._closing_until is not None:
            news = ev.News("upgrade", (("outcome", "failed"), ("reason", "it is stopping")))
            self._say(ev.Level.WARNING, "stopping: not upgrading", news)
            return
        unfit = [name for name in self._running() if self._nodes[name].machine.phase is not Phase.SERVING]
        # a sidecar that does not serve just now is left behind: its successor starts anew
        running = [name for name in self._running() if name not in unfit or not self.is_sidecar(name)]
        unfit = [name for name in unfit if not self.is_sidecar(name)]
        waiting = [name for name, node in self._nodes.items() if node.stage is Stage.WAITING]
        if self._upgrading or unfit:
            for name in (unfit or running)[:1]:
                self._run(name, ev.UpgradeAsked(), now)  # it says why not
        elif waiting:
            reason = f"{', '.join(waiting)} has not started"
            news = ev.News("upgrade", (("outcome", "failed"), ("reason", reason)))
            self._say(ev.Level.WARNING, f"not upgrading: {reason}", news)
        else:
            self._upgrading, self._holding, self._has_successor_started = tuple(running), set(), False
            self._run_all(running, ev.UpgradeAsked(), now)

    def _on_successor(self, event: ev.Event, now: float) -> None:
        names = self._upgrading
        if not isinstance(event, ev.SuccessorStarted):
            self._upgrading = ()
        self._run_all(names, event, now)
        if isinstance(event, ev.SuccessorServes) and names:
            for name in names:
                self._nodes[name].is_told_to_stop = True
            self._stop = self._stop or ev.StopAsked(graceful=True)  # for those that were added meanwhile

    def _keep_upgrading(self, now: float) -> None:
        """Give the successor up, if a service has before it asked for one: it stops, for instance."""
        for name in self._upgrading:
            node = self._nodes.get(name)
            if node is None or node.stage is not Stage.RUNNING or not node.machine.is_upgrading:
                self._end_successor(name, now)

    def _end_successor(self, name: str, now: float) -> None:
        """A service gives the successor up: so do all."""
        others = [other for other in self._upgrading if other != name]
        if self._has_successor_started and self._upgrading:
            self._deeds.append((ALL, ev.EndSuccessor()))
        self._upgrading = ()
        for other in others:
            if other in self._nodes and self._nodes[other].stage is Stage.RUNNING:
                gives_up = ev.SuccessorFailed("given up")
                deeds = self._nodes[other].machine.step(gives_up, now)
                self._deeds += [(other, deed) for deed in deeds if not isinstance(deed, ev.Report)]


def _is_up(node: _Node) -> bool:
    """Return True if a service has started, or has ended: then the others go on without it."""
    return node.machine.has_started if node.stage is Stage.RUNNING else node.stage is Stage.ENDED
