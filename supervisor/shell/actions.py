"""Performs the actions of the machine. A table maps each action to its method."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from hybrid.supervisor.children.forking import Forking
from hybrid.supervisor.children.handles import Children
from hybrid.supervisor.children.kernel import Kernel
from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.machine import Machine
from hybrid.supervisor.core.table import ZYGOTE
from hybrid.supervisor.listeners.sockets import Listeners
from hybrid.supervisor.listeners.steering import SteeringError
from hybrid.supervisor.upgrade.inheritance import Scale
from hybrid.supervisor.upgrade.succession import Succession
from hybrid.supervisor.watch.stack_dumps import StackDumps
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.log import LOGGER_NAME
from hybrid.workers.contract.messages import Stop

logger = logging.getLogger(LOGGER_NAME)


class Actions:
    """Performs actions; one instance per run. No method blocks."""

    def __init__(
        self,
        kernel: Kernel,
        children: Children,
        forking: Forking,
        listeners: Listeners,
        succession: Succession,
        stack_dumps: StackDumps,
        machine: Machine,
        configured: int,
    ) -> None:
        """`configured`: the number of workers in the command; the machine's may come from a predecessor."""
        self._kernel = kernel
        self._children = children
        self._forking = forking
        self._listeners = listeners
        self._succession = succession
        self._stack_dumps = stack_dumps
        self._machine = machine
        self._configured = configured
        self._has_told_steering = False
        self._told_failures: set[str] = set()  # reasons why listening sockets cannot be repaired, as logged
        self.reason = ""
        """The text of the newest error."""
        self.code: Exit | None = None
        """The exit code, once the machine has finished."""
        self._of_supervisor = self._methods_of_supervisor()
        self._of_child = self._methods_of_child()

    def _methods_of_supervisor(self) -> dict[type[ev.Action], Callable[[Any], ev.Event | None]]:
        """Return action -> method, which may answer with an event."""
        forking, listeners = self._forking, self._listeners
        return {
            ev.Fork: lambda action: forking.fork(action.slot, action.generation, action.zygote),
            ev.ForkZygote: lambda action: forking.fork_zygote(action.generation),
            ev.CallOff: lambda action: forking.call_off(action.slot),
            ev.StartSuccessor: lambda _: self._start_successor(),
            ev.EndSuccessor: lambda _: self._end_successor(),
            ev.Steer: self.steer,
            ev.MendListeners: lambda _: self.mend(),
            ev.TellStop: self._tell_stop,
            ev.HoldConnections: lambda _: listeners.hold(),
            ev.CheckQueues: lambda _: self._check_queues(),
            ev.RefuseConnections: lambda _: listeners.refuse(),
            ev.Report: self._report,
            ev.Finish: self._finish,
        }

    def _methods_of_child(self) -> dict[type[ev.Action], Callable[[Any], object]]:
        """Return action about one child -> method, called while the child is not reaped."""
        kernel, children, stack_dumps = self._kernel, self._children, self._stack_dumps
        return {
            ev.Drain: self._drain,
            ev.Promote: lambda action: children.promote(action.pid, ZYGOTE, action.generation),
            ev.Dump: lambda action: stack_dumps.open(action.pid, action.since, kernel.now(), aborts=False),
            ev.Abort: lambda action: stack_dumps.open(action.pid, action.since, kernel.now(), aborts=True),
            ev.Kill: lambda action: kernel.kill(action.pid),
            ev.Adopt: self._adopt,
        }

    @property
    def known(self) -> set[type[ev.Action]]:
        """The types of all actions that can be performed."""
        return {*self._of_supervisor, *self._of_child}

    def perform(self, action: ev.Action) -> ev.Event | None:
        """Perform an action; return the event that answers it, if there is one at once."""
        method = self._of_supervisor.get(type(action))
        if method is not None:
            return method(action)
        pid: int = action.pid  # type: ignore[union-attr,assignment]  # all others are about a child
        if pid in self._children:  # else it is reaped, and its Exited follows
            self._of_child[type(action)](action)
        return None

    def steer(self, action: ev.Steer) -> None:
        """Have the kernel distribute new connections over the slots that serve."""
        if self._succession.is_waiting:
            return  # another supervisor owns the sockets until we serve
        try:
            self._listeners.steer(action.slots, action.datagrams)
        except SteeringError as error:
            if not self._has_told_steering:
                logger.warning("%s; a connection may wait for a worker that is booting or gone", error)
            self._has_told_steering = True

    def mend(self) -> ev.Event | None:
        """Repair listening sockets. Workers get a new one by a reload, from a zygote that has it."""
        mended = self._listeners.mend()
        for text in mended.repaired:
            logger.warning("%s was shut down by a worker; it serves again, and connections that waited are lost", text)
        for text in mended.failures:
            if text not in self._told_failures:
                logger.error("%s", text)
        self._told_failures = set(mended.failures)
        return ev.ReloadAsked() if mended.is_remade else None

    def _drain(self, action: ev.Drain) -> None:
        if not self._children.drain(action.pid):
            self._kernel.terminate(action.pid)

    def _adopt(self, action: ev.Adopt) -> None:
        knows_all = self._children[action.pid].knows >= self._listeners.slots
        listeners = () if knows_all else self._listeners.all()
        self._children.adopt(action.pid, action.slots, listeners, self._kernel.now())

    def _tell_stop(self, action: ev.TellStop) -> None:
        slots = {one.slot for one in self._listeners.waiting() if one.slot is not None}
        for pid in action.pids:
            if pid in self._children:
                self._children.tell(pid, Stop(action.at_a_terminal, tuple(sorted(slots))))

    def _check_queues(self) -> ev.Event:
        waiting = any(one.ends for one in self._listeners.waiting())
        if waiting:
            logger.debug("connections wait to be accepted: new ones are not refused yet")
        return ev.QueuesChecked(waiting)

    def _start_successor(self) -> ev.Event:
        self._kernel.adopt_orphans(False)  # the successor must not be our child: a service manager watches it
        event = self._succession.start(Scale(self._configured, self._machine.wanted))
        self._kernel.adopt_orphans(True)
        for fd in self._succession.descriptors:
            self._kernel.watch(fd)
        return event

    def _end_successor(self) -> None:
        before = self._succession.descriptors
        self._succession.withdraw(self._kernel.terminate)
        for fd in before:
            if fd not in self._succession.descriptors:
                self._kernel.unwatch(fd)

    def _report(self, report: ev.Report) -> None:
        level = logging.getLevelNamesMapping()[report.level.value]
        if report.level is ev.Level.ERROR:
            self.reason = report.text
        extra = {"slot": report.slot, "generation": report.generation, "subject_pid": report.pid}
        logger.log(level, "%s", report.text, extra=extra)

    def _finish(self, action: ev.Finish) -> None:
        self.code = Exit(action.code)
