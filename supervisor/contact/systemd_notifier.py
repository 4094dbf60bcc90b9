"""Decides what to send to the service manager: ready, reloading, stopping, status, watchdog."""

from __future__ import annotations

import math

from hybrid.supervisor.children.kernel import Kernel
from hybrid.supervisor.contact.notify_socket import NotifySocket
from hybrid.supervisor.core.base import OVER
from hybrid.supervisor.core.tree import Tree

_LAST_WORDS = 1.0  # seconds to wait at the end for a manager with a full queue
_RETRY = 0.2  # seconds until a full queue is tried again, or a stalled worker is checked again


class SystemdNotifier:
    """Compares the tree of services with the last notifications, once a turn of the shell. Only `finish` blocks."""

    def __init__(self, notify_socket: NotifySocket, tree: Tree) -> None:
        self._socket = notify_socket
        self._tree = tree
        self._is_ready = False  # READY=1 was sent, and neither RELOADING=1 nor STOPPING=1 since
        self._is_stopping = False
        self._told = -1  # the edition of the tree that was reported
        self._is_asked = False  # the manager may be waiting for RELOADING=1
        self._feeds_at = 0.0 if notify_socket.watchdog_interval is not None else math.inf
        self._retries_at = math.inf

    @property
    def due(self) -> float | None:
        """When `tell` must run even if nothing else wakes the shell; None: never."""
        due = min(self._feeds_at, self._retries_at)
        return None if due == math.inf else due

    def reload_asked(self) -> None:
        """Note a requested reload: it is reported even if it fails before the next `tell` (systemd.service(5))."""
        self._is_asked = True

    def tell(self, now: float) -> None:
        """Report the changes since the last call; `now` in monotonic seconds."""
        tree, notify_socket = self._tree, self._socket
        if tree.has_successor:  # the successor notifies; earlier messages may still be unsent
            self._feeds_at = math.inf
        else:
            if self._is_asked or self._told != tree.edition:
                self._told = tree.edition
                self._tell_changes()
            self._feed(now)
        if notify_socket.has_unsent and now >= self._retries_at:
            notify_socket.retry()
            self._retries_at = now + _RETRY
        self._retries_at = min(self._retries_at, now + _RETRY) if notify_socket.has_unsent else math.inf

    def finish(self, kernel: Kernel) -> None:
        """Wait a moment, before the end, until the manager has room for unsent messages. Blocks.

        One of them may name another main process; without it, systemd takes our end for the end of the service.
        """
        deadline = kernel.now() + _LAST_WORDS
        while self._socket.has_unsent and kernel.now() < deadline:
            kernel.wait(_RETRY / 4)
            kernel.take_signals()  # otherwise the next wait returns at once
            self._socket.retry()

    def _tell_changes(self) -> None:
        if self._tree.phase in OVER:
            self._tell_stopping()
        else:
            self._tell_reloads()
        self._socket.status(self._tree.summary())

    def _tell_stopping(self) -> None:
        if not self._is_stopping:
            self._is_stopping = True
            self._socket.stopping()

    def _tell_reloads(self) -> None:
        """Send RELOADING=1 when a reload begins, and READY=1 when none is in progress."""
        tree = self._tree
        if self._is_ready and (tree.is_reloading or self._is_asked):
            self._is_ready = False
            self._socket.reloading()
        self._is_asked = False
        if tree.has_started and not tree.is_reloading and not self._is_ready:
            self._is_ready = True
            self._socket.ready()

    def _feed(self, now: float) -> None:
        """Feed the watchdog while a worker serves, and at the start and the end, when none has to.

        A busy worker serves, unless its turn takes longer than the watchdog interval.
        """
        interval = self._socket.watchdog_interval
        if interval is None or now < self._feeds_at:
            return
        tree = self._tree
        if tree.has_turned_since(now - interval) or not tree.has_started or tree.phase in OVER:
            self._feeds_at = now + interval
            self._socket.watchdog()
        else:
            self._feeds_at = now + min(interval, _RETRY)
