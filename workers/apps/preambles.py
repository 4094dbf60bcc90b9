"""Reads the PROXY header of new connections, and nothing after it, before TLS and HTTP begin."""

from __future__ import annotations

import _socket
import asyncio
import socket
from collections.abc import Callable

from hybrid.workers.common.connections import Connection, printable
from hybrid.workers.http.proxy_protocol import MAX_V2, Preamble, ProxyHeader, ProxyProtocolError
from hybrid.workers.runtime import Accepted

Opened = Callable[[Accepted, Connection, Preamble], object]
"""Called with a connection whose next byte is the client's own."""


class PendingPreambles:
    """All connections of a worker without a complete PROXY header. Belongs to the loop's thread.

    Bytes are peeked at before they are read (MSG_PEEK, recv(2)), because the bytes after the header belong to the
    transport that follows. Bytes that certainly belong to the header are read at once: if half a header stayed in the
    kernel, the descriptor would be reported as readable again and again.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, timeout: float, trusts: Callable[[Accepted], bool], opened: Opened
    ) -> None:
        """`timeout`: seconds for a header, 0 for no limit; `trusts` returns True if the peer may send one."""
        self._loop = loop
        self._timeout = timeout
        self._trusts = trusts
        self._opened = opened
        self._pending: set[_PendingPreamble] = set()

    def receive(self, accepted: Accepted, entry: Connection) -> None:
        """Read the header of a connection; until then, `entry.end` closes the connection. Called from the loop."""
        pending = _PendingPreamble(self, accepted, entry)
        if not self._trusts(accepted):
            pending.refuse("it is not in --forwarded-allow-ips, so its PROXY header is not trusted")
            return
        self._pending.add(pending)
        entry.end = pending.close
        pending.start(self._loop, self._timeout)

    def drain(self, timeout: float) -> None:
        """The worker stops: wait at most `timeout` seconds for pending headers; 0 changes nothing."""
        if not timeout:
            return
        self._timeout = min(self._timeout or timeout, timeout)
        for pending in self._pending:
            pending.set_deadline(self._loop, self._timeout)

    def interrupt(self) -> None:
        """Stop waiting."""
        for pending in list(self._pending):
            pending.refuse("the worker is stopping")

    def came(self, pending: _PendingPreamble, preamble: Preamble) -> None:
        """Open the connection: its header is complete."""
        self._pending.discard(pending)
        accepted = pending.accepted
        if preamble.client is not None:
            pending.entry.address = preamble.client
            accepted = accepted._replace(address=preamble.client)
        self._opened(accepted, pending.entry, preamble)

    def closed(self, pending: _PendingPreamble) -> None:
        """Forget a connection that closed without a header."""
        self._pending.discard(pending)


class _PendingPreamble:
    """One connection until its header is complete."""

    def __init__(self, owner: PendingPreambles, accepted: Accepted, entry: Connection) -> None:
        listener = accepted.listener
        self.accepted = accepted
        self.entry = entry
        self._owner = owner
        # not `socket.socket`, which gevent may have patched and which would then create watchers
        self._sock = _socket.socket(listener.family, listener.type, listener.proto, accepted.fd)
        self._header = ProxyHeader()
        self._is_begun = False
        self._loop: asyncio.AbstractEventLoop | None = None  # the loop that watches the descriptor
        self._timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop, timeout: float) -> None:
        """Read the available bytes, and wait for the rest."""
        if not self._read():
            self._loop = loop
            loop.add_reader(self.accepted.fd, self._read)
            if timeout:
                self.set_deadline(loop, timeout)

    def set_deadline(self, loop: asyncio.AbstractEventLoop, timeout: float) -> None:
        """Wait at most `timeout` seconds from now, and never longer than before."""
        when = loop.time() + timeout
        if self._timer is not None:
            when = min(when, self._timer.when())
            self._timer.cancel()
        self._timer = loop.call_at(when, self.refuse, "its PROXY header did not arrive in time")

    def _read(self) -> bool:
        """Read the available bytes; return True if no more are needed."""
        try:
            data = self._sock.recv(MAX_V2, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            preamble = self._header.feed(data) if data else None
            left = len(data) - (0 if preamble is None else len(preamble.rest))
            while left:
                left -= len(self._sock.recv(left, socket.MSG_DONTWAIT))
        except BlockingIOError:
            return False
        except OSError as error:
            self.refuse(f"the connection is lost: {error.strerror}")
        except ProxyProtocolError as error:
            self.refuse(error.reason)
        else:
            if preamble is not None:
                self._stop_watching()
                self._sock.detach()
                self._owner.came(self, preamble)
            elif data:
                self._is_begun = True
                return False
            else:
                self._ended()
        return True

    def _ended(self) -> None:
        if self._is_begun:
            self.refuse("it ended within its PROXY header")
        else:  # a port probe
            self.close()

    def refuse(self, reason: str) -> None:
        """Close the connection and log the reason."""
        self.entry.registry.incidents.log("closing the connection of %s: %s", printable(self.accepted.address), reason)
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._stop_watching()
        self._sock.close()
        self._owner.closed(self)
        self.entry.closed()

    def _stop_watching(self) -> None:
        """Stop watching the descriptor."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._loop is not None:
            self._loop.remove_reader(self.accepted.fd)
            self._loop = None
