"""What the service manager is told of the machine, and when: ready, reloading, stopping, status, watchdog."""

from __future__ import annotations

import math

from hybrid.supervisor.children.kernel import Kernel
from hybrid.supervisor.contact.notify_socket import NotifySocket
from hybrid.supervisor.core.base import OVER
from hybrid.supervisor.core.machine import Machine

_LAST_WORDS = 1.0  # seconds for a manager whose queue is full, at the end
_RETRY = 0.2  # seconds until what the manager had no room for is sent again, or a worker may turn again


class SystemdNotifier:
    """Compares the machine with what was said, once a turn of the shell. Only `finish` blocks."""

    def __init__(self, notify_socket: NotifySocket, machine: Machine) -> None:
        self._socket = notify_socket
        self._machine = machine
        self._is_ready = False  # READY=1 was said, and nothing that takes it back
        self._is_stopping = False
        self._is_asked = False  # the manager may be waiting for RELOADING=1
        self._feeds_at = 0.0 if notify_socket.watchdog_interval is not None else math.inf
        self._retries_at = math.inf

    @property
    def due(self) -> float | None:
        """When `tell` has something to do that nothing else wakes the shell for; None: never."""
        due = min(self._feeds_at, self._retries_at)
        return None if due == math.inf else due

    def reload_asked(self) -> None:
        """A reload was asked for: it is to be told, also if it fails before `tell` is called (systemd.service(5))."""
        self._is_asked = True

    def tell(self, now: float) -> None:
        """Say what has changed; `now` in monotonic seconds."""
        machine, notify_socket = self._machine, self._socket
        if machine.has_successor:  # the other one speaks; but what was said before may still be on its way
            self._feeds_at = math.inf
        else:
            if machine.phase in OVER:
                self._tell_stopping()
            else:
                self._tell_reloads()
            notify_socket.status(machine.summary())
            self._feed(now)
        if notify_socket.has_unsent and now >= self._retries_at:
            notify_socket.retry()
            self._retries_at = now + _RETRY
        self._retries_at = min(self._retries_at, now + _RETRY) if notify_socket.has_unsent else math.inf

    def finish(self, kernel: Kernel) -> None:
        """Before the end: give the manager a moment to take what it had no room for. Blocks so long.

        It may be the word that another process is the main one, without which our end is the service's for systemd.
        """
        deadline = kernel.now() + _LAST_WORDS
        while self._socket.has_unsent and kernel.now() < deadline:
            kernel.wait(_RETRY / 4)
            kernel.take_signals()  # or it would wait no more
            self._socket.retry()

    def _tell_stopping(self) -> None:
        if not self._is_stopping:
            self._is_stopping = True
            self._socket.stopping()

    def _tell_reloads(self) -> None:
        """Say that a reload has begun, and ready when there is none, or none any more."""
        machine = self._machine
        if self._is_ready and (machine.is_reloading or self._is_asked):
            self._is_ready = False
            self._socket.reloading()
        self._is_asked = False
        if machine.has_started and not machine.is_reloading and not self._is_ready:
            self._is_ready = True
            self._socket.ready()

    def _feed(self, now: float) -> None:
        """Feed the watchdog while some worker serves, and while none is to: at the start and at the end.

        One that is busy serves, until its turn takes for longer than the watchdog may wait.
        """
        interval = self._socket.watchdog_interval
        if interval is None or now < self._feeds_at:
            return
        machine = self._machine
        if machine.has_turned_since(now - interval) or not machine.has_started or machine.phase in OVER:
            self._feeds_at = now + interval
            self._socket.watchdog()
        else:
            self._feeds_at = now + min(interval, _RETRY)
