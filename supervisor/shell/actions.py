"""Performs the actions of one service's machine. A table maps each action to its method."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from typing import Any

from hybrid.supervisor.children.forking import Forking
from hybrid.supervisor.children.handles import Children
from hybrid.supervisor.children.kernel import Kernel
from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.roles import ZYGOTE
from hybrid.supervisor.listeners.sockets import Listeners
from hybrid.supervisor.listeners.steering import SteeringError
from hybrid.supervisor.settings import Settings
from hybrid.supervisor.watch.stack_dumps import StackDumps
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
        stack_dumps: StackDumps,
        is_heir: Callable[[], bool],
        settings: Settings,
    ) -> None:
        """`is_heir` returns True while a predecessor owns the sockets."""
        self._kernel = kernel
        self._children = children
        self._forking = forking
        self._listeners = listeners
        self._stack_dumps = stack_dumps
        self._is_heir = is_heir
        self._settings = settings
        self._has_told_steering = False
        self._told_failures: set[str] = set()  # reasons why listening sockets cannot be repaired, as logged
        self._of_supervisor = self._methods_of_supervisor()
        self._of_child = self._methods_of_child()

    def _methods_of_supervisor(self) -> dict[type[ev.Action], Callable[[Any], ev.Event | None]]:
        """Return action -> method, which may answer with an event."""
        forking, listeners = self._forking, self._listeners
        return {
            ev.Fork: lambda action: forking.fork(action.slot, action.generation, action.zygote),
            ev.ForkZygote: lambda action: forking.fork_zygote(action.generation),
            ev.CallOff: lambda action: forking.call_off(action.slot),
            ev.Steer: self.steer,
            ev.MendListeners: lambda _: self.mend(),
            ev.TellStop: self._tell_stop,
            ev.HoldConnections: lambda _: listeners.hold(),
            ev.CheckQueues: lambda _: self._check_queues(),
            ev.RefuseConnections: lambda _: listeners.refuse(),
        }

    def _methods_of_child(self) -> dict[type[ev.Action], Callable[[Any], object]]:
        """Return action about one child -> method, called while the child is not reaped."""
        kernel, children, stack_dumps = self._kernel, self._children, self._stack_dumps
        return {
            ev.Drain: self._drain,
            ev.Promote: lambda action: children.promote(action.pid, ZYGOTE, action.generation),
            ev.Dump: lambda action: stack_dumps.open(action.pid, action.since, kernel.now(), aborts=False),
            ev.Abort: lambda action: stack_dumps.open(action.pid, action.since, kernel.now(), aborts=True),
            ev.Kill: self._kill,
            ev.Adopt: self._adopt,
        }

    def refit(self, settings: Settings) -> None:
        """Use other settings from now on."""
        self._settings = settings

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
        if self._is_heir():
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
            self._kernel.send(action.pid, self._settings.stop_signal)

    def _kill(self, action: ev.Kill) -> None:
        if self._settings.command:
            self._kernel.send(-action.pid, signal.SIGKILL)  # its process group; none before it has made one
        self._kernel.kill(action.pid)

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
