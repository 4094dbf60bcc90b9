"""Runs test bodies on the loops: a coroutine as a handler's task, a function in a greenlet, both with a deadline."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import uvloop

from hybrid.workers.hub.hub_runtime import HubRuntime
from hybrid.workers.hub.sockets import Socket
from hybrid.workers.loops import registry
from hybrid.workers.loops.driver import run
from hybrid.workers.runtime import Runtime

DEADLINE = 20.0  # seconds; enough for a loaded machine, never a test's expectation
T = TypeVar("T")

uvloop.new_event_loop().close()  # libuv's first loop opens a pipe for signals that stays for the life of the process


def run_on(loop: str, main: Callable[[HubRuntime], Coroutine[Any, Any, T]]) -> T:
    """Run `main(runtime)` on the loop of that name (any but gevent) until it returns, at most `DEADLINE` seconds.

    Leaves the process as it is: the driver's `prepare` is not called.
    """

    async def limited(runtime: Runtime) -> T:
        assert isinstance(runtime, HubRuntime)
        async with asyncio.timeout(DEADLINE):
            return await main(runtime)

    return run(registry.load(loop), limited)


def in_greenlet(loop: str, function: Callable[[HubRuntime], T]) -> T:
    """Run `function(runtime)` in a greenlet on the loop of that name (any but gevent) until it returns."""

    async def main(runtime: HubRuntime) -> T:
        return await runtime.green(function, runtime)

    return run_on(loop, main)


async def turns(count: int = 5) -> None:
    """Let the loop turn `count` times: whatever is ready and whatever is scheduled gets its chance."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until `condition` holds; the deadline is the caller's."""
    while not condition():
        await asyncio.sleep(0.001)


@contextmanager
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give two connected TCP sockets of the loopback interface; close them if the test did not."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        left = socket.create_connection(listener.getsockname(), DEADLINE)
        right, _ = listener.accept()
    with left, right:
        yield left, right


def reset(sock: socket.socket) -> None:
    """Close a TCP socket so that the peer gets a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()


@contextmanager
def cooperative_pair(runtime: HubRuntime) -> Iterator[tuple[Socket, Socket]]:
    """Give two connected cooperative sockets; close them if the test did not."""
    left, right = (
        Socket(sock.family, sock.type, sock.proto, fileno=sock.detach(), runtime=runtime)
        for sock in socket.socketpair()
    )
    with left, right:
        yield left, right


async def outcome_of(awaitable: Awaitable[Any]) -> object:
    """Return the result of the awaitable, or the type of its error, CancelledError included."""
    try:
        return await awaitable
    except BaseException as error:  # noqa: BLE001 - the test compares it
        return type(error)
