"""Reports once a turn to the embedding process, the service manager and the other supervisor.

Also receives the messages of the embedding process and of the other supervisor.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

from hybrid.supervisor.children.handles import Children
from hybrid.supervisor.children.kernel import Kernel
from hybrid.supervisor.contact.control import Control
from hybrid.supervisor.contact.control_server import ControlServer
from hybrid.supervisor.contact.systemd_notifier import SystemdNotifier
from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.status import Status
from hybrid.supervisor.core.tree import ALL, Tree
from hybrid.supervisor.shell.bookkeeping import Bookkeeping
from hybrid.supervisor.shell.branch import Branch
from hybrid.supervisor.upgrade.inheritance import Scale
from hybrid.supervisor.upgrade.succession import Succession
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.log import LOGGER_NAME

logger = logging.getLogger(LOGGER_NAME)


class Telling:
    """A source of events: requests of the embedding process, messages of another supervisor. Only `finish` blocks."""

    def __init__(
        self,
        kernel: Kernel,
        tree: Tree,
        branches: Mapping[str, Branch],
        succession: Succession,
        books: Bookkeeping,
        control: Control | None,
    ) -> None:
        """`control`: the socket to an embedding process, if there is one. `branches`: the services; they may change."""
        self._kernel = kernel
        self._tree = tree
        self._branches = branches
        self._succession = succession
        self._books = books
        self._systemd = SystemdNotifier(succession.notify_socket, tree)
        self._control_server = None if control is None else ControlServer(control, tree, self._status, self._serving)
        self._told_urls: set[str] = set()  # services whose URLs were logged

    def open(self) -> None:
        """Start watching their descriptors."""
        if self._control_server is not None:
            self._kernel.watch(self._control_server.fileno())
        for fd in self._succession.descriptors:
            self._kernel.watch(fd)

    def close(self) -> None:
        """Stop watching their descriptors."""
        if self._control_server is not None:
            self._kernel.unwatch(self._control_server.fileno())
        for fd in self._succession.descriptors:
            self._kernel.unwatch(fd)

    def close_in_child(self) -> None:
        """Close their descriptors, in a child."""
        self._succession.close()
        if self._control_server is not None:
            self._control_server.close()

    @property
    def dues(self) -> tuple[float | None, float | None]:
        """When a report is due even without an event, in monotonic seconds."""
        return self._systemd.due, None if self._control_server is None else self._control_server.due

    def reload_asked(self) -> None:
        """A signal asked for a reload: a service manager may be waiting for its beginning."""
        self._systemd.reload_asked()

    def events(self, fd: int) -> Iterator[tuple[str, ev.Event]]:
        """Yield service (or `ALL`) and event of a readable descriptor, if it belongs to one of them."""
        if self._control_server is not None and fd == self._control_server.fileno():
            yield from self._of_request(self._control_server, fd)
        elif fd in self._succession.descriptors:
            yield from self._of_succession(fd)

    def tell(self, now: float) -> None:
        """Report all changes."""
        if self._control_server is not None:
            self._control_server.tell(now)
        if self._tree.can_take_over and self._succession.is_waiting:
            self._succession.claim()
        for name, branch in self._branches.items():
            if name not in self._told_urls and branch.hearing.scheme and branch.machine.has_started:
                self._told_urls.add(name)
                _log_urls(branch)
        self._systemd.tell(now)

    def finish(self, code: Exit, reason: str) -> None:
        """Report the end; waits a moment for a service manager with a full queue."""
        self._systemd.finish(self._kernel)
        if self._control_server is not None:
            self._control_server.tell_end(code, reason)

    # --- a successor

    def start_successor(self) -> ev.Event:
        """Execute the program again; return the outcome."""
        self._kernel.adopt_orphans(False)  # the successor must not be our child: a service manager watches it
        scales = {name: Scale(one.configured, one.machine.wanted) for name, one in self._branches.items()}
        event = self._succession.start(scales, self._books.open(self._kernel.now()))
        self._kernel.adopt_orphans(True)
        for fd in self._succession.descriptors:
            self._kernel.watch(fd)
        return event

    def end_successor(self) -> None:
        """Give up the successor."""
        before = self._succession.descriptors
        self._succession.withdraw(self._kernel.terminate)
        for fd in before:
            if fd not in self._succession.descriptors:
                self._kernel.unwatch(fd)

    def _of_succession(self, fd: int) -> Iterator[tuple[str, ev.Event]]:
        was_waiting = self._succession.is_waiting
        event = self._succession.receive(fd)
        if was_waiting and not self._succession.is_waiting:
            for name, branch in tuple(self._branches.items()):
                self._tree.rule(name, branch.settings.rules)
                branch.children.teach_all(branch.listeners.all())
                yield name, ev.SlotsInherited(branch.listeners.slots)
                branch.actions.steer(branch.machine.steering)
        if fd not in self._succession.descriptors:
            self._kernel.unwatch(fd)
        if event is not None:
            yield ALL, event

    # --- an embedding process

    def _of_request(self, server: ControlServer, fd: int) -> Iterator[tuple[str, ev.Event]]:
        found = server.take()
        if server.fileno() == -1:
            self._kernel.unwatch(fd)
            self._control_server = None
        if found is not None:
            yield found

    def _serving(self) -> Iterator[tuple[Children, int]]:
        return ((one.children, pid) for one in self._branches.values() for pid in one.listening())

    def _status(self, service: str) -> Status:
        return self._branches[service].status()


def _log_urls(branch: Branch) -> None:
    for address, url in zip(branch.listeners.addresses, branch.urls, strict=True):
        if url != address:
            logger.info("reachable at %s", url, extra={"service": branch.name})
