"""The runtime on gevent, and the asyncio loop that shares its thread.

gevent's hub polls; the asyncio loop runs in the main greenlet and, when it has nothing to do, waits in its selector
for an event that gevent's I/O watchers set. gevent's own `GeventSelector` is not used because a `select(0)` of it,
which asyncio calls while it is busy, lets no other greenlet run, and because it cannot be woken from another
greenlet.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import selectors
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from time import monotonic
from typing import Any, TypeVar, TypeVarTuple, Unpack, cast

import gevent
import gevent.event
import greenlet
from gevent import socket as gevent_socket

from hybrid.workers.common import forks, lingering
from hybrid.workers.common.fairness import LONGEST, Turn
from hybrid.workers.common.frames import without_own_frame
from hybrid.workers.common.heartbeat import Heartbeat
from hybrid.workers.hub.pool import Job, Pool
from hybrid.workers.loops import gevent_transport, native_transport
from hybrid.workers.loops.gevent_sockets import INSTANT, HandlerSocket
from hybrid.workers.loops.native_streams import open_streams
from hybrid.workers.pollers.registrations import Registrations
from hybrid.workers.runtime import WOULD_BLOCK, Accepted, Listen, OpenTransport, polled_by, run_handler
from hybrid.workers.tasks.cpython import UncheckedLoop, running_loop, set_running_loop

_FIRST, _LAST = 2, -2  # EV_MAXPRI and EV_MINPRI of libev
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class GeventSelector(Registrations):
    """A selector that waits by switching to gevent's hub. A watcher that fired rests until the next select."""

    def __init__(self) -> None:
        super().__init__()
        self._hub = gevent.get_hub()
        self._watchers: dict[int, Any] = {}  # fd -> gevent I/O watcher
        self._resting: set[int] = set()  # fds whose watcher is not started
        self._fired: dict[int, int] = {}  # fd -> events since the last select
        self._something = gevent.event.Event()
        self._abandoned = False
        self._polled = 0.0  # when a busy loop last let gevent poll

    def _added(self, fd: int, events: int) -> None:
        self._watchers[fd] = self._hub.loop.io(fd, events)  # EVENT_READ and EVENT_WRITE are libev's 1 and 2
        self._start(fd)

    def _changed(self, fd: int, events: int) -> None:
        self._removed(fd)
        self._added(fd, events)

    def _removed(self, fd: int) -> None:
        watcher = self._watchers.pop(fd)
        watcher.stop()
        watcher.close()
        self._resting.discard(fd)
        self._fired.pop(fd, None)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Let gevent run for at most `timeout` seconds or until a registered descriptor is ready."""
        for fd in self._resting:
            self._start(fd)
        self._resting.clear()
        # asyncio keeps the running loop per thread: to the other greenlets, which run now, there is none, else asgiref
        # and Django would refuse to work "in an async context"
        running = running_loop()
        set_running_loop(None)
        if self._abandoned:  # in the greenlet that forked
            forks.leave()
        try:
            if timeout is not None and timeout <= 0:
                self._turn_once()
            else:
                self._something.wait(timeout)
            while self._is_abandoned():
                gevent.sleep(3600)
        finally:
            set_running_loop(running)
        self._something.clear()
        fired, self._fired = self._fired, {}
        return [(key, mask & key.events) for fd, mask in fired.items() if (key := self._keys.get(fd)) is not None]

    def _turn_once(self) -> None:
        """Let gevent run the callbacks that are due, and poll if it has not for a while."""
        now = monotonic()
        if now - self._polled > LONGEST:
            self._polled = now
            gevent.sleep(INSTANT)
        else:
            gevent.sleep(0)

    def _is_abandoned(self) -> bool:
        return self._abandoned

    def wake(self) -> None:
        """End the current wait; from another greenlet of this thread."""
        self._something.set()

    def abandon(self) -> None:
        """Never return from `select` again: this is a process that a handler forked, and the loop is the worker's.

        Where the loop's own greenlet forked, its next `select` ends the process. Other greenlets go on meanwhile.

        gevent gives the child an epoll set of its own, so stopping the watchers there does not touch the worker's.
        """
        self.close()
        self._abandoned = True
        self._something.set()

    def close(self) -> None:
        """Stop all watchers."""
        for fd in list(self._watchers):
            self._removed(fd)
        self._keys.clear()

    def _start(self, fd: int) -> None:
        self._watchers[fd].start(self._ready, fd, pass_events=True)

    def _ready(self, events: int, fd: int) -> None:
        if fd in self._watchers:
            self._watchers[fd].stop()
            self._resting.add(fd)
            # an error of the descriptor (-1) is for the next read or write to tell
            self._fired[fd] = events & 3 if events > 0 else 3
            self._something.set()


class GeventLoop(UncheckedLoop):
    """An asyncio loop over gevent. What another greenlet schedules on it wakes it, so futures work across greenlets.

    Unchecked, because gevent's `get_ident` tells greenlets apart, and all of them may call.
    """

    def __init__(self) -> None:
        self._gevent_selector = GeventSelector()
        self._runs_in: greenlet.greenlet | None = None
        super().__init__(self._gevent_selector)

    def abandon(self) -> None:
        """See `GeventSelector.abandon`."""
        self._gevent_selector.abandon()

    def run_forever(self) -> None:
        """Run until stopped; remembers in which greenlet."""
        self._runs_in = greenlet.getcurrent()
        try:
            super().run_forever()
        finally:
            self._runs_in = None

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """As asyncio's; from another greenlet it also wakes the loop."""
        handle = super().call_soon(callback, *args, context=context)
        if self._runs_in is not None and greenlet.getcurrent() is not self._runs_in:
            self._gevent_selector.wake()
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """As asyncio's; from another greenlet it also wakes the loop, which computes its timeout anew."""
        handle = super().call_at(when, callback, *args, context=context)
        if self._runs_in is not None and greenlet.getcurrent() is not self._runs_in:
            self._gevent_selector.wake()
        return handle


