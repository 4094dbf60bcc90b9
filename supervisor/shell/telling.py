"""Reports once a turn to the embedding process, the service manager and the other supervisor.

Also receives the messages of the embedding process and of the other supervisor.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from hybrid.supervisor.children.handles import Children
from hybrid.supervisor.children.kernel import Kernel
from hybrid.supervisor.contact.control import Control
from hybrid.supervisor.contact.control_server import ControlServer
from hybrid.supervisor.contact.roll_call import RollCall
from hybrid.supervisor.contact.systemd_notifier import SystemdNotifier
from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.machine import Machine
from hybrid.supervisor.core.status import Status, with_record
from hybrid.supervisor.listeners.sockets import Listeners
from hybrid.supervisor.shell.actions import Actions
from hybrid.supervisor.upgrade.succession import Succession
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.log import LOGGER_NAME

logger = logging.getLogger(LOGGER_NAME)


class Telling:
    """A source of events: requests of the embedding process, messages of another supervisor. Only `finish` blocks."""

    def __init__(
        self,
        kernel: Kernel,
        children: Children,
        machine: Machine,
        listeners: Listeners,
        succession: Succession,
        actions: Actions,
        service: str,
        control: Control | None,
    ) -> None:
        """`control`: the socket to an embedding process, if there is one."""
        self._kernel = kernel
        self._children = children
        self._machine = machine
        self._listeners = listeners
        self._succession = succession
        self._actions = actions
        self._service = service
        self._systemd = SystemdNotifier(succession.notify_socket, machine)
        self._control_server = (
            None if control is None else ControlServer(control, machine, self._status, RollCall(children))
        )
        self._has_told_urls = False

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

    def close_control(self) -> None:
        """Close the socket to the embedding process, in a child."""
        if self._control_server is not None:
            self._control_server.close()

    @property
    def dues(self) -> tuple[float | None, float | None]:
        """When a report is due even without an event, in monotonic seconds."""
        return self._systemd.due, None if self._control_server is None else self._control_server.due

    def reload_asked(self) -> None:
        """A signal asked for a reload: a service manager may be waiting for its beginning."""
        self._systemd.reload_asked()

    def events(self, fd: int) -> Iterator[ev.Event]:
        """Yield the events of a readable descriptor, if it belongs to one of them."""
        if self._control_server is not None and fd == self._control_server.fileno():
            yield from self._of_request(self._control_server, fd)
        elif fd in self._succession.descriptors:
            yield from self._of_succession(fd)

    def tell(self, now: float, scheme: str) -> None:
        """Report all changes; `scheme`: `http` or `https`, once a worker has reported it."""
        if self._control_server is not None:
            self._control_server.tell(now)
        if self._machine.has_started and self._succession.is_waiting:
            self._succession.claim()
        if self._machine.has_started and scheme and not self._has_told_urls:
            self._has_told_urls = True
            for address in self._listeners.addresses:
                if "://" not in address and not address.startswith("unix:"):  # a TCP address
                    logger.info("reachable at %s://%s", scheme, address)
        self._systemd.tell(now)

    def finish(self, code: Exit, reason: str) -> None:
        """Report the end; waits a moment for a service manager with a full queue."""
        self._systemd.finish(self._kernel)
        if self._control_server is not None:
            self._control_server.tell_end(code, reason)

    def _of_request(self, server: ControlServer, fd: int) -> Iterator[ev.Event]:
        event = server.take()
        if server.fileno() == -1:
            self._kernel.unwatch(fd)
            self._control_server = None
        if event is not None:
            yield event

    def _of_succession(self, fd: int) -> Iterator[ev.Event]:
        was_waiting = self._succession.is_waiting
        event = self._succession.receive(fd)
        if was_waiting and not self._succession.is_waiting:
            self._children.teach_all(self._listeners.all())
            yield ev.SlotsInherited(self._listeners.slots)
            self._actions.steer(self._machine.steering)
        if fd not in self._succession.descriptors:
            self._kernel.unwatch(fd)
        if event is not None:
            yield event

    def _status(self) -> Status:
        rows = (
            with_record(row, handle.record.snapshot()) if (handle := self._children.get(row.pid)) is not None else row
            for row in self._machine.workers(self._kernel.now())
        )
        return Status(self._service, self._listeners.addresses, tuple(rows))
