"""Passes connections to siblings that have fewer, so that few long ones spread evenly over the workers.

The kernel chooses a listening socket by a hash, or at random, and knows no load. A worker that has accepted a
connection compares its count with those of its siblings in the scoreboard, and sends the descriptor to the one with the
fewest, through a queue that the supervisor holds (`supervisor.listeners.passing`). Nothing has been read from the
connection yet.

Short connections pay little for it: a worker passes on at most `_RATE` of them per second. If connections last, a
sibling that is busy gets its share too: otherwise the first worker that becomes free would keep all connections of the
meantime. They wait there for `PATIENCE` at most, then the others adopt its queue, as they do with accept queues; so
this needs the stall detector. If connections end as fast as they come, a busy sibling gets none: waiting would cost
them more than an even spread gains.

Rejected: to leave the connection in the queue for a sibling to fetch. All siblings would have to poll all queues, and
each connection would wake several of them.
"""

from __future__ import annotations

import errno
import itertools
import logging
import marshal
import operator
import os
import posix  # its close is not replaced by gevent, whose own one waits for the hub
import random
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sized
from time import monotonic
from typing import Any, Final

from hybrid.workers.contract.scoreboard import (
    ACCEPTED,
    ACTIVE,
    ADOPTED,
    ANSWERED,
    ASKED,
    BUSY_SINCE,
    STATE,
    Activity,
    Record,
    at,
)
from hybrid.workers.contract.worker_spec import is_shut_down
from hybrid.workers.runtime import Accepted, Address

_RATE: Final = 200.0  # connections per second; passing one takes 15 us of both workers together
_BURST: Final = 100.0  # connections that may be passed on at once
_MOST_COMPARED: Final = 12  # siblings; of more, that many neighbours from a random one on
_TRIES: Final = 3  # siblings
PATIENCE: Final = 0.2
"""Seconds for which a passed connection may wait for a busy worker: one that has been busy for longer gets none."""
_BUSY: Final = 0.002  # seconds: a sibling whose turn has lasted longer may let a connection wait
_WINDOW: Final = 0.25  # seconds
_ENDING: Final = 1 / 8  # connections last if within one or two windows a smaller part of a worker's has ended
_MUCH: Final = 2  # fewer connections; of connections that wait for a sibling with but one fewer
_WAITS_RATE: Final = 10.0  # so many are passed on per second,
_WAITS_BURST: Final = 20.0  # and so many at once
_LARGEST: Final = 1024  # bytes of a datagram: the two addresses
_PLACE: Final = 2**32 - 1
_ORDER: Final = sys.byteorder
_ROOM: Final = socket.CMSG_SPACE(4)
_FULL: Final = frozenset(
    {errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS, errno.EPIPE, errno.ECONNREFUSED}
)
_count = operator.itemgetter(0)
_log = logging.getLogger("hybrid")


