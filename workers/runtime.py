"""The runtime of the calling code: how a plain function call like `hybrid.sleep(1)` finds its loop.

A runtime belongs to a thread, and the thread's first greenlet is the root of all its greenlets: that greenlet is the
key. (A `threading.local` does not work: gevent makes it local to a greenlet.)
"""

from __future__ import annotations

import _socket
import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import greenlet

from hybrid.workers.common import lingering
from hybrid.workers.common.fairness import Turn
from hybrid.workers.common.heartbeat import Heartbeat
from hybrid.workers.hub.pool import Job

if TYPE_CHECKING:
    import ssl

T = TypeVar("T")
WOULD_BLOCK = (
    "this call would block the event loop: in a coroutine, use `await hybrid.green(function, ...)` "
    "or asyncio's own function"
)
"""The error of a call that would park the greenlet that runs the loop."""
Address = Any  # as returned by `accept`: (host, port), (host, port, flow, scope) or a path


class GreenletLike(Protocol):
    """A greenlet as returned by `spawn`: hybrid's or gevent's."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Wait for the result."""
        ...

    def join(self, timeout: float | None = None) -> Any:
        """Wait for the end."""
        ...

    def kill(self, exception: Any = greenlet.GreenletExit, block: bool = True, timeout: float | None = None) -> Any:
        """Raise `exception` in it."""
        ...


class ParkingLike(Protocol):
    """One wait of a greenlet."""

    def wait(self, timeout: float | None = None) -> Any:
        """Park the greenlet until it is woken. Raises `TimeoutError` after `timeout` seconds."""
        ...

    def wake(self, value: Any = None) -> None:
        """Wake the greenlet, now if that is possible; only from a callback of the loop."""
        ...

    def wake_soon(self, value: Any = None) -> None:
        """Wake the greenlet soon; from anywhere on the loop's thread."""
        ...


