"""Accepts connections: one at a time, within the capacity, and without spinning on errors.

Accepting one connection, serving it until it waits, and only then accepting the next leaves connections to idle
siblings: a batch accepted by a worker that then computes for 100 ms would wait with it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from typing import Any

from hybrid.workers.common.addresses import serves_both, unmapped
from hybrid.workers.common.connections import Connections
from hybrid.workers.runtime import Accepted, Listen, polled_by

RETRY = 0.5  # seconds between retries while the process or the system is out of descriptors or memory
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
BROKEN = frozenset(
    {errno.EBADF, errno.EINVAL, errno.ENOTSOCK}
)  # shut down or closed by the application: readable forever
_new: Callable[..., Accepted] = tuple.__new__  # saves the call of a function in Python, unlike `Accepted(...)`
_log = logging.getLogger("hybrid")


class Acceptor:
    """Accepts from one listener and passes each connection to `connected`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        connected: Callable[[Accepted], object],
        connections: Connections,
        capacity: int = 0,
        listen: Listen | None = None,
        broken: Callable[[str], object] | None = None,
        *,
        adopts: bool = False,
        passes: Callable[[int, Any], bool] | None = None,
        holds: Callable[[], float] | None = None,
    ) -> None:
        """`capacity`: the worker's maximum number of connections, 0: no limit. `listen`: see `Transports`.

        `broken` is called once, with the reason, if the listener fails permanently. The default logs it. `adopts`: the
        listener is that of another slot, and its connections are counted apart. `passes` is asked about each
        descriptor and peer's address: True means that the connection is a sibling's now. `holds` is called when
        connections begin to wait; it returns for how many seconds to leave them to others, 0: not at all.
        """
        self._loop = loop
        self._listener = listener
        self._connected = connected
        self._connections = connections
        self._capacity = capacity
        self._wanted = False
        self._listen = listen or polled_by(loop)
        self._broken = broken or _log_broken
        self._end: Callable[[], object] | None = None  # stops the polling; None if stopped
        self._exhausted = False  # out of descriptors or memory; already logged
        self._retry: asyncio.TimerHandle | None = None
        self._nodelay = listener.family in (socket.AF_INET, socket.AF_INET6) and not _has_nodelay(listener)
        self._passes = passes
        self._holds = holds
        self._no_hold_until = 0.0  # in the loop's time: what waits now was left to others for long enough
        self._accept: Callable[[], tuple[int, Any]] = listener._accept  # type: ignore[attr-defined]
        # ^ the C method behind `accept`: it returns a descriptor, from which the runtime makes the one object it needs
        self._serves_both = serves_both(listener)
        heartbeat = connections.heartbeat
        self._counts = heartbeat.adopts if adopts else heartbeat.accepts

    def start(self) -> None:
        """Start accepting, or resume after a pause. Raises `OSError` if the loop cannot poll the listener."""
        self._wanted = True
        self._poll()

    def pause(self) -> None:
        """Stop accepting until `start`; queued connections are left to other workers that poll the listener."""
        self._wanted = False
        self._no_hold_until = 0.0
        self._stop_polling()

    def stop(self) -> None:
        """Accept the connections already completed by the kernel, then stop: none of them may stay unanswered."""
        self.pause()
        for _ in range(socket.SOMAXCONN):
            if not self._accept_one():
                return

    @property
    def is_exhausted(self) -> bool:
        """True while the process or the system is out of descriptors or memory for a connection."""
        return self._exhausted

    def _poll(self) -> None:
        try:
            if self._wanted and self._end is None and not self._full():
                self._end = self._listen(self._listener.fileno(), self._accept_one)
        finally:  # also if the loop cannot poll it
            self._await_room()

    def _await_room(self) -> None:
        """Have the ends of connections call `_room` while the listener should be polled and is not, and only then."""
        on_discard = self._connections.on_discard
        awaits = self._wanted and self._end is None
        if awaits and self._room not in on_discard:
            on_discard.append(self._room)
        elif not awaits and self._room in on_discard:
            on_discard.remove(self._room)

    def _stop_polling(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        if self._end is not None:
            end, self._end = self._end, None
            end()
        self._await_room()

    def _full(self) -> bool:
        return bool(self._capacity) and len(self._connections) >= self._capacity

    def _room(self) -> None:
        """Resume after a connection has ended: there may be room, or a free descriptor."""
        if self._wanted and self._end is None and self._retry is None:
            self._poll()

    def _accept_one(self) -> bool:
        """Accept one connection, if any; return True if another attempt makes sense."""
        if self._capacity and self._wanted and self._full():  # filled by another listener's connection
            self._stop_polling()
            return False
        if self._holds is not None and self._wanted and self._is_held(self._holds):
            return False
        try:
            fd, address = self._accept()
        except BlockingIOError:
            self._no_hold_until = 0.0
            return False
        except OSError as error:
            return self._refused(error)
        if self._exhausted:
            self._exhausted = False
            _log.warning("accepting connections again")
        if self._nodelay:
            _set_nodelay(fd)
        if self._serves_both:
            address = unmapped(address)
        if self._passes is not None and self._wanted and self._passes(fd, address):
            return True
        self._counts()
        self._connected(_new(Accepted, (fd, address, self._listener)))
        if self._capacity and self._wanted and self._full():
            self._stop_polling()
        return True

    def _is_held(self, holds: Callable[[], float]) -> bool:
        """Return True if what waits is left to others for now; look again later."""
        now = self._loop.time()
        if now < self._no_hold_until or not (seconds := holds()):
            return False
        self._no_hold_until = now + 2 * seconds
        self._stop_polling()
        self._retry = self._loop.call_later(seconds, self._hold_ended)
        return True

    def _hold_ended(self) -> None:
        self._again()
        if self._end is not None:
            self._accept_one()  # if the others have taken all, the next ones are left to them again

    def _refused(self, error: OSError) -> bool:
        """Handle a failed accept(2). If the error belongs to the waiting connection itself, try the next one."""
        if error.errno in BROKEN:
            was_wanted = self._wanted  # else the supervisor has shut the listener down
            self.pause()
            if was_wanted:
                self._broken(error.strerror or str(error))
            return False
        if error.errno not in _EXHAUSTED:
            _log.debug("accept: %s", error)
            return True
        if not self._exhausted:
            self._exhausted = True
            _log.error(
                "cannot accept: %s; %d connections are open, the next ones wait in the backlog (see `ulimit -n`)",
                error.strerror,
                len(self._connections),
            )
        if self._wanted:
            self._stop_polling()
            self._retry = self._loop.call_later(RETRY, self._again)
        return False

    def _again(self) -> None:
        self._retry = None
        self._poll()


def _log_broken(why: str) -> None:
    _log.error("cannot accept connections: the listening socket is broken: %s", why)


def _has_nodelay(listener: socket.socket) -> bool:
    """Return True if connections inherit TCP_NODELAY from their listener, as on Linux (`sk_clone_lock`)."""
    try:
        return bool(listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
    except OSError:  # closed, or not a TCP socket
        return False


def _set_nodelay(fd: int) -> None:
    """Send small responses at once: Nagle's algorithm and the peer's delayed ACK cost 40 ms (measured)."""
    sock = socket.socket(fileno=fd)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        pass  # the peer is gone already; the first read will report it
    finally:
        sock.detach()
