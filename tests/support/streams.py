"""Test bodies for streams: the same body runs on lean streams and on asyncio's own, over connected sockets."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from hybrid.workers.hub.hub_runtime import HubRuntime
from hybrid.workers.runtime import Accepted
from support.hub import run_on, tcp_pair

# where a body runs: (loop, how its task is made)
LEAN = [("epoll", "stepped"), ("epoll", "plain"), ("poll", "stepped"), ("select", "stepped")]
NATIVE = [("asyncio", "plain")]


@dataclasses.dataclass
class Ends:
    """A handler's reader and writer, and the peer's socket with verbs."""

    runtime: HubRuntime
    reader: Any
    writer: Any
    peer: socket.socket
    closed: list[str]  # one entry once the connection is reported closed
    start: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]  # makes a task of the kind this test is run for

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self.runtime.loop

    def says(self, data: bytes) -> None:
        """Let the peer send as much as fits into a socket's buffer."""
        self.peer.send(data)

    async def says_all(self, data: bytes) -> None:
        """Let the peer send any amount."""
        await self.loop.sock_sendall(self.peer, data)

    def stops_sending(self) -> None:
        """Let the peer close its sending half."""
        self.peer.shutdown(socket.SHUT_WR)

    async def hears(self, size: int) -> bytes:
        """Return the next `size` bytes that reach the peer, fewer at the end."""
        received = bytearray()
        while len(received) < size and (part := await self.loop.sock_recv(self.peer, min(size, 1 << 20))):
            received += part
        return bytes(received)

    async def hears_all(self) -> bytes:
        """Return all that reaches the peer until the end."""
        return await self.hears(1 << 40)


async def open_ends(runtime: HubRuntime, left: socket.socket, right: socket.socket, task: str = "stepped") -> Ends:
    """Make `left` a handler's connection; `right` stays the test's."""
    right.setblocking(False)
    closed: list[str] = []
    address = left.getpeername()
    accepted = Accepted(left.detach(), address, right)
    reader, writer = await runtime.open_streams(accepted, lambda: closed.append("closed"))
    start = runtime.create_task if task == "stepped" else runtime.loop.create_task
    return Ends(runtime, reader, writer, right, closed, start)


Body = Callable[[Ends], Coroutine[Any, Any, None]]


def run_body(body: Body, loop: str, task: str, family: str = "unix") -> None:
    """Run `body` on one loop, in a task that the poller steps or in a plain one."""

    async def main(runtime: HubRuntime) -> None:
        with tcp_pair() if family == "tcp" else _unix_pair() as (left, right):
            ends = await open_ends(runtime, left, right, task)
            try:
                await ends.start(body(ends))
            finally:
                if not ends.closed:
                    ends.writer.transport.abort()
                await asyncio.sleep(0)

    run_on(loop, main)


class _unix_pair:  # noqa: N801 - a context manager beside `tcp_pair`
    def __enter__(self) -> tuple[socket.socket, socket.socket]:
        self._pair = socket.socketpair()
        return self._pair

    def __exit__(self, *_: object) -> None:
        for sock in self._pair:
            sock.close()


def on_streams(body: Body | None = None, *, places: list[tuple[str, str]] | None = None, family: str = "unix") -> Any:
    """Make a test of `async def test(ends)`, run once per place: by default on lean streams and on asyncio's."""

    def decorate(body: Body) -> Callable[[str, str], None]:
        @pytest.mark.parametrize(("loop", "task"), places or LEAN + NATIVE)
        def test(loop: str, task: str) -> None:
            run_body(body, loop, task, family)

        test.__name__ = test.__qualname__ = body.__name__
        test.__doc__ = body.__doc__
        test.__module__ = body.__module__
        return test

    return decorate if body is None else decorate(body)
