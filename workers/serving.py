"""A worker while its loop runs: accepts connections, obeys the supervisor, drains, notices the supervisor's death."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Callable
from typing import Any

from hybrid.workers.accepting.acceptor import Acceptor
from hybrid.workers.accepting.adoption import close_all
from hybrid.workers.accepting.listening import Listening
from hybrid.workers.accepting.recycle import RecycleCheck
from hybrid.workers.apps.adapter import Adapter
from hybrid.workers.apps.datagram import Datagrams
from hybrid.workers.apps.detect import Kind
from hybrid.workers.apps.protocol import ProtocolFactory
from hybrid.workers.apps.stream import AsyncStream, SyncStream
from hybrid.workers.boot.application import Application
from hybrid.workers.boot.dispositions import Dispositions, do_nothing
from hybrid.workers.common import forks
from hybrid.workers.common.connections import Connections
from hybrid.workers.common.errors import BootError
from hybrid.workers.common.heartbeat import Heartbeat
from hybrid.workers.contract.channel import ChannelClosed
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import (
    Adopt,
    Awake,
    BootFailed,
    Broken,
    Drain,
    Draining,
    Learn,
    Message,
    Ping,
    Promote,
    Ready,
    RecycleDue,
    ReforkReady,
    Stop,
)
from hybrid.workers.contract.promoted import Promoted
from hybrid.workers.contract.scoreboard import Activity
from hybrid.workers.contract.worker_spec import Listener, ListenerKind, WorkerSpec
from hybrid.workers.runtime import Runtime

_log = logging.getLogger("hybrid")
CLEAN_UP = 1.0  # seconds for the `finally` blocks of ended handlers, within the grace period
INTERRUPT = 5.0  # seconds before that in which a web application is told that its clients are gone
_MOST_ORDERS = 100  # orders of the supervisor read before a drain begins
_START_UP_ENDS = (
    1.0  # seconds for a start-up to end once it is cancelled, or once SIGTERM comes while it blocks the loop
)
_ADAPTERS: dict[Kind, Any] = {
    Kind.SYNC_STREAM: SyncStream,
    Kind.ASYNC_STREAM: AsyncStream,
    Kind.PROTOCOL: ProtocolFactory,
}
_WEB = frozenset({Kind.WSGI, Kind.ASGI})


class Worker:
    """Serves the listeners of a worker with one target until it is told to drain."""

    def __init__(self, spec: WorkerSpec, application: Application, target: Any, kind: Kind, runtime: Runtime) -> None:
        self._spec = spec
        self._application = application
        self._target = target
        self._kind = kind
        self._runtime = runtime
        self._loop = runtime.loop
        self._heartbeat = Heartbeat(spec.record)
        self._heartbeat.on_awake = self._awakes
        self._connections = Connections(self._heartbeat)
        self._listening = Listening(spec, self._open_server, self._lost_listener)
        self._recycle_check = RecycleCheck(
            application.recycle, self._heartbeat, self._is_recycle_due, refork_ready=self._is_refork_ready
        )
        self._promoted: Promoted | None = None  # to become a zygote once it has drained
        self._misunderstood = False  # a bad order has been logged
        self._stop_order: Stop | None = None  # set if the whole service stops
        self._draining = asyncio.Event()
        self._serves = False  # the start-up is over
        self._exit = Exit.OK
        self._dispositions = Dispositions(self._loop, self._on_sigterm, lambda: self._drain_asked("SIGTERM"))
        self._adapter = self._make_adapter()

    @property
    def _scheme(self) -> str:
        """`http` or `https` for a web application; "" for other kinds."""
        if self._kind not in _WEB:
            return ""
        return "http" if self._application.http.tls is None else "https"

    def _make_adapter(self) -> Adapter:
        if self._kind in _WEB:
            return self._make_web()(self._target, self._runtime, self._connections, self._application.http)
        make = _ADAPTERS.get(self._kind)
        adapter: Adapter = Adapter() if make is None else make(self._target, self._runtime, self._connections)
        adapter.guessed = self._application.interface == "auto"
        return adapter

    def _make_web(self) -> Callable[..., Adapter]:
        """Return the interface; imported late, together with the parsers it needs."""
        if self._kind is Kind.WSGI:
            from hybrid.workers.apps.wsgi.interface import Wsgi

            return Wsgi
        from hybrid.workers.apps.asgi.interface import Asgi

        return Asgi

    def _log_loop_error(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Asyncio's exception handler: log one record for an exception that no task or protocol caught."""
        error = context.get("exception")
        if isinstance(error, ConnectionError):
            self._connections.incidents.log("connection lost: %s", error)
            return
        _log.error("%s", context.get("message", "unhandled error in the event loop"), exc_info=error)

    async def run(self) -> Exit | Promoted:
        """Serve until drained; return the exit code, or a promotion to zygote.

        A worker that is told to end before it serves has nothing to drain: its start-up is cancelled. Raises
        `BootError` if the application's start-up fails.
        """
        self._loop.set_exception_handler(self._log_loop_error)
        self._dispositions.take()
        forks.guard(self._spec.channel, self._abandon)
        self._runtime.observe(self._heartbeat)
        self._loop.add_reader(self._spec.channel.fileno(), self._supervisor_spoke)
        if not await self._start_up():
            return self._end_deaf()
        gc.collect()
        gc.freeze()  # loaded objects live as long as the worker: the collector need not traverse them
        self._listening.start()
        self._recycle_check.begin()
        self._heartbeat.tells(Activity.READY)
        self._tell(Ready(loop=self._runtime.name, interface=self._kind.value, scheme=self._scheme, takes_orders=True))
        _log.info("ready on %s (%s)", self._runtime.name, self._kind.value)
        await self._draining.wait()
        self._tell(Draining())  # SIGTERM may come from another process: steer new connections elsewhere
        await self._drain()
        if self._promoted is not None:
            self._listening.adoption.forget()
            return self._promoted
        return self._end_deaf()

    def _end_deaf(self) -> Exit:
        """Ignore further SIGTERMs; return the exit code. Closing the loop would make the signal fatal."""
        old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        self._loop.remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, do_nothing)
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
        return self._exit

    def _open_server(self, listener: Listener, broken: Callable[[str], object]) -> Acceptor | Datagrams:
        if listener.kind is ListenerKind.DATAGRAM:
            is_async = self._kind is Kind.ASYNC_DATAGRAM
            return Datagrams(self._target, is_async, self._runtime, self._connections, listener.sock, broken)
        capacity, listen = self._application.max_connections, self._runtime.listen
        return Acceptor(self._loop, listener.sock, self._adapter.connected, self._connections, capacity, listen, broken)

    def _lost_listener(self, why: str) -> None:
        self._hear_orders()  # the supervisor itself shuts listeners down, after an order that may still be unread
        if not self._draining.is_set():
            _log.error(
                "cannot accept any more connections, ending so that a successor takes over: the listening socket %s",
                why,
            )
            self._tell(Broken(why))
            self._begin_drain("a listening socket is broken")

    def _abandon(self) -> None:
        """Called in a process that a handler forked: it serves no connections, and must not keep the address in use."""
        for listener in self._spec.listeners:
            listener.sock.close()
        self._listening.adoption.forget()
        self._heartbeat.abandon()
        self._runtime.abandon()

    async def _start_up(self) -> bool:
        """Run the application's start-up; return False if this process was told to end first."""
        starting = self._loop.create_task(self._adapter.start_up(), name="start-up")
        told = self._loop.create_task(self._draining.wait())
        await asyncio.wait((starting, told), return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if not starting.done():
            self._limit_life(3 * _START_UP_ENDS)  # for this wait, the loop's shutdown, and a margin
            starting.cancel()
            await asyncio.wait((starting,), timeout=_START_UP_ENDS)
            return False
        try:
            starting.result()
            if (defect := self._listening.closed_by_now()) is not None:
                raise BootError(Exit.TARGET, f"the listening socket {defect}, by the application while it was loaded")
        except BootError as error:
            self._tell(BootFailed(code=int(error.code), reason=error.reason))
            raise
        self._serves = True
        if self._exit is not Exit.ORPHANED:
            signal.setitimer(signal.ITIMER_REAL, 0)  # a signal may have set the timer at the last moment
        return True

    # -- the supervisor ----------------------------------------------------------------------------------------------

    def _tell(self, message: Message) -> None:
        """Send to the supervisor; wait for room if the channel is full, e.g. while a debugger stops the supervisor."""
        try:
            if not self._spec.channel.send_nowait(message):
                self._loop.add_writer(self._spec.channel.fileno(), self._flush)
        except ChannelClosed:
            self._orphaned()

    def _flush(self) -> None:
        try:
            if not self._spec.channel.flush():
                return
        except ChannelClosed:
            self._orphaned()
        self._loop.remove_writer(self._spec.channel.fileno())

    def _supervisor_spoke(self) -> bool:
        """Obey one order of the supervisor, or note its end; return True if there may be another order."""
        try:
            taken = self._spec.channel.take_over_nowait()
            if taken is None:
                return False
            self._obey(*taken)
        except ValueError as error:  # `MessageError` among them
            if not self._misunderstood:
                self._misunderstood = True
                _log.error("ignoring an order of the supervisor: %s", error)
        except ChannelClosed:
            self._loop.remove_reader(self._spec.channel.fileno())
            self._orphaned()
            return False
        return True

    def _hear_orders(self) -> None:
        """Obey the orders that have arrived, up to one that begins a drain."""
        for _ in range(_MOST_ORDERS):
            if self._draining.is_set() or not self._supervisor_spoke():
                return

    def _obey(self, order: Message, descriptors: list[int]) -> None:
        """Carry out an order. Raises `ValueError` if that is impossible."""
        match order:
            case Learn():
                self._listening.adoption.learn(order, descriptors)
                return
            case Drain():
                self._drain_asked("asked by the supervisor")
            case Ping():
                self._dispositions.restore()
                self._heartbeat.answers()
                self._recycle_check.look()
                self._listening.look()
            case Adopt():
                self._listening.adoption.adopt(order.slots)
            case Stop():
                self._stop_order = order
                if self._draining.is_set():
                    self._hear_of_stop(order)
            case Promote(generation):
                self._become_zygote(generation)
            case _:
                close_all(descriptors)
                raise ValueError(f"{order} is not for a worker")
        close_all(descriptors)

    def _awakes(self) -> None:
        self._tell(Awake())

    def _is_recycle_due(self, why: str) -> None:
        self._loop.call_soon(self._tell_recycle_due, why)  # later: a request is being parsed

    def _tell_recycle_due(self, why: str) -> None:
        if not self._draining.is_set():
            self._tell(RecycleDue(why))

    def _is_refork_ready(self) -> None:
        self._loop.call_soon(self._tell_refork_ready)

    def _tell_refork_ready(self) -> None:
        if not self._draining.is_set():
            self._tell(ReforkReady())

    def _become_zygote(self, generation: int) -> None:
        """Drain. Later messages of the supervisor stay in the channel: they are for the zygote."""
        if not self._draining.is_set():
            self._loop.remove_reader(self._spec.channel.fileno())
            self._begin_drain("to become the zygote")
            self._promoted = Promoted(generation)

    def _on_sigterm(self) -> None:
        """Run by Python between two bytecodes, even in a handler that never waits."""
        self._listening.is_ending = True
        if os.getppid() != self._spec.supervisor_pid:
            self._limit_life(self._spec.graceful_timeout + CLEAN_UP)
        elif not self._serves:
            self._limit_life(_START_UP_ENDS)

    def _limit_life(self, seconds: float) -> None:
        """Set the kernel's timer (SIGALRM) to end the process, because no supervisor may be left to send SIGKILL."""
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def _orphaned(self) -> None:
        self._exit = Exit.ORPHANED
        self._limit_life(self._spec.graceful_timeout + CLEAN_UP)
        self._promoted = None
        self._begin_drain("the supervisor is gone")

    # -- draining ----------------------------------------------------------------------------------------------------

    def _drain_asked(self, why: str) -> None:
        self._hear_orders()  # `Stop` is sent before SIGTERM, which may overtake it
        self._promoted = None  # the worker was asked to end
        self._begin_drain(why)

    def _begin_drain(self, why: str) -> None:
        if self._draining.is_set():
            return
        self._spec.grace.begin(self._spec.graceful_timeout)
        _log.info("draining %d connections (%s)", len(self._connections), why)
        self._heartbeat.tells(Activity.DRAINING)
        self._listening.end()
        self._draining.set()

    def _hear_of_stop(self, order: Stop) -> None:
        """Accept connections from the queues of slots that may not be served any more; close idle connections."""
        self._listening.accept_waiting(order.waiting)
        self._adapter.close_idle(at_once=order.at_a_terminal)

    async def _drain(self) -> None:
        """Serve queued and open connections within the grace period; then end the remaining handlers."""
        grace = self._spec.graceful_timeout
        clean_up = min(CLEAN_UP, grace / 4)
        begins = self._loop.time()
        ends = begins + grace - clean_up
        await self._listening.wait_accepted()
        self._adapter.drain()
        if self._stop_order is not None:
            self._loop.call_soon(self._hear_of_stop, self._stop_order)
        if not await self._finished(ends - min(INTERRUPT, grace / 4)):
            self._adapter.interrupt()
            if not await self._finished(ends):
                await self._end(clean_up / 2)
        self._listening.close()
        await self._adapter.shut_down(begins + grace - clean_up / 4 - self._loop.time())

    async def _finished(self, until: float) -> bool:
        """Wait, at most until `until`, for all connections and background work to end; return True if they have."""
        while await self._connections.wait_empty(until - self._loop.time()):
            await self._listening.wait_accepted()  # again: a handshake may have ended since
            if not len(self._connections):
                return await self._adapter.wait_idle(until - self._loop.time())
        return False

    async def _end(self, timeout: float) -> None:
        _log.warning("%d connections did not end within the grace period; ending them", len(self._connections))
        self._adapter.end()
        self._connections.end_all()
        await self._connections.wait_empty(timeout)
        await self._adapter.wait_idle(timeout)
