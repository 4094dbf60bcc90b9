"""The channel between supervisor and worker: a socket pair that carries whole messages and never blocks.

`SOCK_SEQPACKET` keeps message boundaries (unix(7)), so there is no framing that could get out of step. The death of one
side is an EOF for the other, so each process must hold exactly one end (see `spawn`).
"""

from __future__ import annotations

import collections
import errno
import os
import socket
from collections.abc import Sequence

from hybrid.workers.contract import wire
from hybrid.workers.contract.messages import MAX_MESSAGE, Message, MessageError, decode, encode

_NO_ROOM = frozenset({errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS})  # a later try may succeed
_MAX_PENDING = 64  # messages; a stopped supervisor must not make a worker grow


class ChannelClosed(ConnectionError):  # noqa: N818 - an event, as the standard library's BrokenPipe is
    """The other side is gone."""


class Channel:
    """One end of the channel. No method blocks; all may be called from a greenlet or a callback."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._pending: collections.deque[bytes] = collections.deque()  # encoded messages waiting for room in the socket

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
        """The number of messages waiting for room in the socket; while not 0, poll for writability and `flush`."""
        return len(self._pending)

    def send_nowait(self, message: Message) -> bool:
        """Send `message`, or keep it until `flush`; return True if nothing is left waiting.

        Drops the oldest waiting message when 64 wait: messages report the state of a worker, and only the newest one
        counts. Raises `ChannelClosed`.
        """
        if len(self._pending) >= _MAX_PENDING:
            self._pending.popleft()
        self._pending.append(encode(message))
        return self.flush()

    def flush(self) -> bool:
        """Send waiting messages while there is room; return True if none is left. Raises `ChannelClosed`."""
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
        """Send `message` with `descriptors`; return False, with nothing sent, if there is no room.

        The receiver gets duplicates, at most `wire.MOST_DESCRIPTORS`. Raises `ChannelClosed`.
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
        """Return the next message, or None if none has arrived. The kernel discards its descriptors.

        Raises `ChannelClosed` at EOF, and `MessageError` for a bad message (the next one may be good).
        """
        try:
            datagram = self._receive()
        except BlockingIOError:
            return None
        except OSError as error:
            raise ChannelClosed(str(error)) from error
        if not datagram:
            raise ChannelClosed("the other side is gone")
        return decode(datagram)

    def _receive(self) -> bytes:
        """Return a datagram. Raises `OSError`.

        A peer that ends with unread messages leaves ECONNRESET, once, before the last messages that it has sent
        (`unix_release_sock`, net/unix/af_unix.c). Those may say why it ended.
        """
        try:
            return self._sock.recv(MAX_MESSAGE)
        except ConnectionResetError:
            return self._sock.recv(MAX_MESSAGE)

    def take_over_nowait(self) -> tuple[Message, list[int]] | None:
        """Return the next message and its descriptors, which the caller must close; otherwise as `receive_nowait`.

        Some descriptors are missing if this process can hold no more (EMFILE). Use it only if the other side is
        trusted: only the supervisor sends descriptors.
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
        """Return the descriptor, and close this object without it."""
        return self._sock.detach()

    def close(self) -> None:
        """Close this end; may be called twice."""
        self._sock.close()
