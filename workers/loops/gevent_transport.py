"""gevent's lean transport: libev watchers call the protocol directly, without asyncio.

The protocol's methods are called in the greenlet of gevent's hub, which must not wait; the protocol starts other
greenlets for its work. A protocol that must be called in the greenlet of the asyncio loop needs asyncio's transport
instead. Benchmark: `python -m benchmarks wsgi`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gevent

from hybrid.workers.hub.outbox import Outbox
from hybrid.workers.hub.watch import Watch
from hybrid.workers.pollers.contract import READ, WRITE
from hybrid.workers.runtime import Accepted
from hybrid.workers.streams.protocol_transport import ProtocolTransport
from hybrid.workers.streams.tls_transport import TlsTransport

if TYPE_CHECKING:
    import asyncio
    import ssl

_LIBEV_READ, _LIBEV_WRITE = 1, 2


class GeventWatch(Watch):
    """A watch with its libev watchers, which are made on first use."""

    __slots__ = ("reader", "writer")

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self.reader: Any = None
        self.writer: Any = None


class GeventWatches:
    """`Watches` (see `hub.watch`) over libev. Waiters are called in the hub's greenlet."""

    def __init__(self) -> None:
        self._hub = gevent.get_hub()
        self._io = self._hub.loop.io
        self.soon: Callable[..., object] = self._hub.loop.run_callback
        """Calls a function in the hub's greenlet, in its next turn."""
        self._open: set[GeventWatch] = set()
        self.outbox = Outbox()
        """Clause 5: never open."""

    def after_turn(self, callback: Callable[[], object]) -> bool:
        """Clause 5: libev does not report the end of a turn."""
        return False

    def open(self, fd: int) -> GeventWatch:
        """Clause 1."""
        watch = GeventWatch(fd)
        self._open.add(watch)
        return watch

    def arm(self, watch: Watch, mask: int) -> None:
        """Clause 2."""
        assert isinstance(watch, GeventWatch)
        if watch.fd < 0:
            raise OSError(errno.EBADF, "the connection is closed")
        if mask & READ & ~watch.armed:
            if watch.reader is None:
                watch.reader = self._io(watch.fd, _LIBEV_READ)
            watch.reader.start(_readable, watch)
        if mask & WRITE & ~watch.armed:
            if watch.writer is None:
                watch.writer = self._io(watch.fd, _LIBEV_WRITE)
            watch.writer.start(_writable, watch)
        watch.armed |= mask

    def release(self, watch: Watch) -> None:
        """Clause 3."""
        assert isinstance(watch, GeventWatch)
        self._forget(watch)
        watch.fd = -1
        if watch.on_readable is not None or watch.on_writable is not None:
            self.soon(watch.wake_waiters)

    def abandon(self) -> None:
        """Clause 4: gevent has given the child its own poller, which must not read the worker's connections."""
        for watch in list(self._open):
            self._forget(watch)

    def _forget(self, watch: GeventWatch) -> None:
        self._open.discard(watch)
        watch.armed = 0
        for watcher in (watch.reader, watch.writer):
            if watcher is not None:
                watcher.stop()
                watcher.close()
        watch.reader = watch.writer = None


def _readable(watch: GeventWatch) -> None:
    callback, watch.on_readable = watch.on_readable, None
    if callback is not None:
        callback()
    elif watch.reader is not None:  # ready, but without a waiter: level-triggered polling would spin
        watch.reader.stop()
        watch.armed &= ~READ


def _writable(watch: GeventWatch) -> None:
    callback, watch.on_writable = watch.on_writable, None
    if callback is not None:
        callback()
    elif watch.writer is not None:
        watch.writer.stop()
        watch.armed &= ~WRITE


def open_transport(
    loop: asyncio.AbstractEventLoop,
    watches: GeventWatches,
    protocol: Any,
    accepted: Accepted,
    closed: Callable[[], None],
    tls: ssl.SSLContext | None = None,
    tls_timeout: float = 60.0,
) -> Callable[[], object]:
    """Give an accepted connection to `protocol`; return a function that ends it early. `closed()` is called once.

    `tls_timeout` bounds the handshake, in seconds. The SNI hook runs in the hub's greenlet too.
    """
    sock = accepted.bare_socket()  # gevent's class would add watchers that are not used
    if tls is not None:
        secure = TlsTransport(loop, watches, sock, accepted.address, protocol, closed, tls, watches.soon)
        watches.soon(secure.shake, tls_timeout)
        return secure.abort
    transport = ProtocolTransport(loop, watches, sock, accepted.address, protocol, closed)
    protocol.connection_made(transport)
    watches.soon(transport.begin)
    return transport.abort
