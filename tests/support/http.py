"""HTTP connections without sockets: a transport that records calls, with verbs for its client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from hybrid.workers.apps.asgi.interface import Asgi
from hybrid.workers.common.connections import Connections
from hybrid.workers.http.h1.connection import HttpConnection
from hybrid.workers.http.settings import HttpSettings
from support.process import DEADLINE


class FakeTransport(asyncio.Transport):
    """A connection's transport. Buffers only while the client `stops_taking`."""

    def __init__(self, protocol: Any, high_water: int = 65_536, *, half_closes: bool = True) -> None:
        super().__init__()
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._high_water = high_water
        self._half_closes = half_closes
        self._takes = True
        self._unsent = bytearray()
        self._paused_protocol = False
        self._lost = False
        self.received = bytearray()
        """The bytes that the client has received."""
        self.is_paused = False
        """True if reading is paused."""
        self.closing = False
        self.aborted = False
        self.ended = False
        """True if the server has closed its sending side."""
        self.writes = 0
        protocol.connection_made(self)

    # -- the client ------------------------------------------------------------------------------------------------

    async def sends(self, data: bytes) -> None:
        """Let bytes arrive; a test error while reading is paused."""
        assert not self.is_paused, "reading is paused: the kernel would keep this"
        await in_callback(self._protocol.data_received, data)

    def stops_taking(self) -> None:
        """The client stops reading: everything written from now on stays in the buffer."""
        self._takes = False

    async def takes(self) -> None:
        """The client reads everything buffered, and everything written from now on."""
        self._takes = True
        self.received += self._unsent
        self._unsent.clear()
        if self._paused_protocol:
            self._paused_protocol = False
            await in_callback(self._protocol.resume_writing)
        if self.closing:
            self._lose()

    async def ends(self) -> None:
        """The client closes its sending side."""

        def end() -> None:
            if not self._protocol.eof_received():
                self.close()

        await in_callback(end)

    async def vanishes(self) -> None:
        """The connection breaks."""
        self.abort()
        await asyncio.sleep(0)

    # -- the server ------------------------------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        """Send to the client, or buffer."""
        assert not self.closing, "written to a closed transport"
        self.writes += 1
        if self._takes:
            self.received += data
            return
        self._unsent += data
        if len(self._unsent) > self._high_water and not self._paused_protocol:
            self._paused_protocol = True
            self._protocol.pause_writing()

    def get_protocol(self) -> Any:
        """Return the protocol."""
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        """Call this protocol from now on."""
        self._protocol = protocol

    def can_write_eof(self) -> bool:
        """The limits given to the constructor."""
        return self._half_closes

    def write_eof(self) -> None:
        """Close the server's sending side."""
        self.ended = True

    def close(self) -> None:
        """Close once everything is read."""
        self.closing = True
        if not self._unsent:
            self._lose()

    def abort(self) -> None:
        """Close now."""
        self.aborted = self.closing = True
        self._unsent.clear()
        self._lose()

    def is_closing(self) -> bool:
        """True if it is closed, or will be."""
        return self.closing

    def get_write_buffer_size(self) -> int:
        """Bytes that the client has not read."""
        return len(self._unsent)

    def pause_reading(self) -> None:
        """Pause reading."""
        self.is_paused = True

    def resume_reading(self) -> None:
        """Resume reading."""
        self.is_paused = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Addresses of the loopback."""
        return {"sockname": ("127.0.0.1", 80), "peername": ("127.0.0.1", 4711)}.get(name, default)

    def _lose(self) -> None:
        if not self._lost:
            self._lost = True
            self._loop.call_soon(self._protocol.connection_lost, None)


class FakeRuntime:
    """The part of a runtime that a web adapter needs without connections."""

    name = "asyncio"

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()

    def opener(self, steps_tasks: bool) -> Callable[..., Any]:
        """Return a function that would open a transport for a client."""

        def open_transport(*_: object) -> None:
            raise AssertionError("nobody connects")

        return open_transport


def asgi_adapter(application: Any, settings: HttpSettings | None = None) -> Asgi:
    """Return the adapter of an ASGI application on the running loop."""
    return Asgi(application, FakeRuntime(), Connections(), settings or HttpSettings())  # type: ignore[arg-type]


def connect(adapter: Asgi, **options: Any) -> tuple[HttpConnection, FakeTransport]:
    """Return a connection of a client at 127.0.0.1, and its transport."""
    connection = HttpConnection(adapter.context)
    connection.client = ("127.0.0.1", 4711)
    connection.server = ("127.0.0.1", 80)
    return connection, FakeTransport(connection, **options)


async def let_expire(connection: HttpConnection) -> None:
    """Let time pass until the deadline of a connection, and tell it."""
    connection.clock.now = max(connection.clock.now, connection.deadline)
    await in_callback(connection.expired)


async def in_callback(function: Callable[..., object], *args: Any) -> None:
    """Call a function as transports call protocols: from the loop, while no task runs. Raises its exceptions."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def call() -> None:
        try:
            function(*args)
        except BaseException as error:  # noqa: BLE001 - raised in the test
            done.set_exception(error)
        else:
            done.set_result(None)

    loop.call_soon(call)
    await done


async def until(condition: Callable[[], object], what: str) -> None:
    """Let the loop turn until a condition holds."""
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0)
    assert condition(), what