class TellingSocket(socket.socket):
    """A socket that calls back when it is closed.

    A protocol's `connection_lost` cannot do that: the application may give the transport another protocol.
    """

    peer: Address = None
    """The peer's address from accept(2): the kernel forgets it when the peer resets."""
    tell_closed: Callable[[], None] | None = None
    """Called once."""
    kind: int
    """The address family."""
    loop: asyncio.AbstractEventLoop
    """The transport's loop."""
    _transport: Any = None
    forks = lingering.NEVER
    """`lingering.forks` at the accept, or `NEVER` once it is aborted."""
    is_corked = False
    """The peer has ended its stream, and the last bytes wait for the close."""

    def getpeername(self) -> Address:
        """Return the peer's address, even after the peer is gone."""
        return self.peer

    def serves(self, transport: Any) -> None:
        """Store the transport that owns this socket: aborting the transport closes without lingering.

        uvloop's transports take no attributes: their `abort` lingers like `close`.
        """
        if self.tell_closed is None or not isinstance(self.loop, asyncio.BaseEventLoop):  # None: closed already
            return

        def abort() -> None:
            self.forks = lingering.NEVER
            type(transport).abort(transport)

        transport.abort = abort
        self._transport = transport

    def cork(self) -> None:
        """Send the next bytes together with the end of the stream: a close follows. See tcp(7), TCP_CORK."""
        if self.kind in lingering.TCP and self.forks == lingering.forks:
            with contextlib.suppress(OSError):  # the peer is gone; the transport is about to notice
                self.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
                self.is_corked = True

    def close(self) -> None:
        """Close, and call back. Called by asyncio's transports once the kernel has taken everything. Does not block."""
        fd = self.fileno()
        if self._lingers(fd):
            lingering.linger(self.loop, super().detach(), self.kind)
        else:
            super().close()
        self._tell()

    def lost(self) -> None:
        """Called from the protocol's `connection_lost`: on uvloop the last chance to use the descriptor.

        libuv has closed the descriptor before it calls the socket. So the connection lingers on a duplicate.
        """
        if not isinstance(self.loop, asyncio.BaseEventLoop) and self._lingers(self.fileno()):
            with contextlib.suppress(OSError):  # no descriptors left
                lingering.linger(self.loop, os.dup(self.fileno()), self.kind)

    def detach(self) -> int:
        """Detach the descriptor, as uvloop does after it has closed it itself, and call back."""
        fd = super().detach()
        self._tell()
        return fd

    def _lingers(self, fd: int) -> bool:
        forks, self.forks = self.forks, lingering.NEVER
        return lingering.is_due(fd, lingering.INPUT_ONLY if self.is_corked else self.kind, forks)

    def _tell(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            del transport.abort
        tell, self.tell_closed = self.tell_closed, None
        if tell is not None:
            tell()


# plain numbers: the properties of `socket.socket` make an enumeration member at each access
_family = _socket.socket.family.__get__
_type = _socket.socket.type.__get__
_proto = _socket.socket.proto.__get__


class Accepted(NamedTuple):
    """A newly accepted connection: its receiver owns the descriptor."""

    fd: int
    address: Address
    listener: socket.socket
    """The socket it was accepted from, for its family, type and protocol."""

    def bare_socket(self) -> _socket.socket:
        """Return it as the C class below `socket.socket`, for transports. gevent does not patch that class.

        Making and closing one is 0.8 us cheaper (measured): the methods of `socket.socket` for both are in Python.
        """
        listener = self.listener
        return _socket.socket(_family(listener), _type(listener), _proto(listener), self.fd)

    def socket(self) -> socket.socket:
        """Return it as a `socket.socket`: gevent's class if gevent has patched the standard library."""
        listener = self.listener
        return socket.socket(_family(listener), _type(listener), _proto(listener), fileno=self.fd)

    def telling_socket(self, closed: Callable[[], None], loop: asyncio.AbstractEventLoop) -> TellingSocket:
        """Return it as a socket for the loop's own transport; `closed()` is called once it is closed."""
        listener = self.listener
        family = _family(listener)
        sock = TellingSocket(family, _type(listener), _proto(listener), fileno=self.fd)
        sock.peer = self.address
        sock.tell_closed = closed
        sock.kind = family
        sock.loop = loop
        sock.forks = lingering.forks
        return sock


Listen = Callable[[int, Callable[[], object]], Callable[[], object]]
"""Calls a function whenever a listening descriptor has a connection; returns a function that stops it.

If the function returns True, more connections may wait: it may be called again within the same turn.
Raises `OSError` if the loop cannot poll the descriptor.
"""


def polled_by(loop: asyncio.AbstractEventLoop) -> Listen:
    """Return a `Listen` for any loop, by `add_reader`."""

    def listen(fd: int, callback: Callable[[], object]) -> Callable[[], object]:
        loop.add_reader(fd, callback)
        return partial(loop.remove_reader, fd)

    return listen


class OpenTransport(Protocol):
    """Gives an accepted connection to one of the server's protocols."""

    def __call__(
        self,
        protocol: Any,
        accepted: Accepted,
        closed: Callable[[], None],
        tls: ssl.SSLContext | None = None,
        tls_timeout: float = 60.0,
    ) -> Callable[[], object]:
        """Return a function that ends the connection early. `closed()` is called once. Called from the loop.

        `tls_timeout` bounds the TLS handshake, in seconds. A connection that ends before its handshake is forgotten.
        """
        ...


class Greenlets(Protocol):
    """The role for code that waits: greenlets on the loop of their thread, and bridges to coroutines."""

    loop: asyncio.AbstractEventLoop
    """The asyncio loop that coroutines run on."""
    turn: Turn
    """Tells a greenlet that never waits when to call `give_way`."""

    def spawn(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> GreenletLike:
        """Start a greenlet soon and return it. Does not block."""
        ...

    def sleep(self, seconds: float = 0) -> None:
        """Let others run for `seconds`. Parks the calling greenlet."""
        ...

    def give_way(self) -> None:
        """Let the loop continue if its turn has lasted long enough, see `fairness`. May park the calling greenlet."""
        ...

    def joinall(
        self,
        greenlets: Iterable[Any],
        timeout: float | None = None,
        raise_error: bool = False,
        count: int | None = None,
    ) -> list[Any]:
        """Wait for greenlets; return those that ended. Parks the calling greenlet."""
        ...

    def await_(self, awaitable: Awaitable[T]) -> T:
        """Run an awaitable on the asyncio loop and return its result. Parks the calling greenlet."""
        ...

    async def green(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run a function in a greenlet and return its result to a coroutine."""
        ...

    def connect(self, address: Address, timeout: float | None = None) -> socket.socket:
        """Return a cooperative socket connected to `address`. Parks the calling greenlet."""
        ...

    def start_handler(
        self, handler: Callable[..., Any], accepted: Accepted, ended: Callable[[BaseException | None], None]
    ) -> Any:
        """Run a sync handler on an accepted connection in a greenlet, close the socket, call `ended(error or None)`.

        Returns the greenlet, which may have ended already. Called from the loop.
        """
        ...

    def run_job(self, job: Job) -> None:
        """Call `job.run()` in a greenlet, within this turn of the loop if possible. Called from the loop.

        If it has to wait, `job.parked(greenlet)` is called with its greenlet. Exceptions of `run` are logged.
        """
        ...

    def hide_loop(self) -> None:
        """Prepare for greenlets that do not see the running loop, such as pool workers. Call it before `run_job`."""
        ...

    def call_home(self, function: Callable[..., object], *args: Any) -> None:
        """Call a function soon in the home greenlet of the pool workers, where it may throw into them."""
        ...

    def parking(self) -> ParkingLike:
        """Return a parking for one wait of the calling greenlet."""
        ...

    def kill(self, started: Any) -> None:
        """Raise GreenletExit in a greenlet that `start_handler` or `spawn` returned. Does not block."""
        ...


class Transports(Protocol):
    """The role for interfaces: how the loop accepts connections, and its transports."""

    loop: asyncio.AbstractEventLoop
    """The asyncio loop that coroutines run on."""
    listen: Listen
    """The loop's own way to poll a listening socket."""

    def opener(self, steps_tasks: bool = True) -> OpenTransport:
        """Return the opener of the loop's leanest transport for one kind of protocol.

        `steps_tasks` is True if the protocol's methods use asyncio in a way that is allowed only in the greenlet that
        runs the loop, such as stepping its tasks.
        """
        ...

    async def open_streams(self, accepted: Accepted, closed: Callable[[], None]) -> tuple[Any, Any]:
        """Return reader and writer for an accepted connection; `closed()` is called once it is closed."""
        ...

    def create_task(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Return a task for a connection's coroutine; it may have started or be done. Called from the loop."""
        ...


class Life(Protocol):
    """The role for the worker: the life of the loop from its first turn to its end."""

    name: str
    """The loop's name in the registry."""
    loop: asyncio.AbstractEventLoop
    """The asyncio loop that coroutines run on."""

    def observe(self, heartbeat: Heartbeat) -> None:
        """Report the loop's turns to `heartbeat` from now on, if they can be observed. Called once, within a turn."""
        ...

    def abandon(self) -> None:
        """Abandon the loop in a process that a handler forked; see `hybrid.workers.common.forks`."""
        ...

    def close(self) -> None:
        """Release idle resources: the loop has ended."""
        ...


class Runtime(Greenlets, Transports, Life, Protocol):
    """One event loop and its greenlets, in three roles; implemented by `hub.hub_runtime` and `loops.gevent_runtime`."""


def run_handler(
    handler: Callable[..., Any], sock: socket.socket, address: Address, ended: Callable[[BaseException | None], None]
) -> None:
    """Body of a connection's greenlet: close the socket as gevent's StreamServer does; raise nothing into the loop."""
    error: BaseException | None = None
    try:
        handler(sock, address)
    except BaseException as caught:  # noqa: BLE001 - passed to `ended`, which logs it
        error = caught
    with contextlib.suppress(OSError):
        sock.close()
    try:
        ended(error)
    finally:
        # its traceback has this frame: a cycle, in which a file of `makefile` keeps the connection open
        error = None


_runtimes: dict[greenlet.greenlet, Runtime] = {}  # first greenlet of a thread -> its runtime


def _root() -> greenlet.greenlet:
    found = greenlet.getcurrent()
    while found.parent is not None:
        found = found.parent
    return found


def current() -> Runtime:
    """Return the runtime of the calling code. Does not block.

    Raises `RuntimeError` if there is none: in a plain script, or in a thread of an executor.
    """
    found = _runtimes.get(_root())
    if found is None:
        raise RuntimeError(
            "no hybrid loop runs in this thread: call this in a handler that `hybrid run` serves, "
            "or inside hybrid.run(main). A thread, such as those of --threads, has time.sleep and plain sockets instead"
        )
    return found


class entered:  # noqa: N801 - a context manager, named as contextlib names its own
    """Make `runtime` the current one of this thread within a `with` block."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._key = _root()

    def __enter__(self) -> Runtime:
        if self._key in _runtimes:
            raise RuntimeError("a hybrid loop is running in this thread already: use hybrid.spawn or await instead")
        _runtimes[self._key] = self._runtime
        return self._runtime

    def __exit__(self, *_: object) -> None:
        del _runtimes[self._key]
