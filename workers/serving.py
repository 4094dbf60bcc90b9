"""A worker while its loop runs: accepts connections, obeys the supervisor, drains, notices the supervisor's death."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from hybrid.workers.accepting.acceptor import Acceptor
from hybrid.workers.accepting.adoption import close_all
from hybrid.workers.accepting.listening import Listening
from hybrid.workers.accepting.passing import PATIENCE, PassedQueue, Passing, taken, unbalanced
from hybrid.workers.accepting.rebalancing import Rebalancing
from hybrid.workers.accepting.recycle import RecycleCheck
from hybrid.workers.apps.datagram import Datagrams
from hybrid.workers.apps.detect import Kind
from hybrid.workers.apps.making import WEB, make_adapter
from hybrid.workers.boot.application import Application
from hybrid.workers.boot.dispositions import Dispositions
from hybrid.workers.common import forks
from hybrid.workers.common.connections import Connections
from hybrid.workers.common.errors import BootError
from hybrid.workers.common.heartbeat import Heartbeat
from hybrid.workers.contract import offload_queue, reopening
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import (
    Adopt,
    Awake,
    BootFailed,
    Broken,
    CallDied,
    Drain,
    Draining,
    Learn,
    LogLevel,
    Message,
    Ping,
    Promote,
    Readiness,
    Ready,
    RecycleDue,
    ReforkReady,
    Reopened,
    Stop,
    TellStacks,
)
from hybrid.workers.contract.promoted import Promoted
from hybrid.workers.contract.scoreboard import Activity
from hybrid.workers.contract.worker_spec import Listener, ListenerKind, WorkerSpec
from hybrid.workers.inspection.heap import keep_in_view
from hybrid.workers.offload import place as offloading
from hybrid.workers.orders import Orders, told_stacks
from hybrid.workers.runtime import Runtime

if TYPE_CHECKING:
    from hybrid.workers.common.accounting import Accounting
    from hybrid.workers.hooks.life import LifeHooks

_log = logging.getLogger("hybrid")
CLEAN_UP = 1.0  # seconds for the `finally` blocks of ended handlers, within the grace period
_END_OF_ONE = 0.0004  # seconds more for each handler: half of that to end it, 100 us on a slow machine, and a margin
INTERRUPT = 5.0  # seconds before that in which a web application is told that its clients are gone
_START_UP_ENDS = (
    1.0  # seconds for a start-up to end once it is cancelled, or once SIGTERM comes while it blocks the loop
)


class Worker:
    """Serves the listeners of a worker with one target until it is told to drain."""

    def __init__(
        self,
        spec: WorkerSpec,
        application: Application,
        target: Any,
        kind: Kind,
        runtime: Runtime,
        hooks: LifeHooks | None = None,
    ) -> None:
        self._spec = spec
        self._hooks = hooks
        self._application = application
        self._target = target
        self._kind = kind
        self._runtime = runtime
        self._loop = runtime.loop
        self._heartbeat = Heartbeat(spec.record)
        self._heartbeat.on_awake = self._awakes
        self._orders = Orders(spec.channel, runtime.loop, self._obey, self._orphaned)
        self._tell = self._orders.tell
        self._connections = Connections(self._heartbeat)
        if kind not in WEB:
            self._connections.are_requests = True
            self._heartbeat.counts.has_no_responses()
            self._heartbeat.counts.soon = runtime.loop.call_soon
        self._listening = Listening(spec, self._open_server, self._lost_listener)
        self._passing: Passing | None = None
        if any(listener.kind is ListenerKind.PASSED for listener in spec.own_listeners):
            queue_of = self._listening.adoption.queue_of
            self._passing = Passing(
                spec.record,
                queue_of,
                self._connections,
                application.max_connections,
                is_adopted=0 < application.stall_threshold <= PATIENCE,
            )
        self._rebalancing: Rebalancing | None = None
        if kind in WEB and application.http.rebalance != "off":
            self._rebalancing = Rebalancing(spec.record)
        self._recycle_check = RecycleCheck(
            application.recycle, self._heartbeat, self._is_recycle_due, refork_ready=self._is_refork_ready
        )
        self._promoted: Promoted | None = None  # to become a zygote once it has drained
        self._stop_order: Stop | None = None  # set if the whole service stops
        self._draining = asyncio.Event()
        self._serves = False  # the start-up is over
        self._exit = Exit.OK
        self._dispositions = Dispositions(self._loop, self._on_sigterm, lambda: self._drain_asked("SIGTERM"))
        self._accounting = _accounting_of(application)
        self._adapter = make_adapter(
            kind, target, runtime, self._connections, application, spec.access_fd, self._accounting
        )

    @property
    def _scheme(self) -> str:
        """`http` or `https` for a web application; "" for other kinds."""
        if self._kind not in WEB:
            return ""
        return "http" if self._application.http.tls is None else "https"

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
        if self._accounting is not None:
            self._accounting.begin(self._loop)
        self._orders.listen()
        if not await self._start_up():
            return self._end_deaf()
        self._offloads()  # not before: offload workers start once this worker is ready, and would be waited for
        gc.collect()
        keep_in_view()
        gc.freeze()  # loaded objects live as long as the worker: the collector need not traverse them
        self._listening.start()
        self._recycle_check.begin()
        self._heartbeat.tells(Activity.READY)
        self._tell(Ready(loop=self._runtime.name, interface=self._kind.value, scheme=self._scheme, takes_orders=True))
        _log.info("ready on %s (%s)", self._runtime.name, self._kind.value)
        if self._hooks is not None:
            self._hooks.serves(lambda reason: self._tell(Readiness(reason)))
        await self._draining.wait()
        self._tell(Draining())  # SIGTERM may come from another process: steer new connections elsewhere
        await self._drain()
        if self._accounting is not None:
            self._tell_labels(self._accounting)
            self._accounting.end()
        if self._promoted is not None:
            offloading.leaves()
            self._listening.adoption.forget()
            return self._promoted
        return self._end_deaf()

    def _end_deaf(self) -> Exit:
        """Ignore further SIGTERMs; return the exit code."""
        offloading.leaves()
        self._dispositions.release()
        return self._exit

    def _offloads(self) -> None:
        """Let `hybrid.offload` find the offload workers of this service."""
        settings, spec = self._application.offload, self._spec
        if settings is not None:
            address = partial(offload_queue.address, spec.offload_key, spec.generation)
            offloading.serves(self._loop, address, self._tell, spec.record, settings)

    def _tell_labels(self, accounting: Accounting) -> None:
        if (report := accounting.report()) is not None:
            self._tell(report)

    def _open_server(self, listener: Listener, broken: Callable[[str], object]) -> Acceptor | Datagrams:
        if listener.kind is ListenerKind.DATAGRAM:
            is_async = self._kind is Kind.ASYNC_DATAGRAM
            return Datagrams(self._target, is_async, self._runtime, self._connections, listener.sock, broken)
        capacity, listen = self._application.max_connections, self._runtime.listen
        connected, connections = self._adapter.connected, self._connections
        if listener.kind is ListenerKind.PASSED:
            queue: Any = PassedQueue(listener.sock)
            take = taken(connected, self._spec.stream_sockets)
            holds, room = None, 0  # what was passed to this worker has no other
            if self._passing is not None and listener.slot not in (None, self._spec.slot):
                holds, room = partial(self._passing.holds, listener.slot), capacity
            return Acceptor(self._loop, queue, take, connections, room, listen, unbalanced, adopts=True, holds=holds)
        adopts = listener.slot not in (None, self._spec.slot)
        passes = None if self._passing is None else partial(self._passing.passes, listener=listener.address)
        return Acceptor(
            self._loop, listener.sock, connected, connections, capacity, listen, broken, adopts=adopts, passes=passes
        )

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
        offloading.abandon()
        self._heartbeat.abandon()
        self._runtime.abandon()

    async def _prepare(self) -> None:
        if self._hooks is not None:
            await self._hooks.start()
        await self._adapter.start_up()

    async def _start_up(self) -> bool:
        """Run the application's start-up; return False if this process was told to end first."""
        starting = self._loop.create_task(self._prepare(), name="start-up")
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

    def _hear_orders(self) -> None:
        """Obey the orders that have arrived, up to one that begins a drain."""
        self._orders.hear_until(self._draining.is_set)

    def _obey(self, order: Message, descriptors: list[int]) -> None:
        """Carry out an order. Raises `ValueError` if that is impossible."""
        match order:
            case Learn():
                self._listening.adoption.learn(order, descriptors)
                return
            case Reopened(numbers):
                reopening.replace(numbers, descriptors)
                return
            case Drain():
                self._drain_asked("asked by the supervisor")
            case Ping():
                self._dispositions.restore()
                if self._accounting is not None and self._accounting.is_due:
                    self._tell_labels(self._accounting)
                self._heartbeat.answers()
                if not self._listening.is_exhausted:  # else siblings would go on passing connections to it
                    self._connections.recount()
                self._recycle_check.look()
                self._listening.look()
                self._rebalance()
            case TellStacks():
                self._tell(told_stacks(order, descriptors, self._loop, self._adapter.in_progress))
            case LogLevel(level):
                _log.setLevel(level)
            case CallDied():
                offloading.hear(order)
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

    def _rebalance(self) -> None:
        if self._rebalancing is not None and (excess := self._rebalancing.look()):
            try:
                number = self._adapter.move(partial(self._rebalancing.allowed, excess))
            except Exception:  # noqa: BLE001 - logged; clients that stay are no harm
                _log.exception("moving clients to other workers failed")
                number = 0
            self._rebalancing.have_left(number)

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
            self._orders.deafen()
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
        clean_up = clean_up_seconds(grace, 0 if self._kind in WEB else len(self._connections))
        begins = self._loop.time()
        ends = begins + grace - clean_up
        if self._hooks is not None:
            self._hooks.drains(ends)
        await self._listening.wait_accepted()
        self._adapter.drain()
        if self._stop_order is not None:
            self._loop.call_soon(self._hear_of_stop, self._stop_order)
        if not await self._finished(ends - min(INTERRUPT, grace / 4)):
            self._adapter.interrupt()
            if not await self._finished(ends):
                await self._end(clean_up / 2)
        self._listening.close()
        last = begins + grace - clean_up / 4
        if self._hooks is None:
            await self._adapter.shut_down(last - self._loop.time())
        else:
            await self._hooks.drained()
            await self._adapter.shut_down(last - clean_up / 4 - self._loop.time())
            await self._hooks.stop(last)

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


def clean_up_seconds(grace: float, handlers: int) -> float:
    """Return which part of a grace period is kept for the ends of so many handlers of connections; seconds."""
    return min(CLEAN_UP + handlers * _END_OF_ONE, grace / 4)


def _accounting_of(application: Application) -> Accounting | None:
    if not application.accounting:
        return None
    from hybrid.workers.common.accounting import Accounting  # most services do without

    return Accounting(application.http.label_header)
