"""The shell around the tree of services: wait, translate inputs into events, step, perform the actions.

It decides nothing and waits in one place only, `kernel.wait`. It sleeps until something happens, until the tree's
deadline, or until the next look at the workers. `supervisor/shell/` has its parts, and `start` opens the sockets.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import logging
from collections.abc import Callable, Iterable, Iterator

from hybrid.supervisor.children.kernel import Kernel
from hybrid.supervisor.children.log_files import LogFiles
from hybrid.supervisor.children.metric_files import MetricFiles
from hybrid.supervisor.contact.control import Control
from hybrid.supervisor.control.address import ControlSocket
from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.roles import Role, role_of
from hybrid.supervisor.core.states import Reason
from hybrid.supervisor.core.tree import ALL, Deed, OnFailure, Tree
from hybrid.supervisor.deployment import CannotReread, Deployment, ServiceSpec
from hybrid.supervisor.listeners.estate import Estate
from hybrid.supervisor.shell.announcing import Announcing
from hybrid.supervisor.shell.bookkeeping import Bookkeeping
from hybrid.supervisor.shell.branch import Branch
from hybrid.supervisor.shell.deaths import Deaths
from hybrid.supervisor.shell.happenings import Happenings
from hybrid.supervisor.shell.operators import Operators
from hybrid.supervisor.shell.refitting import Refitting
from hybrid.supervisor.shell.reports import Reports
from hybrid.supervisor.shell.tallies import Tallies
from hybrid.supervisor.shell.telling import Telling
from hybrid.supervisor.upgrade.succession import Succession
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.log import LOGGER_NAME
from hybrid.workers.contract.messages import Ready

_MEANINGS: dict[str, ev.Event] = {
    "SIGTERM": ev.StopAsked(graceful=True),
    "SIGINT": ev.Interrupted(),
    "SIGQUIT": ev.StopAsked(graceful=False),
    "SIGHUP": ev.ReloadAsked(),
    "SIGTTIN": ev.ScaleByAsked(1),
    "SIGTTOU": ev.ScaleByAsked(-1),
    "SIGUSR2": ev.UpgradeAsked(),
}
"""The event for each signal to the supervisor; others are ignored."""

_SCALING = frozenset(("SIGTTIN", "SIGTTOU"))

logger = logging.getLogger(LOGGER_NAME)


class Shell:
    """The imperative part; one instance per run."""

    def __init__(
        self,
        deployment: Deployment,
        kernel: Kernel,
        estate: Estate,
        succession: Succession,
        control: Control | None,
        listen: Callable[[], ControlSocket | None],
        files: LogFiles,
        metric_files: MetricFiles,
    ) -> None:
        """Begin without services: `add` them.

        `control`: to an embedding process. `listen` makes the socket for operators, once this supervisor is in charge.
        `files`: those of the log. `metric_files`: for metrics of the application.
        """
        self._deployment = deployment
        self._listen = listen
        self._files = files
        self._metric_files = metric_files
        self._kernel = kernel
        self._estate = estate
        self._succession = succession
        self._tree = tree = Tree(deployment.shutdown_delay)
        self._branches: dict[str, Branch] = {}  # the services that have not ended
        self._continued: set[str] = set()  # services that this supervisor has started as successor of another
        self._deaths = Deaths(kernel, self._branches)
        self._happenings = Happenings()
        self._reports = Reports(self._happenings)
        tallies = Tallies()
        self._happenings.listeners.append(tallies.hear)
        self._books = Bookkeeping(tallies, self._branches, succession.ledgers)
        self._telling = Telling(kernel, tree, self._branches, succession, self._books, control)
        self._refitting = Refitting(
            deployment, tree, estate, self._branches, self._happenings, self.add, self._feed, self._remove, files
        )
        self._operators = Operators(
            deployment,
            kernel,
            tree,
            self._branches,
            self._happenings,
            tallies,
            self._books,
            self._refitting,
            kernel.now(),
        )
        self._books.levels = self._operators.levels
        self._announcing: Announcing | None = None
        if deployment.on_event:
            foreign = functools.partial(self._foreign, "")
            self._announcing = Announcing(deployment.on_event, kernel, self._deaths.others, foreign)
            self._happenings.listeners.append(self._announcing.hear)
        self._is_in_charge = False
        self._code: Exit | None = None

    def add(self, spec: ServiceSpec, configured: int) -> None:
        """Add a service whose sockets are open; `configured`: the number of workers in its configuration."""
        name = spec.settings.service
        self._branches[name] = branch = Branch(
            spec,
            configured,
            self._kernel,
            self._estate[name],
            functools.partial(self._feed, name),
            functools.partial(self._foreign, name),
            lambda: self._succession.is_waiting,
            self._deaths.looked,
            self._happenings,
            self._operators.connect,
            self._files,
            self._metric_files,
        )
        branch.children.remainders.before = functools.partial(self._books.inherited, name)
        branch.children.call_book.before = functools.partial(self._books.inherited_calls, name)
        branch.children.label_book.before = functools.partial(self._books.inherited_labels, name)
        if self._succession.is_waiting:
            self._continued.add(name)
        else:  # a file read anew has added it, perhaps again
            self._continued.discard(name)
        rules = spec.settings.rules
        if self._succession.is_waiting and not rules.is_sidecar:  # a predecessor serves until then: better it goes on
            rules = dataclasses.replace(rules, on_failure=OnFailure.STOP_ALL)
        self._tree.add(name, branch.machine, rules)

    def run(self) -> Exit:
        """Run until the tree finishes; return its exit code. Blocks. Leaves no worker."""
        self._kernel.adopt_orphans(True)
        try:
            self._telling.open()
            self._operators.inherit_levels(self._books.levels_before)
            self._take_charge()
            for branch in tuple(self._branches.values()):
                if branch.inherited is not None:
                    branch.machine.step(branch.inherited, self._kernel.now())
            self._feed(ALL, ev.Started())
            while self._code is None:
                self._turn()
            if self._announcing is not None:
                self._announcing.finish()
            self._operators.finish(self._code)
            self._books.keep(self._kernel.now(), at_once=True)
            self._telling.finish(self._code, self._reports.reason)
            return self._code
        finally:
            self._clear()

    def _turn(self) -> None:
        deadline = self._tree.deadline()
        dues = [branch.due for branch in self._branches.values()]
        dues += [self._operators.due, self._books.due]
        if self._announcing is not None:
            dues.append(self._announcing.due)
        ready = self._wait(deadline, self._deaths.due, *self._telling.dues, *dues)
        for name in _in_order(self._kernel.take_signals()):
            self._on_signal(name)
        for fd in ready or ():
            for service, event in self._events(fd):
                self._feed(service, event)
        for service, event in self._deaths.events():
            self._feed(service, event)
        self._deaths.end_leftovers()
        now = self._kernel.now()
        if deadline is not None and deadline <= now:
            self._feed(ALL, ev.Tick())
        self._look(now)
        for branch in self._branches.values():
            branch.settle(now)
        self._telling.tell(now)
        if self._books.is_open and not (self._tree.is_upgrading or self._tree.has_successor):
            self._books.drop()
        self._books.keep(now)
        self._take_charge()
        for service, event in self._operators.overdue(now):
            self._feed(service, event)
        self._operators.tell(now)
        if self._announcing is not None:
            self._announcing.advance(now)

    def _take_charge(self) -> None:
        """Listen for operators, unless a predecessor still does: it is the one to ask, and a file is its own."""
        if self._is_in_charge or self._succession.is_waiting:
            return
        self._is_in_charge = True
        self._books.take_charge()
        self._operators.inherit_levels(self._books.levels_before)  # they may have changed during the upgrade
        sock = self._listen()
        if sock is not None:
            self._operators.listen(sock)

    def _events(self, fd: int) -> Iterator[tuple[str, ev.Event]]:
        """Yield the events of a readable descriptor."""
        for name, branch in tuple(self._branches.items()):
            for event in branch.hearing.events(fd):
                yield name, event
        if self._announcing is not None and self._announcing.take(fd):
            return
        yield from self._telling.events(fd)
        yield from self._operators.events(fd)

    def _wait(self, *dues: float | None) -> list[int] | None:
        """Sleep until something happens or is due; return the readable descriptors.

        Under load most turns are looks without news. Such a look happens here, at half the cost of a turn.
        """
        due = min((when for when in dues if when is not None), default=None)
        branches = tuple(self._branches.values())
        while True:
            look = min((when for branch in branches if (when := branch.looks.due) is not None), default=None)
            wake = min((when for when in (due, look) if when is not None), default=None)
            ready = self._kernel.wait(None if wake is None else wake - self._kernel.now())
            now = self._kernel.now()
            for branch in branches:
                branch.looks.woke(wake, now)
            if ready is not None or look is None or (due is not None and due <= now):
                return ready
            if look <= now and self._look(now):
                return None

    def _look(self, now: float) -> bool:
        """Look at the workers of the services whose time has come; return True if there is news."""
        branches = tuple(self._branches.values())
        if len(branches) == 1:
            has_news = branches[0].looks.look_if_due(now)
        elif any(branch.looks.is_due(now) for branch in branches):
            news = [branch.looks.look_soon(now) for branch in branches]  # all of them
            has_news = any(news)
        else:
            return False
        if self._deaths.has_looked:  # once for all services: it costs a look at each process
            self._deaths.end_leftovers()
        return has_news

    def _on_signal(self, name: str) -> None:
        if name == "SIGHUP":
            self._telling.reload_asked()
            if not self._reread():
                return
        if name == "SIGUSR1":
            self._reopen()
        elif name in _SCALING and self._tree.is_upgrading:
            logger.warning(
                "not scaling: an upgrade is in progress, and the successor starts as many workers as there were; "
                "send SIG%s to it once it serves",
                name.removeprefix("SIG"),
            )
        elif name in _MEANINGS:
            self._feed(ALL, _MEANINGS[name])
        else:
            logger.info("%s has no meaning here", name)

    def _reopen(self) -> None:
        """Open the files of the log again; the branches hand them out at the end of the turn."""
        if self._files.is_empty:
            logger.info("nothing to reopen: neither --log-file nor --access-log-file is set")
            return
        done, failures = self._files.reopen()
        for path in done:
            logger.info("reopened %s", path)
        for failure in failures:
            logger.error("cannot reopen: %s", failure)

    def _reread(self) -> bool:
        """Read the configuration again; return False if it cannot be used, which is logged."""
        try:
            if self._succession.is_waiting:
                raise CannotReread("the supervisor that is to be replaced still serves")
            self._refitting.reread()
        except CannotReread as error:
            logger.error("not reloading, everything goes on as it was: %s", error)
            return False
        return True

    def _feed(self, service: str, event: ev.Event) -> None:
        """Step the tree with an event, and with the events that answer its actions, until none is left."""
        if isinstance(event, ev.ChildSaid) and isinstance(event.message, Ready):
            name, place = self._place(service, event.pid)
            self._happenings.publish("ready", name, pid=event.pid, **place, reason=self._reason(service, event.pid))
        self._do(self._tree.step(event, self._kernel.now(), service or None))

    def _do(self, deeds: Iterable[Deed]) -> None:
        """Perform deeds, and step the tree with the events that answer them, until none is left."""
        todo = collections.deque([tuple(deeds)])
        while todo:
            for service, action in todo.popleft():
                answer = self._perform(service, action)
                if answer is not None:
                    todo.append(tuple(self._tree.step(answer, self._kernel.now(), service or None)))

    def _place(self, service: str, pid: int) -> tuple[str, dict[str, object]]:
        """Return the service of a child as people read it, and its slot and generation."""
        handle = self._branches[service].children.get(pid) if service in self._branches else None
        if handle is None:
            return service, {}
        name, slot = self._branches[service].children.place(handle.slot)
        return name, {"slot": slot, "generation": handle.generation}

    def _reason(self, service: str, pid: int) -> str | None:
        """Return why a worker was started; None if that is not known."""
        reason = self._branches[service].machine.reason(pid) if service in self._branches else None
        if reason is Reason.START and service in self._continued:  # it may be ready after the predecessor has ended
            reason = Reason.UPGRADE
        return None if reason is None else reason.value

    def _named(self, service: str, report: ev.Report) -> tuple[str, ev.Report]:
        """Return a report with service and slot as people read them."""
        if not isinstance(report.slot, int) or role_of(report.slot) is not Role.COMPANION:
            return service, report
        name, slot = self._branches[service].children.place(report.slot)
        return name, dataclasses.replace(report, slot=slot)

    def _remove(self, service: str) -> None:
        """Stop a service, and forget it once it has ended."""
        self._do(self._tree.remove(service, self._kernel.now()))

    def _perform(self, service: str, action: ev.Action) -> ev.Event | None:
        """Perform an action; return the event that answers it, if there is one at once."""
        match action:
            case ev.Report():
                self._reports.write(*self._named(service, action))
            case ev.StartSuccessor():
                return self._telling.start_successor()
            case ev.EndSuccessor():
                self._telling.end_successor()
            case ev.Finish(code) if service == ALL:
                self._code = Exit(code)
            case ev.Finish():
                self._end(service)
            case _:
                return self._branches[service].actions.perform(action)
        return None

    def _end(self, service: str) -> None:
        """Close the sockets of a service that has ended; the last one's stay until the supervisor ends."""
        if len(self._branches) > 1:
            self._books.service_ended(service)
            branch = self._branches.pop(service)
            for slot in branch.children.pending_slots():
                branch.forking.call_off(slot)
            self._deaths.abandon(branch)
            self._estate.close(service)
            branch.forking.close_queues()
            self._files.keep(one.settings for one in self._branches.values())
            if service not in self._tree:  # it was removed
                self._happenings.forget(service)
                self._metric_files.forget(service)

    def _foreign(self, service: str) -> Iterator[Callable[[], None]]:
        """Return functions that close, in a child of a service, the descriptors of the supervisor and of the others."""
        yield self._telling.close_in_child
        yield self._operators.close_in_child
        yield self._books.close
        if self._announcing is not None:
            yield self._announcing.close_in_child
        for name, branch in self._branches.items():
            if name != service:
                yield branch.close_in_child
            else:
                yield branch.inquiries.close_in_child

    def _clear(self) -> None:
        """Clean up: after a bug in the supervisor there may be workers left."""
        self._telling.close()
        if self._announcing is not None:
            self._announcing.close()
        self._operators.close()
        self._books.close()
        for branch in self._branches.values():
            for slot in branch.children.pending_slots():
                branch.forking.call_off(slot)
        self._deaths.clear(self._branches.values())
        self._kernel.adopt_orphans(False)
        self._succession.close()


def _in_order(names: list[str]) -> list[str]:
    """Put SIGINT before a simultaneous SIGTERM: a process manager forwards Ctrl-C, which is not a second one.

    Of two pending signals, the handler of the later one runs first.
    """
    return sorted(names, key=lambda name: name != "SIGINT") if "SIGTERM" in names else names
