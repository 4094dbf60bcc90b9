"""`HubRuntime`: greenlets, coroutines and sockets together, on the hub, on asyncio's loop and on uvloop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from threading import get_ident
from typing import Any, NoReturn, Protocol, TypeVar, cast

import greenlet

from hybrid.workers import runtime as runtimes
from hybrid.workers.common import forks, lingering
from hybrid.workers.common.fairness import turn_of
from hybrid.workers.common.heartbeat import Heartbeat
from hybrid.workers.hub import greenlets
from hybrid.workers.hub.connecting import is_numeric
from hybrid.workers.hub.greenlets import Greenlet
from hybrid.workers.hub.parking import Parking
from hybrid.workers.hub.pool import Job, Pool
from hybrid.workers.hub.watch import Watches
from hybrid.workers.runtime import Accepted, Listen, OpenTransport, run_handler
from hybrid.workers.tasks.cpython import running_loop, set_running_loop

T = TypeVar("T")
OpenStreams = Callable[["HubRuntime", Accepted, Callable[[], None]], Awaitable[tuple[Any, Any]]]
"""Makes reader and writer for a connection: lean ones on the hub, the loop's own elsewhere."""
CreateTask = Callable[[asyncio.AbstractEventLoop, Coroutine[Any, Any, Any]], "asyncio.Task[Any]"]
"""Makes the task of a connection: stepped by the poller on the hub, the loop's own elsewhere."""
Observe = Callable[[Heartbeat], object]
"""Reports the loop's turns to a heartbeat, if they can be observed."""


class HubWatches(Watches, Protocol):
    """Watches of a loop whose greenlet is the home of other greenlets."""

    @property
    def listen(self) -> Listen:
        """See `hybrid.workers.runtime.Transports`."""
        ...

    def run_by(self, run_jobs: Callable[[Iterable[Job]], None]) -> Callable[[Job], None]:
        """Return a function that takes a job and runs it with `run_jobs`, within this turn of the loop if possible."""
        ...


