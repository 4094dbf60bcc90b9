"""Datagram handlers: `handle(data, address, transport)`, a coroutine function in a task or a sync one in a greenlet.

One greenlet or task per datagram, at most `MOST_AT_ONCE` of them: beyond that the socket is not read, its buffer fills,
and the kernel drops datagrams, as UDP may. Replies go out through `transport.sendto(data, address)`.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import socket
from collections.abc import Callable
from typing import Any

from hybrid.workers.accepting.acceptor import BROKEN
from hybrid.workers.apps.adapter import serve_in_task
from hybrid.workers.common.addresses import mapped, serves_both, unmapped
from hybrid.workers.common.connections import Connection, Connections
from hybrid.workers.runtime import Runtime

MOST_AT_ONCE = 1000  # handlers running per worker
_BATCH = 32  # datagrams read per wake-up, so that others get their turn
_LARGEST = 65536  # bytes; the largest UDP datagram is 65,507
_PAUSE = 0.01  # seconds between retries where polling cannot report room
_MOST_UNSENT = 1000  # datagrams waiting for room in the socket; the next one is dropped and counted
_log = logging.getLogger("hybrid")


class DatagramTransport(asyncio.DatagramTransport):
    """The transport passed to a datagram handler. The worker owns it: a handler cannot close it."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, sent: Callable[[int], object] = lambda size: None
    ) -> None:
        """`sent` counts the bytes of each datagram sent."""
        super().__init__()
        self._sent = sent
        self._loop = loop
        self._sock = sock
        self._serves_both = serves_both(sock)
        self._unsent: collections.deque[tuple[Any, Any]] = collections.deque()  # (data, address) waiting for room
        self.dropped = 0
        """Datagrams that were not sent because the socket had no room for too long."""

    def sendto(self, data: Any, addr: Any = None) -> None:
        """Send `data` to `addr`, or keep it until the socket has room; never blocks.

        Raises `TypeError` for data that is not bytes-like and `ValueError` without an address. Network errors are
        logged at level DEBUG: UDP does not guarantee delivery.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        if addr is None:
            raise ValueError("a server's datagram transport requires an address to send to")
        if self._serves_both:
            addr = mapped(addr)
        if self._unsent or not self._try(data, addr):
            if len(self._unsent) >= _MOST_UNSENT:
                self.dropped += 1
                return
            if not self._unsent:
                self._loop.call_soon(self._flush_when_writable)
            self._unsent.append((bytes(data), addr))

    def _try(self, data: Any, addr: Any) -> bool:
        try:
            self._sent(self._sock.sendto(data, addr))
        except BlockingIOError:
            return False
        except OSError as error:
            _log.debug("datagram to %s not sent: %s", addr, error)
        return True

    def _flush(self) -> None:
        waiting = len(self._unsent)
        while self._unsent and self._try(*self._unsent[0]):
            self._unsent.popleft()
        if not self._unsent:
            self._loop.remove_writer(self._sock.fileno())
        elif len(self._unsent) == waiting:
            # writable but without room: the queue of a UNIX peer is full, which poll(2) does not check; do not spin
            self._loop.remove_writer(self._sock.fileno())
            self._loop.call_later(_PAUSE, self._flush_when_writable)

    def _flush_when_writable(self) -> None:
        self._loop.add_writer(self._sock.fileno(), self._flush)

    def unsent(self) -> int:
        """Return the number of datagrams waiting for room."""
        return len(self._unsent)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`sockname` or `socket`; else `default`."""
        if name == "sockname":
            return self._sock.getsockname()
        return self._sock if name == "socket" else default

    def is_closing(self) -> bool:
        """Always False: it lives as long as the worker."""
        return False

    def close(self) -> None:
        """Raise `RuntimeError`: the worker owns the socket."""
        raise RuntimeError("the datagram socket belongs to the worker: a handler cannot close it")

    abort = close


def _log_broken(why: str) -> None:
    _log.error("cannot receive datagrams: the socket is broken: %s", why)


class Datagrams:
    """Reads one datagram socket and runs the handler for each datagram."""

    def __init__(
        self,
        handler: Callable[..., Any],
        is_async: bool,
        runtime: Runtime,
        connections: Connections,
        sock: socket.socket,
        broken: Callable[[str], object] = _log_broken,
    ) -> None:
        """`broken` is called once if the socket was closed in this process."""
        self._broken = broken
        self._handler = handler
        self._is_async = is_async
        self._runtime = runtime
        self._connections = connections
        self._sock = sock
        self._serves_both = serves_both(sock)
        self._transport = DatagramTransport(runtime.loop, sock, connections.heartbeat.counts.sent)
        self._reading = False
        self._wanted = False
        connections.on_discard.append(self._resume)

    def start(self) -> None:
        """Start reading."""
        self._wanted = True
        self._resume()

    def stop(self) -> None:
        """Handle the datagrams received so far, then stop reading."""
        self._wanted = False
        self._pause()
        self._read(limit=MOST_AT_ONCE)

    def _resume(self) -> None:
        if self._wanted and not self._reading and len(self._connections) < MOST_AT_ONCE:
            self._reading = True
            self._runtime.loop.add_reader(self._sock.fileno(), self._read)

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            self._runtime.loop.remove_reader(self._sock.fileno())

    def _read(self, limit: int = _BATCH) -> None:
        for _ in range(limit):
            if len(self._connections) >= MOST_AT_ONCE:
                self._pause()
                return
            try:
                data, address = self._sock.recvfrom(_LARGEST)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in BROKEN:
                    was_wanted, self._wanted = self._wanted, False
                    self._pause()
                    if was_wanted:
                        self._broken(error.strerror or str(error))
                    return
                # an ICMP error for an earlier reply: the socket still works
                _log.debug("reading a datagram: %s", error)
                continue
            self._handle(data, unmapped(address) if self._serves_both else address)

    def _handle(self, data: bytes, address: Any) -> None:
        heartbeat = self._connections.heartbeat
        heartbeat.counts_request()
        heartbeat.counts.received(len(data))
        connection = self._connections.add(address)
        if self._is_async:
            task = serve_in_task(self._runtime.loop.create_task, self._serve(connection, data, address), connection)
            if task is not None:
                connection.end = task.cancel
                task.add_done_callback(lambda _: connection.closed())  # also if cancelled before its first step
        else:
            started = self._runtime.spawn(self._run, connection, data, address)
            connection.end = lambda: self._runtime.kill(started)

    async def _serve(self, connection: Connection, data: bytes, address: Any) -> None:
        try:
            await self._handler(data, address, self._transport)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - logged; asyncio would let SystemExit end the worker
            connection.failed(error)

    def _run(self, connection: Any, data: bytes, address: Any) -> None:
        try:
            self._handler(data, address, self._transport)
        except BaseException as error:  # noqa: BLE001 - logged; a handler's exit is not the worker's
            connection.failed(error)
        finally:
            connection.closed()
