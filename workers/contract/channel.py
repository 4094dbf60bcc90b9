"""The channel between supervisor and worker: a pair of sockets that carries messages whole and never blocks.

`SOCK_SEQPACKET` keeps message boundaries (unix(7)), so there is no framing to get out of step. A worker's death is the
EOF of its end, the supervisor's death the EOF of the other: each process must hold exactly one end (see `spawn`).
"""

from __future__ import annotations

import collections
import errno
import os
import socket
from collections.abc import Sequence

from hybrid.workers.contract import wire
from hybrid.workers.contract.messages import MAX_MESSAGE, Message, MessageError, decode, encode

_NO_ROOM = frozenset({errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS})  # later there may be some
_MAX_PENDING = 64  # messages; a supervisor that is stopped for long must not make a worker grow


class ChannelClosed(ConnectionError):  # noqa: N818 - an event, as the standard library's BrokenPipe is
    """The other side is gone."""


class Channel:
    """One end of the channel. No method blocks; all may be called from a greenlet or a callback."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._pending: collections.deque[bytes] = collections.deque()  # encoded messages the socket had no room for

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Return two connected ends. Raises `OSError` (EMFILE, ENFILE, ENOMEM)."""
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(left), cls(right)

    def fileno(self) -> int:
        """Return the descriptor to poll: readable means a message or EOF; -1 once closed."""
        return self._sock.fileno()

    @property
    def pending(self) -> int:
        """How many messages wait for room in the socket; poll for writability and `flush` while it is not 0."""
        return len(self._pending)

    def send_nowait(self, message: Message) -> bool:
        """Send `message`, or keep it until `flush`; True if nothing is left waiting.

        The oldest waiting message is dropped when 64 wait: messages tell the state of a worker, and the newest is
        the one that counts. Raises `ChannelClosed`.
        """
        if len(self._pending) >= _MAX_PENDING:
            self._pending.popleft()
        self._pending.append(encode(message))
        return self.flush()

    def flush(self) -> bool:
        """Send what waits, as far as there is room; True if nothing is left. Raises `ChannelClosed`."""
        while self._pending:
            try:
                wire.send(self._sock, self._pending[0])
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno in _NO_ROOM:
                    return False
                raise ChannelClosed(str(error)) from error
            self._pending.popleft()
        return True

    def hand_over_nowait(self, message: Message, descriptors: Sequence[int]) -> bool:
        """Send `message` with `descriptors` beside it; False, and nothing sent, if there is no room.

        The receiver gets duplicates. At most `wire.MOST_DESCRIPTORS` of them. Raises `ChannelClosed`.
        """
        if self._pending:
            return False
        try:
            wire.send(self._sock, encode(message), descriptors)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in _NO_ROOM:
                return False
            raise ChannelClosed(str(error)) from error
        return True

    def receive_nowait(self) -> Message | None:
        """Return the next message, or None if none has arrived. Descriptors beside it are not taken: they are closed.

        Raises `ChannelClosed` at EOF and `MessageError` for a datagram that is no message (the next one may be).
        """
        try:
            datagram = self._sock.recv(MAX_MESSAGE)
        except BlockingIOError:
            return None
        except OSError as error:
            raise ChannelClosed(str(error)) from error
        if not datagram:
            raise ChannelClosed("the other side is gone")
        return decode(datagram)

    def take_over_nowait(self) -> tuple[Message, list[int]] | None:
        """Return the next message and the descriptors beside it, which are the caller's to close; else as above.

        There are fewer than were sent if this process may hold no more (EMFILE). For those who trust the other side:
        only the supervisor hands descriptors over.
        """
        try:
            datagram, descriptors, _ = wire.receive(self._sock, MAX_MESSAGE)
        except BlockingIOError:
            return None
        except OSError as error:
            raise ChannelClosed(str(error)) from error
        if not datagram:
            raise ChannelClosed("the other side is gone")
        try:
            return decode(datagram), descriptors
        except MessageError:
            for fd in descriptors:
                os.close(fd)
            raise

    def detach(self) -> int:
        """Give the descriptor away; this object is closed then."""
        return self._sock.detach()

    def close(self) -> None:
        """Close this end; may be called twice."""
        self._sock.close()