class HubRuntime:
    """The runtime of a loop with greenlets. Made in the greenlet that runs the loop, which is their home.

    See `hybrid.workers.runtime.Runtime` for the contract of the methods.
    """

    def __init__(
        self,
        name: str,
        loop: asyncio.AbstractEventLoop,
        watches: HubWatches,
        open_streams: OpenStreams,
        create_task: CreateTask,
        open_transport: OpenTransport,
        observe: Observe,
    ) -> None:
        from hybrid.workers.hub.sockets import Socket  # it imports this file

        self.name = name
        self.loop = loop
        self.turn = turn_of(loop)
        self._new_socket = Socket
        self.watches = watches
        self.home = greenlet.getcurrent()
        self.thread = get_ident()
        """The thread that runs the loop."""
        self.go_home: Callable[[], Any] = self.home.switch
        """Parks the calling greenlet. Look it up at each call: `hide_loop` replaces it."""
        self._open_streams = open_streams
        self._create_task = create_task
        self._open_transport = open_transport
        self._observe = observe
        self._pool = Pool(self.home, loop)
        self.run_job: Callable[[Job], None] = watches.run_by(self._pool.run)
        """Runs a job in a greenlet that does not see the running loop; see `pool`. Needs `hide_loop`."""
        self.listen: Listen = watches.listen
        """See `hybrid.workers.runtime.Transports`."""

    def hide_loop(self) -> None:
        """Allow greenlets that do not see the running loop to park from now on; makes parking a little slower."""
        self.go_home = self._go_home_from_hiding

    def call_home(self, function: Callable[..., object], *args: Any) -> None:
        """Call a function soon in the home greenlet of the pool workers, where it may throw into them."""
        self.loop.call_soon(function, *args)

    def _go_home_from_hiding(self) -> Any:
        if running_loop() is not None:
            return self.home.switch()
        set_running_loop(self.loop)
        try:
            return self.home.switch()
        finally:
            set_running_loop(None)

    def parking(self) -> Parking:
        """Return a parking for one wait of the calling greenlet."""
        return Parking(self.loop, self.home)

    def refuse_to_park(self) -> NoReturn:
        """Raise `RuntimeError` for a blocking call in the loop's own greenlet."""
        Parking(self.loop, self.home)
        raise AssertionError("unreachable: called outside of the loop's greenlet")

    def spawn(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Greenlet:
        """Start a greenlet in the loop's next turn."""
        return Greenlet(self.loop, self.home, function, args, kwargs)

    def sleep(self, seconds: float = 0) -> None:
        """Park for `seconds`; 0 lets the others run once."""
        parking = Parking(self.loop, self.home)
        if seconds > 0:
            timer = self.loop.call_later(seconds, parking.wake)
            try:
                parking.wait()
            finally:
                timer.cancel()
        else:
            parking.wake_soon()
            parking.wait()

    def give_way(self) -> None:
        """Let the loop continue if its turn has lasted long enough. Parks only in greenlets of the loop's thread."""
        me = greenlet.getcurrent()
        if me is not self.home and self.is_ours(me) and self.turn.is_long():
            self.sleep()

    def is_ours(self, found: greenlet.greenlet) -> bool:
        """Return True if a running greenlet belongs to the thread of the loop."""
        while found is not self.home and found.parent is not None:
            found = found.parent
        return found is self.home

    def joinall(
        self,
        items: Iterable[Greenlet],
        timeout: float | None = None,
        raise_error: bool = False,
        count: int | None = None,
    ) -> list[Greenlet]:
        """Wait for greenlets; see `greenlets.joinall`."""
        try:
            return greenlets.joinall(self.loop, self.home, items, timeout, raise_error, count)
        finally:
            del items  # they keep their errors, and an error this frame

    def await_(self, awaitable: Awaitable[T]) -> T:
        """Run `awaitable` as a task and park until it is done; killing the greenlet cancels the task."""
        parking = Parking(self.loop, self.home)
        future = asyncio.ensure_future(awaitable, loop=self.loop)
        future.add_done_callback(parking.wake)
        try:
            try:
                parking.wait()
            except BaseException:
                future.cancel()
                raise
            return future.result()
        finally:
            # The future keeps its error, and the error this frame: break that cycle.
            del future, awaitable

    async def green(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run `function` in a greenlet; cancelling the coroutine kills it."""
        started = Greenlet(self.loop, self.home, function, args, kwargs, report=False)
        ended: asyncio.Future[None] = self.loop.create_future()
        started.link(lambda _: None if ended.done() else ended.set_result(None))
        try:
            await ended
        except asyncio.CancelledError:
            started.kill(block=False)
            raise
        try:
            return cast(T, started.get(block=False))
        finally:
            del started  # it keeps its error, and the error this frame

    def connect(self, address: Any, timeout: float | None = None) -> socket.socket:
        """Connect to `(host, port)` or a UNIX path, trying each address of a name; `timeout` bounds each try."""
        if isinstance(address, (str, bytes)):
            return self._connected(
                self._new_socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, runtime=self), address, timeout
            )
        host, port = address[:2]
        flags = socket.AI_NUMERICHOST if is_numeric(host) else 0
        if flags:
            found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=flags)
        else:
            found = self.resolve(host, port, type=socket.SOCK_STREAM)
        errors: list[OSError] = []
        for family, kind, proto, _, where in found:
            try:
                return self._connected(self._new_socket(family, kind, proto, runtime=self), where, timeout)
            except OSError as error:
                errors.append(error)
        try:
            raise errors[0] if errors else OSError(f"no address found for {host!r}")
        finally:
            errors.clear()  # their tracebacks hold this frame

    def resolve(self, host: Any, port: Any, **hints: int) -> list[Any]:
        """Return the result of `getaddrinfo`, called in a thread. Parks. Raises `OSError`."""
        if greenlet.getcurrent() is self.home:
            self.refuse_to_park()
        return self.await_(self.loop.getaddrinfo(host, port, **hints))

    @staticmethod
    def _connected(sock: Any, address: Any, timeout: float | None) -> socket.socket:
        sock.settimeout(timeout)
        try:
            sock.connect(address)
        except BaseException:
            sock.close()
            raise
        return cast(socket.socket, sock)

    def start_handler(
        self, handler: Callable[..., Any], accepted: Accepted, ended: Callable[[BaseException | None], None]
    ) -> greenlet.greenlet:
        """Run a sync handler in a greenlet, now: the first bytes have often arrived with the connection."""
        listener = accepted.listener
        sock = self._new_socket(listener.family, listener.type, listener.proto, fileno=accepted.fd, runtime=self)
        sock.forks = lingering.forks
        started = greenlet.greenlet(run_handler, self.home)
        started.switch(handler, sock, accepted.address, ended)
        return started

    async def open_streams(self, accepted: Accepted, closed: Callable[[], None]) -> tuple[Any, Any]:
        """Return lean streams on the hub and asyncio's own elsewhere; `closed()` is called once."""
        return await self._open_streams(self, accepted, closed)

    def opener(self, steps_tasks: bool = True) -> OpenTransport:
        """Return the opener of transports. There is only one kind, and it may step tasks."""
        return self._open_transport

    def create_task(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Return a task for a connection's coroutine; on the hub it starts immediately, and the poller steps it."""
        return self._create_task(self.loop, coroutine)

    def observe(self, heartbeat: Heartbeat) -> None:
        """Report the loop's turns to `heartbeat` from now on."""
        self._observe(heartbeat)

    def abandon(self) -> None:
        """Abandon the loop in a process that a handler forked."""
        self._pool.abandon()
        self.watches.abandon()
        forks.abandon_turn(self.loop)

    def close(self) -> None:
        """End idle pool workers."""
        self._pool.close()

    def kill(self, started: greenlet.greenlet) -> None:
        """Raise GreenletExit in a greenlet in the loop's next turn."""
        self.loop.call_soon(_throw_exit, started)


def _throw_exit(started: greenlet.greenlet) -> None:
    if started:
        started.throw(greenlet.GreenletExit)


def current_hub() -> HubRuntime:
    """Return the runtime of the calling code. Raises `RuntimeError` if it is not a `HubRuntime`."""
    found = runtimes.current()
    if not isinstance(found, HubRuntime):
        raise RuntimeError(f"this is a socket of hybrid's hub; on {found.name}, use that loop's own sockets")
    return found
