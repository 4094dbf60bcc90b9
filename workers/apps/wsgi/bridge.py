"""`Bridge`: a pair of sockets between an application and its connection. One end is the application's, one is ours.

The application gets a socket of the system, which it may block on, poll, and give to a thread. The loop carries the
bytes between the other end and the transport. Giving the connection's own socket away would cost less, but it could
not speak TLS, it would lack bytes that were read with the head of the request, and loops keep their descriptors.
So the loop also goes on to see to clients that are slow or gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any, Protocol

_PIECE = 65_536  # bytes that are carried at once


class BridgeOwner(Protocol):
    """What a bridge asks of the connection's side. All calls come in the loop's thread."""

    def forward(self, data: bytes) -> bool:
        """The application has sent `data`. Returns whether the client takes more now."""
        ...

    def closed(self) -> None:
        """The application has closed its end."""
        ...

    def has_room(self) -> None:
        """The application has room for the client's bytes again."""
        ...


class ClientSocket(socket.socket):
    """The application's end, which gives the addresses of the client's connection."""

    peer: Any = ""
    own: Any = ""

    def getpeername(self) -> Any:
        """Return the address of the client."""
        return self.peer

    def getsockname(self) -> Any:
        """Return the address that the client has connected to."""
        return self.own

    def __del__(self) -> None:
        """Close it where the application has not: it could not know that it must, and gets no warning.

        Not earlier: a thread of its own may be about to read, from a number that would then be another descriptor's.
        """
        self.close()


class Bridge:
    """One pair of sockets. Belongs to the loop's thread, but for `is_used` and `far`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: BridgeOwner, peer: Any, own: Any) -> None:
        """`peer` and `own` are the addresses of the connection. Raises `OSError`, `ValueError` if there is no room."""
        self._loop = loop
        self._owner = owner
        near, far = socket.socketpair()
        near.setblocking(False)
        self._near = near
        self.far = ClientSocket(far.family, far.type, far.proto, far.detach())
        """The application's end, which blocks (on gevent: the greenlet)."""
        self.far.settimeout(None)
        self.far.peer, self.far.own = peer, own
        self._unsent = bytearray()  # for the application, which has had no room
        self._ended = False  # nothing comes behind that
        self._used = False
        self._reading = False
        try:
            self.start_forwarding()
        except BaseException:  # the number of its descriptor may be too high for select(2)
            near.close()
            self.far.close()
            raise

    def is_used(self) -> bool:
        """Tell whether the application has sent something, or has closed its end. From any thread."""
        if not self._used:
            try:
                self._near.recv(1, socket.MSG_PEEK)
            except OSError:  # nothing is there, or this end is closed
                return self._used
        return True

    # -- from the application to the client ------------------------------------------------------------------------

    def start_forwarding(self) -> None:
        """Carry the application's bytes from now on."""
        if not self._reading and self._near.fileno() >= 0:
            self._reading = True
            self._loop.add_reader(self._near.fileno(), self._readable)

    def _stop_forwarding(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._near.fileno())

    def _readable(self) -> None:
        self._used = True  # before the read: `is_used` sees one or the other
        try:
            data = self._near.recv(_PIECE)
        except BlockingIOError:
            return
        except OSError:  # the application has closed its end before it has read everything
            data = b""
        if not data:
            self._stop_forwarding()
            self._owner.closed()
        elif not self._owner.forward(data):
            self._stop_forwarding()

    def drain(self) -> None:
        """Carry all that the application has sent so far, and let it send no more.

        A thread that still sends gets EPIPE. Otherwise it could keep the loop here for as long as it sends.
        """
        with contextlib.suppress(OSError):
            self._near.shutdown(socket.SHUT_RD)  # what was sent before can still be read (unix(7))
            while data := self._near.recv(_PIECE):
                self._used = True
                self._owner.forward(data)

    # -- from the client to the application ------------------------------------------------------------------------

    def feed(self, data: bytes) -> bool:
        """Give `data` to the application; return whether it takes more now. If not, `has_room` is called later."""
        if not self._unsent and self._near.fileno() >= 0:
            try:
                data = data[self._near.send(data) :]
            except BlockingIOError:
                pass
            except OSError:  # the application's end is closed: `closed` tells
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
        """Let the application read the end of the stream, behind the bytes that have come."""
        self._ended = True
        if not self._unsent:
            self._shut()

    def _shut(self) -> None:
        with contextlib.suppress(OSError):  # closed, or ended before
            self._near.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close this end: the application reads the end of the stream, and can send no more. May be called twice."""
        fd = self._near.fileno()
        if fd < 0:
            return
        self._stop_forwarding()
        if self._unsent:
            self._loop.remove_writer(fd)
            with contextlib.suppress(OSError):  # as much as fits: it may be the last word of a client that has gone
                self._near.send(self._unsent)
            self._unsent.clear()
        used = self.is_used()
        self._near.close()
        if not used:
            self.far.close()
