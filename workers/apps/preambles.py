"""Connections whose PROXY header has not come yet: read it, and nothing behind it, before TLS and HTTP begin."""

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
    """All of a worker's. Belongs to the loop's thread.

    The bytes are looked at before they are taken (MSG_PEEK, recv(2)), because those behind the header belong to
    whatever transport comes next. What is surely header is taken at once: left in the kernel, half a header would be
    reported as readable again and again.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, timeout: float, trusts: Callable[[Accepted], bool], opened: Opened
    ) -> None:
        """`timeout` is the seconds a header may take, 0 for no limit; `trusts` tells from whom headers are taken."""
        self._loop = loop
        self._timeout = timeout
        self._trusts = trusts
        self._opened = opened
        self._pending: set[_PendingPreamble] = set()

    def receive(self, accepted: Accepted, entry: Connection) -> None:
        """Take the header of a connection, which `entry.end` ends until it has come. Called from the loop."""
        pending = _PendingPreamble(self, accepted, entry)
        if not self._trusts(accepted):
            pending.refuse("it is not one of --forwarded-allow-ips, whose PROXY headers are believed")
            return
        self._pending.add(pending)
        entry.end = pending.close
        pending.start(self._loop, self._timeout)

    def drain(self, timeout: float) -> None:
        """The worker stops: what has not come within `timeout` seconds is not waited for; 0 changes nothing."""
        if not timeout:
            return
        self._timeout = min(self._timeout or timeout, timeout)
        for pending in self._pending:
            pending.set_deadline(self._loop, self._timeout)

    def interrupt(self) -> None:
        """Wait no more."""
        for pending in list(self._pending):
            pending.refuse("the worker stops")

    def came(self, pending: _PendingPreamble, preamble: Preamble) -> None:
        """A header is complete."""
        self._pending.discard(pending)
        accepted = pending.accepted
        if preamble.client is not None:
            pending.entry.address = preamble.client
            accepted = accepted._replace(address=preamble.client)
        self._opened(accepted, pending.entry, preamble)

    def closed(self, pending: _PendingPreamble) -> None:
        """One has ended without a header."""
        self._pending.discard(pending)


class _PendingPreamble:
    """One connection, until its header is complete."""

    def __init__(self, owner: PendingPreambles, accepted: Accepted, entry: Connection) -> None:
        listener = accepted.listener
        self.accepted = accepted
        self.entry = entry
        self._owner = owner
        # not `socket.socket`, which is gevent's own where gevent has patched it, and would make watchers
        self._sock = _socket.socket(listener.family, listener.type, listener.proto, accepted.fd)
        self._header = ProxyHeader()
        self._is_begun = False
        self._loop: asyncio.AbstractEventLoop | None = None  # that watches the descriptor
        self._timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop, timeout: float) -> None:
        """Read what is there, and wait for the rest."""
        if not self._read():
            self._loop = loop
            loop.add_reader(self.accepted.fd, self._read)
            if timeout:
                self.set_deadline(loop, timeout)

    def set_deadline(self, loop: asyncio.AbstractEventLoop, timeout: float) -> None:
        """Wait at most `timeout` seconds from now on, and no longer than it was to be before."""
        when = loop.time() + timeout
        if self._timer is not None:
            when = min(when, self._timer.when())
            self._timer.cancel()
        self._timer = loop.call_at(when, self.refuse, "its PROXY header did not come in time")

    def _read(self) -> bool:
        """Take what has come; tell whether no more is waited for."""
        try:
            data = self._sock.recv(MAX_V2, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            preamble = self._header.feed(data) if data else None
            left = len(data) - (0 if preamble is None else len(preamble.rest))
            while left:
                left -= len(self._sock.recv(left, socket.MSG_DONTWAIT))
        except BlockingIOError:
            return False
        except OSError as error:
            self.refuse(f"it is lost: {error.strerror}")
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
        else:  # a probe of the port
            self.close()

    def refuse(self, reason: str) -> None:
        """Close the connection and say why."""
        self.entry.registry.incidents.log("closing the connection of %s: %s", printable(self.accepted.address), reason)
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._stop_watching()
        self._sock.close()
        self._owner.closed(self)
        self.entry.closed()

    def _stop_watching(self) -> None:
        """Watch the descriptor no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._loop is not None:
            self._loop.remove_reader(self.accepted.fd)
            self._loop = None
