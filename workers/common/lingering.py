"""Closing without loss: end the stream, read and drop remaining input, then close.

close(2) with unread input sends a reset, and so does input that arrives right after it. A reset destroys output that
the peer has not received yet (RFC 9112, section 9.6; on a UNIX socket it turns the end of the stream into an error). So
a connection is checked before its close: `is_due`, two cheap system calls. If that finds unread input, or output that
the peer has not acknowledged, `linger` takes over the descriptor: shutdown(SHUT_WR), read until the end, close(2).

`Farewell` decides when to close; `_Linger` is the same on all six loops. Only a drain waits for it (`wait_none`); the
handler continues immediately. Lingering is bounded in time, bytes and number of connections.
"""

from __future__ import annotations

import _socket
import asyncio
import contextlib
import dataclasses
import os
import socket
import struct
import weakref
from fcntl import ioctl
from termios import FIONREAD, TIOCOUTQ

SECONDS = 2.0  # that one connection may linger, no matter what the peer does
MOST_BYTES = 64 << 20  # of input that are read and dropped
MOST_AT_ONCE = 256  # connections on one loop; one more ends the oldest early
_FIRST_LOOK, _LAST_LOOK = 0.01, 0.16  # seconds between checks for the peer's acknowledgement; they double
_MOST_READS = 16  # reads in one turn of the loop
_NONE = b"\0\0\0\0"
_NO_LINGER = struct.pack("ii", 0, 0)
family_of = _socket.socket.family.__get__
"""Return the address family of a socket as a plain number; the property of `socket.socket` makes an enum member."""
_scratch = bytearray(65_536)  # never read
TCP = frozenset({int(socket.AF_INET), int(socket.AF_INET6)})

INPUT_ONLY = int(socket.AF_UNSPEC)  # used in place of a family, see `is_due`

forks = 0
"""How often this process has forked. Each connection stores this number when it is accepted, because a child may
serve a connection that its parent closes. `NEVER` instead: the connection closes without lingering."""
NEVER = -1


def _count_fork() -> None:
    global forks
    forks += 1


os.register_at_fork(after_in_parent=_count_fork)


def is_due(fd: int, family: int, forks_then: int) -> bool:
    """Return True if close(2) now might destroy output on its way to the peer. Does not block; 0.8 us (measured).

    `forks_then`: `forks` at the accept, or `NEVER`. After a fork it is not due: the child may be reading. `family`:
    `INPUT_ONLY` for a peer that has ended its stream: only unread input counts then.
    """
    if forks_then != forks:
        return False
    found = bytearray(4)  # an int; a call with `bytes`, which returns new ones, takes twice as long
    try:
        ioctl(fd, FIONREAD, found)
        if found != _NONE:
            return True
        if family in TCP:  # on a UNIX socket it counts bytes that the peer has not read; a close does not destroy them
            ioctl(fd, TIOCOUTQ, found)
        return found != _NONE
    except (OSError, ValueError):  # closed already, or not a stream
        return False


@dataclasses.dataclass(slots=True)
class Farewell:
    """Decides when to close a connection whose stream has ended on this side."""

    expects_input: bool
    """True if the peer was sending: wait for the end of its stream. Otherwise wait until it has acknowledged ours."""
    dropped: int = 0
    """Bytes of input."""

    def heard(self, count: int) -> None:
        """`count` bytes of input were dropped."""
        self.expects_input = True
        self.dropped += count

    def is_over(self, peer_ended: bool, unacknowledged: bool, elapsed: float) -> bool:
        """Return True if a close loses nothing, or if it has waited long enough (`elapsed` in seconds)."""
        if peer_ended or elapsed >= SECONDS or self.dropped >= MOST_BYTES:
            return True
        return not (self.expects_input or unacknowledged)


