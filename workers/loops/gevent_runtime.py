"""`GeventRuntime`: gevent's greenlets and sockets, and two bridges to coroutines on an asyncio loop."""

from __future__ import annotations

import asyncio
import inspect
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from typing import Any, TypeVar, cast

import gevent
import gevent.event
import greenlet
from gevent import socket as gevent_socket

from hybrid.workers.common import forks, lingering
from hybrid.workers.common.fairness import Turn
from hybrid.workers.common.frames import without_own_frame
from hybrid.workers.common.heartbeat import Heartbeat
from hybrid.workers.hub.pool import Job, Pool
from hybrid.workers.loops import gevent_transport, native_transport
from hybrid.workers.loops.gevent_selector import GeventLoop
from hybrid.workers.loops.gevent_sockets import INSTANT, HandlerSocket
from hybrid.workers.loops.native_streams import open_streams
from hybrid.workers.runtime import WOULD_BLOCK, Accepted, Listen, OpenTransport, polled_by, run_handler

_FIRST, _LAST = 2, -2  # EV_MAXPRI and EV_MINPRI of libev
T = TypeVar("T")


class GeventRuntime:
    """gevent's own functions, and two bridges to coroutines. See `hybrid.workers.runtime.Runtime`."""

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
        self._observing: tuple[Any, ...] = ()  # libev watchers, once the turns are observed

    def spawn(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> gevent.Greenlet[..., Any]:
        """`gevent.spawn`; raises `TypeError` for a coroutine function, which gevent would call and forget."""
        if inspect.iscoroutinefunction(function):
            raise TypeError(f"{function!r} is a coroutine function: use asyncio.create_task, or hybrid.await_")
        return gevent.spawn(function, *args, **kwargs)

    def sleep(self, seconds: float = 0) -> None:
        """`gevent.sleep`."""
        self._refuse_home()
        gevent.sleep(seconds)

    def give_way(self) -> None:
        """Let the hub continue if its turn has lasted long enough. Parks, except in the hub itself."""
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
        """Run `awaitable` on the asyncio loop and wait cooperatively; killing the greenlet cancels it."""
        self._refuse_home()
        started: list[asyncio.Future[T]] = []
        ended = gevent.event.Event()
        abandoned = False

        def start(awaitable: Awaitable[T]) -> None:
            future: asyncio.Future[T]
            try:
                future = asyncio.ensure_future(awaitable, loop=self.loop)
            except BaseException as error:  # noqa: BLE001 - raised in the calling greenlet
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
                del outcome  # it keeps the error, and this frame called the frame that raised it

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
        """Run a job in a greenlet: immediately in the hub, where lean transports call; otherwise soon."""
        if greenlet.getcurrent() is self._hub:
            self._pool.run((job,))
        else:
            job.parked(gevent.spawn(job.run))

    def hide_loop(self) -> None:
        """Do nothing: `GeventSelector` hides the loop from all other greenlets."""

    def call_home(self, function: Callable[..., object], *args: Any) -> None:
        """Call a function soon in the hub's greenlet, the home of all others, where it may throw into them."""
        self.watches.soon(function, *args)

    def parking(self) -> GeventParking:
        """Return a parking for one wait of the calling greenlet."""
        self._refuse_home()
        return GeventParking()

    def opener(self, steps_tasks: bool = True) -> OpenTransport:
        """Return the opener of a transport: asyncio's for protocols that step tasks, else gevent's lean one."""
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
        """Report the turns of gevent's hub to the heartbeat if the hub is libev's in C; 0.6 us a turn (measured).

        libev calls check watchers of the highest priority before all other ready watchers, and prepare watchers of the
        lowest priority after gevent's own, in which gevent runs due greenlets. (gevent's other loops run them
        elsewhere, or have no such watchers.)
        """
        loop = self._hub.loop
        if type(loop).__module__ == "gevent.libev.corecext":
            heartbeat.observes_turns()
            check, prepare = loop.check(ref=False, priority=_FIRST), loop.prepare(ref=False, priority=_LAST)
            check.start(heartbeat.wakes)
            prepare.start(heartbeat.rests)
            self._observing = check, prepare

    def abandon(self) -> None:
        """Abandon the asyncio loop and the connections in a process that a handler forked."""
        self._pool.abandon()
        forks.abandon_turn(self.loop)
        self._abandon_loop()
        self.watches.abandon()

    def close(self) -> None:
        """End idle pool workers, and stop observing the hub."""
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
        """Wake the greenlet."""
        if not self._woken.ready():
            self._woken.set(value)

    wake = wake_soon  # the hub switches to it: a callback of the asyncio loop runs in a greenlet of its own


def _settle(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)