class Passing:
    """The worker's side: decides which connections to pass on, and to whom. Belongs to the loop's thread."""

    def __init__(
        self,
        record: Record,
        queue_of: Callable[[int], Any],
        connections: Sized,
        capacity: int = 0,
        clock: Callable[[], float] = monotonic,
        *,
        is_adopted: bool = True,
    ) -> None:
        """`queue_of` returns the queue of another slot; None: this worker does not know it. `connections`: its own.

        `capacity`: the maximum number of connections of a worker, 0: no limit. `is_adopted`: what waits for a busy
        worker is adopted soon, because the supervisor looks out for stalls.
        """
        self._is_adopted = is_adopted
        self._board = record.board
        self._own = record.place
        self._queue_of = queue_of
        self._connections = connections  # the record counts those, too, that a sibling has passed and that wait
        self._capacity = capacity
        self._clock = clock
        self._tokens = _BURST
        self._waits = _WAITS_BURST
        self._counted_at = clock()
        self._ended = (0, 0)  # connections of this worker, until the window before began, and until this one did
        self._window_at = 0.0  # when that was
        self._has_failed = False

    def passes(self, fd: int, address: Address, listener: str) -> bool:
        """Pass a connection on if a sibling has fewer; return True if it was, and `fd` is closed. Does not block.

        `listener`: the address of the socket that it was accepted from.
        """
        numbers = self._board.numbers
        mine = numbers[at(self._own, ACTIVE)]
        if not mine:
            return False
        entries = self._board.receivers
        if len(entries) > _MOST_COMPARED:
            first = random.randrange(len(entries))
            entries = [*entries, *entries][first : first + _MOST_COMPARED]
        fewer = [(count, entry) for entry in entries if (count := numbers[at(entry & _PLACE, ACTIVE)]) < mine]
        if not fewer:
            return False
        now = self._clock()
        passed = now - self._counted_at
        self._tokens = min(_BURST, self._tokens + passed * _RATE)
        self._waits = min(_WAITS_BURST, self._waits + passed * _WAITS_RATE)
        self._counted_at = now
        if self._tokens < 1.0:
            return False
        chosen = self._chosen(fewer, mine, now, may_wait=self._is_adopted and self._connections_last(now))
        for count, entry, waits in itertools.islice(chosen, _TRIES):
            if self._send(entry >> 32, fd, address, listener):
                # Until it takes it, others must not pass theirs to it too. Each change and ping corrects its count.
                numbers[at(entry & _PLACE, ACTIVE)] = count + 1
                self._tokens -= 1.0
                self._waits -= waits
                return True
        return False

    def _connections_last(self, now: float) -> bool:
        """Return True if hardly any connections of this worker have ended lately."""
        numbers, count = self._board.numbers, len(self._connections)
        ended = numbers[at(self._own, ACCEPTED)] + numbers[at(self._own, ADOPTED)] - count
        windows = (now - self._window_at) / _WINDOW
        if windows >= 1:
            self._ended = (self._ended[1], ended) if windows < 2 else (ended, ended)
            self._window_at = now
        return ended - self._ended[0] <= count * _ENDING

    def holds(self, slot: int) -> float:
        """Return for how long what was passed to a sibling must be left to it, seconds; 0: others may adopt it."""
        now = self._clock()
        if not self._connections_last(now):
            return 0.0
        for entry in self._board.receivers:
            if entry >> 32 == slot:
                record = self._board.record(entry & _PLACE)
                is_ready = record.numbers[STATE] == Activity.READY
                return max(0.0, PATIENCE - busy_seconds(record, now)) if is_ready else 0.0
        return 0.0

    def _chosen(
        self, fewer: list[tuple[int, int]], mine: int, now: float, *, may_wait: bool
    ) -> Iterator[tuple[int, int, float]]:
        """Yield the siblings to try, each with its count and its price in waits: free ones, then busy ones."""
        random.shuffle(fewer)  # not always the same of those with equally few
        fewer.sort(key=_count)
        busy: list[tuple[int, int, float]] = []
        for count, entry in fewer:
            record = self._board.record(entry & _PLACE)
            if record.numbers[STATE] != Activity.READY or (self._capacity and count >= self._capacity):
                continue
            seconds = busy_seconds(record, now)
            if seconds <= _BUSY:
                yield count, entry, 0.0
            elif may_wait and seconds < PATIENCE:
                if mine - count >= _MUCH:
                    busy.append((count, entry, 0.0))
                elif self._waits >= 1.0:
                    busy.append((count, entry, 1.0))
        yield from busy

    def _send(self, slot: int, fd: int, address: Address, listener: str) -> bool:
        queue = self._queue_of(slot)
        if queue is None:
            return False
        try:
            data = marshal.dumps((listener, address))
            queue.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fd.to_bytes(4, _ORDER))])
        except OSError as error:
            if error.errno not in _FULL and not self._has_failed:
                self._has_failed = True
                _log.warning("cannot pass connections to other workers: %s", error.strerror)
            return False
        posix.close(fd)
        return True


def busy_seconds(record: Record, now: float) -> float:
    """Return for how long a worker's loop has been in one turn, or has not answered."""
    times = record.times
    asked = times[ASKED] if times[ASKED] > times[ANSWERED] else now
    return now - min(times[BUSY_SINCE] or now, asked)


class PassedQueue:
    """A queue of passed connections in the place of a listening socket. Non-blocking."""

    family = socket.AF_UNIX  # nothing is left to be set on what comes from it
    type = socket.SOCK_DGRAM

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return int(self._sock.fileno())

    def _accept(self) -> tuple[int, Any]:
        """Return a descriptor, and what was said of it: the address of the listener, and the peer's.

        Raises `OSError`, without losing a connection if this process is out of descriptors (EMFILE).
        """
        # first see that there is room: the kernel closes what has none (scm_detach_fds, net/core/scm.c)
        posix.close(os.dup(self._sock.fileno()))
        while True:
            try:
                data, ancillary, _, _ = self._sock.recvmsg(_LARGEST, _ROOM, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                if is_shut_down(self._sock):  # it would be readable forever
                    raise OSError(errno.EINVAL, "the queue was shut down") from None
                raise
            for level, kind, rights in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS and len(rights) == 4:
                    return int.from_bytes(rights, _ORDER), marshal.loads(data)


def unbalanced(why: str) -> None:
    """Log that this worker takes no connections of siblings any more; it serves its own."""
    _log.error("no connections of other workers are taken any more: %s", why)


def taken(connected: Callable[[Accepted], object], listeners: Mapping[str, Any]) -> Callable[[Accepted], object]:
    """Return what takes connections from a `PassedQueue` to `connected`, as accepted from the listeners they name.

    `listeners`: address -> the socket of this worker.
    """

    def connect(accepted: Accepted) -> None:
        name, address = accepted.address
        sock = listeners.get(name)
        if sock is None:  # it was passed on by a sibling with another configuration
            posix.close(accepted.fd)
            _log.error("a connection to %s was passed to this worker, which does not serve that address", name)
            return
        connected(Accepted(accepted.fd, address, sock))

    return connect
