"""`Bridge`: a socket pair between an application and its connection. One end is the application's, one is ours.

The application gets a real socket: it may block on it, poll it, and pass it to a thread. The loop forwards bytes
between the other end and the transport. Passing the connection's own socket would cost less, but it could not speak
TLS, it would lack bytes that were read together with the request's head, and loops keep their descriptors. This way the
loop also still handles slow and disconnected clients.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any, Protocol

_PIECE = 65_536  # bytes forwarded at once


class BridgeOwner(Protocol):
    """The connection's side of a bridge. All calls come from the loop's thread."""

    def forward(self, data: bytes) -> bool:
        """Send `data` from the application; return True if the client accepts more now."""
        ...

    def closed(self) -> None:
        """Called when the application has closed its end."""
        ...

    def has_room(self) -> None:
        """Called when the application has room for the client's bytes again."""
        ...


class ClientSocket(socket.socket):
    """The application's end, which reports the addresses of the client's connection."""

    peer: Any = ""
    own: Any = ""

    def getpeername(self) -> Any:
        """Return the address of the client."""
        return self.peer

    def getsockname(self) -> Any:
        """Return the address that the client connected to."""
        return self.own

    def __del__(self) -> None:
        """Close the socket if the application has not: it cannot know that it must, and gets no warning.

        Not earlier: one of its threads may be about to read from a descriptor number that would then be reused.
        """
        self.close()


class Bridge:
    """One socket pair. Belongs to the loop's thread, except for `is_used` and `far`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: BridgeOwner, peer: Any, own: Any) -> None:
        """`peer`, `own`: addresses of the connection. Raises `OSError`, `ValueError` without free descriptors."""
        self._loop = loop
        self._owner = owner
        near, far = socket.socketpair()
        near.setblocking(False)
        self._near = near
        self.far = ClientSocket(far.family, far.type, far.proto, far.detach())
        """The application's end; blocking (on gevent, for the greenlet)."""
        self.far.settimeout(None)
        self.far.peer, self.far.own = peer, own
        self._unsent = bytearray()  # waiting for room at the application's end
        self._ended = False  # nothing follows `_unsent`
        self._used = False
        self._reading = False
        try:
            self.start_forwarding()
        except BaseException:  # its descriptor number may be too high for select(2)
            near.close()
            self.far.close()
            raise

    def is_used(self) -> bool:
        """Return True if the application has sent something or closed its end. Callable from any thread."""
        if not self._used:
            try:
                self._near.recv(1, socket.MSG_PEEK)
            except OSError:  # nothing to read, or this end is closed
                return self._used
        return True

    # -- from the application to the client ------------------------------------------------------------------------

    def start_forwarding(self) -> None:
        """Start forwarding the application's bytes."""
        if not self._reading and self._near.fileno() >= 0:
            self._reading = True
            self._loop.add_reader(self._near.fileno(), self._readable)

    def _stop_forwarding(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._near.fileno())

    def _readable(self) -> None:
        self._used = True  # before the read: `is_used` checks both
        try:
            data = self._near.recv(_PIECE)
        except BlockingIOError:
            return
        except OSError:  # the application has closed its end without reading everything
            data = b""
        if not data:
            self._stop_forwarding()
            self._owner.closed()
        elif not self._owner.forward(data):
            self._stop_forwarding()

    def drain(self) -> None:
        """Forward everything the application has sent so far, and stop it from sending more.

        A thread that still sends gets EPIPE. Otherwise it could keep the loop here for as long as it sends.
        """
        with contextlib.suppress(OSError):
            self._near.shutdown(socket.SHUT_RD)  # earlier data can still be read (unix(7))
            while data := self._near.recv(_PIECE):
                self._used = True
                self._owner.forward(data)

    # -- from the client to the application ------------------------------------------------------------------------

    def feed(self, data: bytes) -> bool:
        """Pass `data` to the application; return True if it accepts more now. If not, `has_room` is called later."""
        if not self._unsent and self._near.fileno() >= 0:
            try:
                data = data[self._near.send(data) :]
            except BlockingIOError:
                pass
            except OSError:  # the application's end is closed: `closed` reports it
                return True
            if data:
                self._loop.add_writer(self._near.fileno(), self._writable)
        self._unsent += data
        return not self._unsent

    def _writable(self) -> None:
        try:
            count = self._near.send(self._unsent[:_PIECE])
        except BlockingIOError:
            return
        except OSError:
            count = len(self._unsent)
        del self._unsent[:count]
        if not self._unsent:
            self._loop.remove_writer(self._near.fileno())
            if self._ended:
                self._shut()
            self._owner.has_room()

    def end(self) -> None:
        """Let the application read the end of the stream, after the bytes received so far."""
        self._ended = True
        if not self._unsent:
            self._shut()

    def _shut(self) -> None:
        with contextlib.suppress(OSError):  # closed, or ended before
            self._near.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close this end: the application reads the end of the stream, and can no longer send. Idempotent."""
        fd = self._near.fileno()
        if fd < 0:
            return
        self._stop_forwarding()
        if self._unsent:
            self._loop.remove_writer(fd)
            with contextlib.suppress(OSError):  # as much as fits: these may be the last bytes of a client that has gone
                self._near.send(self._unsent)
            self._unsent.clear()
        used = self.is_used()
        self._near.close()
        if not used:
            self.far.close()
