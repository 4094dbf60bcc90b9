"""A worker while its loop runs: listeners open, requests to drain obeyed, the supervisor's death noticed."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import Any

from hybrid.workers import forks
from hybrid.workers.accept import Acceptor
from hybrid.workers.application import Application
from hybrid.workers.connections import Connections
from hybrid.workers.contract.channel import ChannelClosed
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import Draining, Message, MessageError, Ready
from hybrid.workers.contract.seat import Listener, ListenerKind, Seat
from hybrid.workers.interfaces.datagram import Datagrams
from hybrid.workers.interfaces.detect import Kind
from hybrid.workers.interfaces.protocol import ProtocolFactory
from hybrid.workers.interfaces.stream import AsyncStream, SyncStream
from hybrid.workers.runtime import Runtime

_log = logging.getLogger("hybrid")
CLEAN_UP = 1.0  # seconds that ended handlers get for their `finally` blocks, within the drain deadline
_ADAPTERS: dict[Kind, Any] = {
    Kind.SYNC_STREAM: SyncStream,
    Kind.ASYNC_STREAM: AsyncStream,
    Kind.PROTOCOL: ProtocolFactory,
}


class Worker:
    """Serves the listeners of a seat with one target until it is told to drain."""

    def __init__(self, seat: Seat, application: Application, target: Any, kind: Kind, runtime: Runtime) -> None:
        self._seat = seat
        self._application = application
        self._target = target
        self._kind = kind
        self._runtime = runtime
        self._loop = runtime.loop
        self._connections = Connections()
        self._draining = asyncio.Event()
        self._exit = Exit.OK

    async def run(self) -> Exit:
        """Serve until drained; return the exit code."""
        self._loop.set_exception_handler(_log_loop_error)
        self._loop.add_signal_handler(signal.SIGTERM, self._drain_asked, "SIGTERM")
        # asyncio's handler only writes to the loop's wake-up descriptor, which goes on; ours also runs where the loop
        # is stuck
        signal.signal(signal.SIGTERM, self._on_sigterm)
        forks.guard(self._seat.channel, self._runtime.abandon)
        self._loop.add_reader(self._seat.channel.fileno(), self._supervisor_spoke)
        servers = [self._serve(listener) for listener in self._seat.own_listeners]
        for server in servers:
            server.start()
        self._tell(Ready(loop=self._runtime.name, interface=self._kind.value))
        _log.info("ready on %s (%s)", self._runtime.name, self._kind.value)
        await self._draining.wait()
        self._tell(Draining())  # SIGTERM may have come from somebody else, and new connections must not come here
        await self._drain(servers)
        return self._exit

    def _serve(self, listener: Listener) -> Acceptor | Datagrams:
        if listener.kind is ListenerKind.DATAGRAM:
            is_async = self._kind is Kind.ASYNC_DATAGRAM
            return Datagrams(self._target, is_async, self._runtime, self._connections, listener.sock)
        adapter = _ADAPTERS[self._kind](self._target, self._runtime, self._connections)
        capacity = self._application.max_connections
        return Acceptor(self._loop, listener.sock, adapter.connected, self._connections, capacity)

    # -- the supervisor ----------------------------------------------------------------------------------------------

    def _tell(self, message: Message) -> None:
        """Send to the supervisor; wait for room if its end is full, as when it is stopped in a debugger."""
        try:
            if not self._seat.channel.send_nowait(message):
                self._loop.add_writer(self._seat.channel.fileno(), self._flush)
        except ChannelClosed:
            self._orphaned()

    def _flush(self) -> None:
        try:
            if not self._seat.channel.flush():
                return
        except ChannelClosed:
            self._orphaned()
        self._loop.remove_writer(self._seat.channel.fileno())

    def _supervisor_spoke(self) -> None:
        """The supervisor says nothing on the channel: what can be read is its end."""
        try:
            self._seat.channel.receive_nowait()
        except MessageError:
            return
        except ChannelClosed:
            self._loop.remove_reader(self._seat.channel.fileno())
            self._orphaned()

    def _on_sigterm(self, number: int, frame: object) -> None:
        """Run by Python between two bytecodes, also in a handler that never waits."""
        if os.getppid() != self._seat.supervisor_pid:
            self._limit_life()

    def _limit_life(self) -> None:
        """Let the kernel's timer (SIGALRM) end the process at the deadline: no supervisor is left to send SIGKILL."""
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, self._seat.graceful_timeout + CLEAN_UP)

    def _orphaned(self) -> None:
        self._exit = Exit.ORPHANED
        self._limit_life()
        self._drain_asked("the supervisor is gone")

    # -- draining ----------------------------------------------------------------------------------------------------

    def _drain_asked(self, why: str) -> None:
        if not self._draining.is_set():
            _log.info("draining %d connections (%s)", len(self._connections), why)
            self._draining.set()

    async def _drain(self, servers: list[Acceptor | Datagrams]) -> None:
        """Serve what is queued and open, within the grace period; then end the handlers that are left."""
        grace = self._seat.graceful_timeout
        clean_up = min(CLEAN_UP, grace / 4)
        ends = self._loop.time() + grace - clean_up
        self._stop(servers)
        while await self._connections.wait_empty(ends - self._loop.time()):
            self._stop(servers)  # once more: a handshake that was under way has put its connection into the queue since
            if not len(self._connections):
                return
        _log.warning("%d connections did not end within the grace period; ending them", len(self._connections))
        self._connections.end_all()
        await self._connections.wait_empty(clean_up / 2)

    @staticmethod
    def _stop(servers: list[Acceptor | Datagrams]) -> None:
        for server in servers:
            server.stop()


def _log_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Asyncio's exception handler: one record in our log for what no task or protocol caught."""
    error = context.get("exception")
    if isinstance(error, ConnectionError):
        _log.info("connection lost: %s", error)
        return
    _log.error("%s", context.get("message", "unhandled error in the event loop"), exc_info=error)
