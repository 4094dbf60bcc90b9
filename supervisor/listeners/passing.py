"""The queues in which workers pass connections to siblings with fewer: one per slot, held for the supervisor's life.

As with accept queues, the death of a worker loses nothing: its successor, or a sibling, takes what waits there.

Each is a UNIX datagram socket that is connected to itself. So one descriptor has both ends, and the kernel refuses the
datagrams of all other sockets (`unix_may_send`, net/unix/af_unix.c), although its name is visible to all accounts.
"""

from __future__ import annotations

import socket

from hybrid.workers.contract.worker_spec import Listener, ListenerKind


class PassingQueues:
    """The queues of a service's slots."""

    def __init__(self) -> None:
        """Opens none yet."""
        self.listeners: list[Listener] = []
        """In order of slots."""

    def grow(self, slots: int) -> None:
        """Open queues until there are `slots`. Raises `OSError`; those that are open stay. Does not block."""
        while len(self.listeners) < slots:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                sock.setblocking(False)
                sock.bind("")  # the kernel chooses a name, see unix(7), autobind
                sock.connect(sock.getsockname())
            except BaseException:
                sock.close()
                raise
            self.listeners.append(Listener(ListenerKind.PASSED.value, ListenerKind.PASSED, sock, len(self.listeners)))

    def close(self) -> None:
        """Close all; may be called twice."""
        for listener in self.listeners:
            listener.sock.close()
        self.listeners.clear()
