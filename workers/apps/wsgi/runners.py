"""Runs WSGI requests: in greenlets on the hub and on gevent, in a thread pool where greenlets cannot wait.

`Runner` is the contract; the call is the same for all runners.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import contextvars
import logging
import queue
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import greenlet

from hybrid.workers.apps.wsgi.input import ClientGoneError
from hybrid.workers.common import forks
from hybrid.workers.http.exchange import Stage
from hybrid.workers.runtime import Greenlets

if TYPE_CHECKING:
    from hybrid.workers.apps.wsgi.call import WsgiCall

T = TypeVar("T")
_Call = tuple[Callable[..., object], tuple[Any, ...]]
_WHOLE = Stage.WHOLE
_AHEAD = 65_536  # bytes that a thread may be ahead of the loop
_log = logging.getLogger("hybrid")


class Runner(Protocol):
    """Runs requests.

    1. `start(call)` calls `call.run()` soon; called in the loop.
    2. `call(call, function, ...)` calls a method of the exchange in the loop's thread; errors are raised in the
       application if possible, otherwise they fail the exchange.
    3. `read(call)` waits for a piece of the body; b"" is its end.
    4. `wait_for_room(call)` waits while the client reads too slowly.
    5. `wake(call)` ends the waits of 3 and 4; called in the loop.
    6. `stop(call)` ends a request early, as far as possible; called in the loop.

    In a process forked by the application, the waits of 3 and 4 end the process.
    """

    running: set[WsgiCall]
    """Requests in progress, except the one running now."""
    is_direct: bool
    """True if applications run in the loop's thread, where functions passed to `call` may also be called directly."""
    concurrent: bool
    """True if a request may begin while another one runs: `wsgi.multithread`."""

    def start(self, call: WsgiCall) -> None:
        """Promise 1."""
        ...

    def parked(self, call: WsgiCall, pool_worker: Any) -> None:
        """The application waits for the first time, in the greenlet `pool_worker`. Called in the loop."""
        ...

    def call(self, call: WsgiCall, function: Callable[..., object], *args: Any) -> None:
        """Promise 2."""
        ...

    def read(self, call: WsgiCall) -> bytes:
        """Promise 3. Raises `ClientGoneError`."""
        ...

    def wait_for_room(self, call: WsgiCall) -> None:
        """Promise 4."""
        ...

    def wake(self, call: WsgiCall) -> None:
        """Promise 5."""
        ...

    def await_(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop and wait for its result. Called on the application's side."""
        ...

    def ended(self, call: WsgiCall) -> None:
        """The application has returned. Called on its side; optional if nothing is running."""
        ...

    def stop(self, call: WsgiCall) -> None:
        """Promise 6."""
        ...

    async def wait_idle(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds until no application is running; return True on success."""
        ...

    def close(self) -> None:
        """Release idle resources. Does not block."""
        ...


class _Base:
    """The part shared by both runners: the running requests, and the wait for their end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.running: set[WsgiCall] = set()
        self._idle: asyncio.Future[None] | None = None

    async def wait_idle(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds until no application is running; return True on success."""
        if self.running and timeout > 0:
            self._idle = self._loop.create_future()
            try:
                async with asyncio.timeout(max(timeout, 0)):
                    await self._idle
            except TimeoutError:
                return not self.running
            finally:
                self._idle = None
        return not self.running

    def _forget(self, call: WsgiCall) -> None:
        self.running.discard(call)
        if self._idle is not None and not self.running and not self._idle.done():
            self._idle.set_result(None)


class GreenletRunner(_Base):
    """Runs each request in a greenlet of the loop's thread."""

    is_direct = True
    concurrent = True

    def __init__(self, runtime: Greenlets) -> None:
        super().__init__(runtime.loop)
        self._runtime = runtime
        runtime.hide_loop()
        self._is_due = runtime.turn.is_due
        self.start: Callable[[WsgiCall], None] = runtime.run_job
        """Promise 1: now, until it first waits. The runtime's own method: one frame less for each request."""

    # -- the hot path; benchmark: python -m benchmarks wsgi ---------------------------------------------------------

    def parked(self, call: WsgiCall, pool_worker: Any) -> None:
        """Record the greenlet in which the application waits."""
        call.pool_worker = pool_worker
        self.running.add(call)

    @staticmethod
    def call(call: WsgiCall, function: Callable[..., object], *args: Any) -> None:
        """Promise 2: this is the loop's thread already."""
        function(*args)

    def ended(self, call: WsgiCall) -> None:
        """Forget the request: its application has returned."""
        self.running.discard(call)
        if self._idle is not None:
            self._forget(call)

    def wait_for_room(self, call: WsgiCall) -> None:
        """Promise 4: also until a lost connection is reported, which takes a turn of the loop."""
        exchange = call.exchange
        while exchange.is_held() and not (exchange.gone or exchange.stage is _WHOLE):
            self._wait(call)
        if self._is_due():
            self._runtime.give_way()

    # -- less often ---------------------------------------------------------------------------------------------------

    def read(self, call: WsgiCall) -> bytes:
        """Promise 3."""
        exchange = call.exchange
        while True:
            if exchange.buffered:
                return exchange.take_body()
            if exchange.complete:
                return b""
            if exchange.gone:
                raise ClientGoneError("the client is gone before the end of the body")
            exchange.ask_for_body()
            self._wait(call)

    def _wait(self, call: WsgiCall) -> None:
        call.waiting = parking = self._runtime.parking()
        try:
            parking.wait()
        finally:
            call.waiting = None

    @staticmethod
    def wake(call: WsgiCall) -> None:
        """Promise 5: in the next turn, because the parser may be running in this one."""
        call.waiting.wake_soon()

    def await_(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop and wait for its result."""
        return self._runtime.await_(coroutine)

    def stop(self, call: WsgiCall) -> None:
        """Promise 6: by GreenletExit."""
        call.ending = True
        self._runtime.call_home(self._kill, call)

    def _kill(self, call: WsgiCall) -> None:
        if call not in self.running:
            return  # its greenlet is about to serve another request: so throw at once, and here
        call.pool_worker.throw(greenlet.GreenletExit)
        if call.pool_worker.dead:  # killed before its first step
            self._forget(call)

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


class ThreadRunner(_Base):
    """Runs each request in one of `count` threads, started on demand. They end with the process.

    Here `call.waiting` is an event. The waiting thread stores the event first and checks the state then; the loop
    changes the state first and looks for an event then. So no wake-up is lost.
    """

    is_direct = False

    def __init__(self, loop: asyncio.AbstractEventLoop, count: int, spare: int | None = None) -> None:
        """`spare`: number of idle threads to keep; None: all."""
        super().__init__(loop)
        self.concurrent = count > 1
        self._count = count
        self._spare = count if spare is None else spare
        self._jobs: queue.SimpleQueue[WsgiCall | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._calls: collections.deque[_Call] = collections.deque()  # calls from the threads to the loop, in order
        self._scheduled = False  # `_answer` is scheduled

    def start(self, call: WsgiCall) -> None:
        """Promise 1: as soon as a thread is free."""
        self.running.add(call)
        if len(self._threads) < self._count and len(self.running) > len(self._threads):
            thread = threading.Thread(target=self._work, name=f"wsgi-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._jobs.put(call)

    def _work(self) -> None:
        while (call := self._jobs.get()) is not None:
            contextvars.Context().run(call.run)  # empty for each request, as in a new greenlet
            del call  # else it would live until the next one comes

    def call(self, call: WsgiCall, function: Callable[..., object], *args: Any) -> None:
        """Promise 2: errors fail the exchange, because the application has already moved on."""
        self._ask(self._called, call, function, args)

    def _ask(self, function: Callable[..., object], *args: Any) -> None:
        """Schedule a function in the loop. One wake-up serves all calls until the loop runs them."""
        self._calls.append((function, args))
        if not self._scheduled:
            self._scheduled = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
                self._loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        self._scheduled = False  # first: later calls wake the loop again
        calls = self._calls
        for _ in range(len(calls)):  # later calls wait for their turn: threads may ask faster than the loop answers
            function, args = calls.popleft()
            try:
                function(*args)
            except Exception:  # noqa: BLE001 - logged: calls from other threads follow
                _log.exception("a call from a thread failed")

    @staticmethod
    def _called(call: WsgiCall, function: Callable[..., object], args: tuple[Any, ...]) -> None:
        exchange = call.exchange
        try:
            if not (exchange.gone or exchange.stage is _WHOLE):
                function(*args)
        except Exception as error:  # noqa: BLE001 - logged
            call.failed(error)
            exchange.fail()
        finally:
            if function == call.send:
                call.out += len(args[0])
                _set(call.waiting)

    def parked(self, call: WsgiCall, pool_worker: Any) -> None:
        """Do nothing: running requests count from their start."""

    def ended(self, call: WsgiCall) -> None:
        """Forget the request: its application has returned."""
        self._ask(self._forget, call)

    def _forget(self, call: WsgiCall) -> None:
        super()._forget(call)
        if len(self._threads) - len(self.running) > self._spare:
            self._threads.pop()
            self._jobs.put(None)

    def wait_for_room(self, call: WsgiCall) -> None:
        """Promise 4: also while the thread is too far ahead of the loop."""
        while self._is_ahead(call):
            call.waiting = news = threading.Event()
            if self._is_ahead(call):
                news.wait()
        call.waiting = None

    @staticmethod
    def _is_ahead(call: WsgiCall) -> bool:
        exchange = call.exchange
        is_full = exchange.is_held() or call.given - call.out > _AHEAD
        return is_full and not (exchange.gone or exchange.stage is _WHOLE)

    def read(self, call: WsgiCall) -> bytes:
        """Promise 3."""
        exchange = call.exchange
        body = exchange.body
        while True:
            call.waiting = news = threading.Event()
            complete = exchange.complete  # read before `body`: the last piece arrives before `complete` is set
            if body:
                parts = []
                while body:
                    parts.append(body.popleft())
                data = b"".join(parts)
                self._ask(exchange.took, len(data))
                return data
            if complete:
                return b""
            if exchange.gone:
                raise ClientGoneError("the client is gone before the end of the body")
            self._ask_for_body(call)
            news.wait()

    def _ask_for_body(self, call: WsgiCall) -> None:
        self._ask(call.exchange.ask_for_body)

    @staticmethod
    def wake(call: WsgiCall) -> None:
        """Promise 5."""
        _set(call.waiting)

    def await_(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop and wait for its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def stop(self, call: WsgiCall) -> None:
        """Promise 6: a thread cannot be killed, but its calls to the connection fail from now on."""
        call.ending = True
        call.exchange.abandon()
        _set(call.waiting)

    def close(self) -> None:
        """Let the idle threads end."""
        for _ in self._threads:
            self._jobs.put(None)


forks.replace(GreenletRunner, call=forks.finish, _wait=forks.leave)
forks.replace(ThreadRunner, call=forks.finish, _ask_for_body=forks.leave)


def _set(event: threading.Event | None) -> None:
    """Wake the waiting thread, if any. The event is an argument because the thread may withdraw it at any time."""
    if event is not None:
        event.set()