def drop_input(sock: _socket.socket) -> tuple[int, bool]:
    """Read and drop available input, up to 1 MiB; return the number of bytes, and True at the end of the stream."""
    dropped = 0
    for _ in range(_MOST_READS):
        try:
            count = sock.recv_into(_scratch, 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            break
        except OSError:
            return dropped, True
        if not count:
            return dropped, True
        dropped += count
    return dropped, False


def linger(loop: asyncio.AbstractEventLoop, fd: int, family: int, expects_input: bool = False) -> None:
    """Take over a connected, non-blocking descriptor and close it without loss. Returns immediately.

    `expects_input`: the peer is still sending. If the application has set SO_LINGER, the descriptor is just closed.
    Call it in the loop's thread. Raises nothing.
    """
    sock = _socket.socket(family, socket.SOCK_STREAM, 0, fd)
    farewell = Farewell(expects_input)
    try:
        if loop.is_closed() or sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, len(_NO_LINGER)) != _NO_LINGER:
            sock.close()
            return
        sock.shutdown(socket.SHUT_WR)
    except OSError:  # the connection is lost
        sock.close()
        return
    _Linger(loop, sock, farewell).start()


class _Lingering:
    """The connections that linger on one loop."""

    def __init__(self) -> None:
        self.open: dict[_Linger, None] = {}  # oldest first
        self.emptied: asyncio.Future[None] | None = None


_rooms: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Lingering] = weakref.WeakKeyDictionary()


def count(loop: asyncio.AbstractEventLoop) -> int:
    """Return how many connections of a loop linger."""
    room = _rooms.get(loop)
    return len(room.open) if room else 0


def end_all(loop: asyncio.AbstractEventLoop | None) -> None:
    """Close the lingering connections of a loop now; does nothing for None."""
    room = None if loop is None else _rooms.get(loop)
    for one in list(room.open) if room else ():
        one.end()


async def wait_none(timeout: float) -> bool:
    """Wait, at most `timeout` seconds, until no connection lingers on the running loop; return True if none does."""
    room = _rooms.get(asyncio.get_running_loop())
    if room is not None and room.open and timeout > 0:
        room.emptied = asyncio.get_running_loop().create_future()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await room.emptied
        room.emptied = None
    return not (room and room.open)


class _Linger:
    """One connection, from the end of our stream to its close. Belongs to the loop's thread."""

    __slots__ = ("_began", "_farewell", "_is_watched", "_loop", "_pause", "_room", "_sock", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: _socket.socket, farewell: Farewell) -> None:
        self._loop = loop
        self._sock = sock
        self._farewell = farewell
        self._began = loop.time()
        self._pause = _FIRST_LOOK
        self._timer: asyncio.TimerHandle | None = None
        self._is_watched = False
        self._room = _rooms.get(loop)

    def start(self) -> None:
        """Close now if there is nothing to wait for; otherwise watch the descriptor."""
        if self._is_over():
            self._sock.close()
            return
        try:
            self._loop.add_reader(self._sock.fileno(), self._look)
        except (OSError, ValueError, RuntimeError):  # the loop cannot watch it, e.g. beyond select's limit
            self._sock.close()
            return
        self._is_watched = True
        if self._room is None:
            self._room = _rooms.setdefault(self._loop, _Lingering())
        while len(self._room.open) >= MOST_AT_ONCE:
            next(iter(self._room.open)).end()
        self._room.open[self] = None
        self._look_later()

    def _look(self) -> None:
        if self._is_watched and self._is_over():
            self.end()

    def _look_later(self) -> None:
        left = self._began + SECONDS - self._loop.time()
        self._timer = self._loop.call_later(max(0.0, min(self._pause, left)), self._look_again)

    def _look_again(self) -> None:
        self._pause = min(2 * self._pause, _LAST_LOOK)
        self._look()
        if self._is_watched:
            self._look_later()

    def _is_over(self) -> bool:
        farewell = self._farewell
        count, ended = drop_input(self._sock)
        if count:
            farewell.heard(count)
        unacknowledged = (
            not ended and not farewell.expects_input and is_due(self._sock.fileno(), self._sock.family, forks)
        )
        return farewell.is_over(ended, unacknowledged, self._loop.time() - self._began)

    def end(self) -> None:
        """Close now. May be called twice."""
        if not self._is_watched:
            return
        self._is_watched = False
        if self._timer is not None:
            self._timer.cancel()
        if not self._loop.is_closed():
            self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        room = self._room
        if room is not None:
            room.open.pop(self, None)
            if not room.open and room.emptied is not None and not room.emptied.done():
                room.emptied.set_result(None)
