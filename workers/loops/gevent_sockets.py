"""`HandlerSocket`: gevent's socket for a sync handler, which closes without loss and is fair to other greenlets.

Everything else is gevent's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
from gevent import socket as gevent_socket

from hybrid.workers.common import lingering
from hybrid.workers.common.fairness import Turn

INSTANT = 1e-6  # seconds; gevent wakes such a sleeper after a poll, but up to 50 that sleep for 0 before it
_base = gevent_socket.socket
# `super()` in each call cost an echo server nearly a tenth of its messages (python -m benchmarks echo)
_recv, _recv_into, _send, _sendall = _base.recv, _base.recv_into, _base.send, _base.sendall


class HandlerSocket(_base):
    """An accepted connection. For use in greenlets other than the hub's."""

    loop: Any = None
    """The asyncio loop on which its close lingers."""
    turn: Turn
    """The turn of gevent's hub."""
    is_due: Callable[[], bool]
    """`turn.is_due`, bound once."""
    forks = lingering.NEVER
    """`lingering.forks` at the accept, or `NEVER`."""
    _sock: Any
    hub: Any

    def take_turns(self, turn: Turn) -> None:
        """Count operations with `turn`. Called once, before the first of them."""
        self.turn = turn
        self.is_due = turn.is_due

    def _real_close(self, *args: Any) -> None:
        """Called by `close()` once no file of `makefile` is open any more. Does not block."""
        forks, self.forks = self.forks, lingering.NEVER
        if forks != lingering.NEVER:
            family = lingering.family_of(self._sock)
            if lingering.is_due(self._sock.fileno(), family, forks):
                lingering.linger(self.loop, self.detach(), family)
                return
        super()._real_close(*args)  # type: ignore[misc]  # the hook that gevent's close() calls

    def detach(self) -> int:
        """As gevent's."""
        self.forks = lingering.NEVER
        return super().detach()

    def fileno(self) -> int:
        """Return the descriptor. The caller may share it, so the connection does not linger when it is closed here."""
        self.forks = lingering.NEVER
        return super().fileno()

    def dup(self) -> HandlerSocket:
        """As gevent's. Neither socket lingers then: the other one may be reading."""
        other: HandlerSocket = super().dup()
        other.take_turns(self.turn)
        return other

    def recv(self, *args: Any) -> bytes:
        """As gevent's."""
        received: bytes = _recv(self, *args)
        if not received and args[0]:
            self.forks = lingering.NEVER  # no more input can cause a reset
        if self.is_due():
            self._give_way()
        return received

    def recv_into(self, *args: Any) -> int:
        """As gevent's."""
        count: int = _recv_into(self, *args)
        if self.is_due():
            self._give_way()
        return count

    def send(self, *args: Any, **options: Any) -> int:
        """As gevent's; `sendall` goes through it too."""
        sent: int = _send(self, *args, **options)
        if self.is_due():
            self._give_way()
        return sent

    def sendall(self, data: Any, flags: int = 0) -> None:
        """As gevent's, but does not ask for the kernel's buffer size. Benchmark: `python -m benchmarks echo`."""
        if type(data) is bytes and data:
            try:
                sent = self._sock.send(data, flags)
            except BlockingIOError:
                sent = 0
            if sent == len(data):
                if self.is_due():
                    self._give_way()
                return
            data = memoryview(data)[sent:]
        _sendall(self, data, flags)

    def _give_way(self) -> None:
        """Let other greenlets run after an operation that may not have waited; see `fairness`."""
        if self.timeout != 0 and self.turn.is_long() and gevent.getcurrent() is not self.hub:
            gevent.sleep(INSTANT)