class GeventRuntime:
    """gevent's own functions, and the two bridges to coroutines. See `hybrid.workers.runtime.Runtime`."""

    def __init__(self, name: str, loop: GeventLoop) -> None:
        self.name = name
        self.loop: asyncio.AbstractEventLoop = loop
        self.listen: Listen = polled_by(loop)
        self._abandon_loop = loop.abandon
        self.home = greenlet.getcurrent()
        self.watches = gevent_transport.GeventWatches()
        self._hub = gevent.get_hub()
        self.turn = Turn(self._hub.loop.run_callback)
        self._pool = Pool(self._hub, None)
        self._observing: tuple[Any, ...] = ()  # watchers of libev's, once the turns are observed

    def spawn(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> gevent.Greenlet[..., Any]:
        """`gevent.spawn`; a coroutine function, which it would call and forget, raises `TypeError`."""
        if inspect.iscoroutinefunction(function):
            raise TypeError(f"{function!r} is a coroutine function: use asyncio.create_task, or hybrid.await_")
        return gevent.spawn(function, *args, **kwargs)

    def sleep(self, seconds: float = 0) -> None:
        """`gevent.sleep`."""
        self._refuse_home()
        gevent.sleep(seconds)

    def give_way(self) -> None:
        """Let the hub go on if its turn has lasted long enough. Parks; in the hub itself, never."""
        me = greenlet.getcurrent()
        if me is not self._hub and me is not self.home and self.turn.is_long():
            gevent.sleep(INSTANT)

    def joinall(
        self,
        greenlets: Iterable[Any],
        timeout: float | None = None,
        raise_error: bool = False,
        count: int | None = None,
    ) -> list[Any]:
        """`gevent.joinall`."""
        self._refuse_home()
        try:
            return gevent.joinall(list(greenlets), timeout, raise_error, count)
        finally:
            del greenlets  # they keep their errors, and an error this frame

    def await_(self, awaitable: Awaitable[T]) -> T:
        """Run `awaitable` on the asyncio loop and wait as gevent waits; a kill of the greenlet cancels it."""
        self._refuse_home()
        started: list[asyncio.Future[T]] = []
        ended = gevent.event.Event()
        abandoned = False

        def start(awaitable: Awaitable[T]) -> None:
            future: asyncio.Future[T]
            try:
                future = asyncio.ensure_future(awaitable, loop=self.loop)
            except BaseException as error:  # noqa: BLE001 - raised in the greenlet that asked
                future = self.loop.create_future()
                future.set_exception(error.with_traceback(None))
            started.append(future)
            future.add_done_callback(lambda _: ended.set())
            if abandoned:
                future.cancel()

        self.loop.call_soon(start, awaitable)
        del awaitable  # a future keeps its error, and the error this frame
        try:
            ended.wait()
        except BaseException:
            abandoned = True
            if started:
                self.loop.call_soon(started[0].cancel)
            raise
        return started.pop().result()

    async def green(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run `function` in a gevent greenlet; cancelling the coroutine kills it."""
        outcome: asyncio.Future[tuple[Any, BaseException | None]] = self.loop.create_future()

        def run(outcome: asyncio.Future[tuple[Any, BaseException | None]]) -> None:
            try:
                value = function(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - handed to the coroutine
                self.loop.call_soon(_settle, outcome, (None, without_own_frame(error)))
            else:
                self.loop.call_soon(_settle, outcome, (value, None))
            finally:
                del outcome  # it keeps the error, and this frame called the one that raised it

        started = gevent.spawn(run, outcome)
        try:
            value, error = await outcome
        except asyncio.CancelledError:
            started.kill(block=False)
            raise
        try:
            if error is not None:
                raise error
            return cast(T, value)
        finally:
            del outcome, error  # the error's traceback holds this frame

    def connect(self, address: Any, timeout: float | None = None) -> socket.socket:
        """`gevent.socket.create_connection`, and UNIX paths."""
        self._refuse_home()
        if isinstance(address, (str, bytes)):
            sock = gevent_socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(timeout)
            try:
                sock.connect(address)
            except BaseException:
                sock.close()
                raise
        else:
            sock = gevent_socket.create_connection(address, timeout)
            sock.settimeout(timeout)
        return sock

    def start_handler(
        self, handler: Callable[..., Any], accepted: Accepted, ended: Callable[[BaseException | None], None]
    ) -> gevent.Greenlet[..., Any]:
        """Run a sync handler in a gevent greenlet, as gevent's StreamServer does."""
        listener = accepted.listener
        sock = HandlerSocket(listener.family, listener.type, listener.proto, fileno=accepted.fd)
        sock.loop, sock.forks = self.loop, lingering.forks
        sock.take_turns(self.turn)
        return gevent.spawn(run_handler, handler, sock, accepted.address, ended)

    def run_job(self, job: Job) -> None:
        """Run a job in a greenlet: at once from the hub, where lean transports call; else soon."""
        if greenlet.getcurrent() is self._hub:
            self._pool.run((job,))
        else:
            job.parked(gevent.spawn(job.run))

    def hide_loop(self) -> None:
        """Nothing to do: `GeventSelector` hides it from all other greenlets."""

    def call_home(self, function: Callable[..., object], *args: Any) -> None:
        """Call a function soon in the hub's greenlet, to which all others go home: there it may throw into them."""
        self.watches.soon(function, *args)

    def parking(self) -> GeventParking:
        """Return what the calling greenlet can wait with."""
        self._refuse_home()
        return GeventParking()

    def opener(self, steps_tasks: bool = True) -> OpenTransport:
        """Return what gives a connection to a protocol; those that step tasks get asyncio's transport."""
        if steps_tasks:
            return partial(native_transport.open_transport, self.loop)
        return partial(gevent_transport.open_transport, self.loop, self.watches)

    async def open_streams(self, accepted: Accepted, closed: Callable[[], None]) -> tuple[Any, Any]:
        """Return asyncio's own streams."""
        return await open_streams(self, accepted, closed)

    def create_task(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Return a task of the asyncio loop."""
        return self.loop.create_task(coroutine)

    def observe(self, heartbeat: Heartbeat) -> None:
        """Tell the heartbeat of the turns of gevent's hub, if that is libev's in C; costs 0.6 us a turn (measured).

        libev calls check watchers of the highest priority before all others that became ready, prepare watchers of the
        lowest after gevent's own, in which it runs the greenlets that are due. (The other loops of gevent run them
        elsewhere, or know no such watchers.)
        """
        loop = self._hub.loop
        if type(loop).__module__ == "gevent.libev.corecext":
            heartbeat.observes_turns()
            check, prepare = loop.check(ref=False, priority=_FIRST), loop.prepare(ref=False, priority=_LAST)
            check.start(heartbeat.wakes)
            prepare.start(heartbeat.rests)
            self._observing = check, prepare

    def abandon(self) -> None:
        """Let go of the asyncio loop and the connections in a process that a handler forked."""
        self._pool.abandon()
        forks.abandon_turn(self.loop)
        self._abandon_loop()
        self.watches.abandon()

    def close(self) -> None:
        """End what is kept for later requests, and observe the hub no longer."""
        self._pool.close()
        for watcher in self._observing:
            watcher.stop()
            watcher.close()
        self._observing = ()

    def kill(self, started: greenlet.greenlet) -> None:
        """Raise GreenletExit in a greenlet."""
        gevent.kill(started)

    def _refuse_home(self) -> None:
        if greenlet.getcurrent() is self.home:
            raise RuntimeError(WOULD_BLOCK)


class GeventParking:
    """One wait of a greenlet."""

    def __init__(self) -> None:
        self._woken: gevent.event.AsyncResult[Any] = gevent.event.AsyncResult()

    def wait(self, timeout: float | None = None) -> Any:
        """Park until `wake_soon`; raises `TimeoutError` after `timeout` seconds."""
        try:
            return self._woken.get(timeout=timeout)
        except gevent.Timeout:
            raise TimeoutError("timed out") from None

    def wake_soon(self, value: Any = None) -> None:
        """Let the greenlet go on."""
        if not self._woken.ready():
            self._woken.set(value)


def _settle(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)
