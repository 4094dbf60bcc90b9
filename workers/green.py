"""The functions handlers call: `spawn`, `joinall`, `sleep`, `await_`, `green`, `connect`; and `run` for scripts.

They call the runtime of the calling thread: on gevent, gevent's own functions.
"""

from __future__ import annotations

import inspect
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from hybrid.workers.loops import registry
from hybrid.workers.loops.driver import run as run_loop

if TYPE_CHECKING:
    from hybrid.workers.runtime import GreenletLike, Greenlets, Runtime

T = TypeVar("T")


def _current() -> Greenlets:
    from hybrid.workers.runtime import current  # imports greenlet: not before a loop is in use

    return current()


def spawn(function: Callable[..., Any], *args: Any, **kwargs: Any) -> GreenletLike:
    """Call `function` in a new greenlet, started by the loop's next turn, and return the greenlet.

    The greenlet has `get(timeout=)`, `join(timeout=)`, `kill()`, `ready()`, `successful()`, `value` and `exception`.
    Works in greenlets and in coroutines; never blocks. Raises `RuntimeError` outside of a loop of hybrid, `TypeError`
    for a coroutine function (use `asyncio.create_task`).
    """
    return _current().spawn(function, *args, **kwargs)


def joinall(
    greenlets: Iterable[Any], timeout: float | None = None, raise_error: bool = False, count: int | None = None
) -> list[Any]:
    """Wait until all of `greenlets` (or `count` of them) have ended; return the ones that have.

    After `timeout` seconds, those that have ended by then are returned. With `raise_error` the first error is raised.
    Parks the calling greenlet; raises `RuntimeError` in a coroutine.
    """
    try:
        return _current().joinall(greenlets, timeout, raise_error, count)
    finally:
        del greenlets  # they keep their errors, and the tracebacks hold this frame


def sleep(seconds: float = 0) -> None:
    """Let others run for `seconds` (0: once). Parks the calling greenlet; raises `RuntimeError` in a coroutine."""
    _current().sleep(seconds)


def await_(awaitable: Awaitable[T]) -> T:
    """Run an awaitable and return its result: the way from blocking-style code to `async` libraries.

    Parks the calling greenlet; if the greenlet is killed, the awaitable is cancelled. Raises any exception of the
    awaitable, and `RuntimeError` in a coroutine (use `await`).
    """
    try:
        return _current().await_(awaitable)
    finally:
        del awaitable  # a future keeps its error, and the traceback holds this frame


async def green(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Run blocking-style code in a greenlet and return its result: the way from a coroutine to sync code.

    Cancelling the coroutine kills the greenlet. Raises any exception of `function`.
    """
    return await _current().green(function, *args, **kwargs)


def connect(address: Any, timeout: float | None = None) -> socket.socket:
    """Return a cooperative socket connected to `(host, port)` or to the path of a UNIX socket.

    `timeout`, in seconds, bounds each attempt and stays the socket's timeout. Parks the calling greenlet; raises
    `TimeoutError`, `OSError`, and `RuntimeError` in a coroutine (use `asyncio.open_connection`).
    """
    return _current().connect(address, timeout)


def run(main: Callable[..., Any], *args: Any, loop: str = "auto") -> Any:
    """Run `main(*args)` on a loop of hybrid until it returns; return its result. For scripts and tests; blocks.

    A coroutine function runs as a task, any other function in a greenlet. `loop` is a name of `hybrid loops`. On gevent
    the standard library stays patched. Raises any exception of `main`, `ValueError` for an unknown loop, `RuntimeError`
    if a loop runs in this thread already.
    """
    name = registry.resolve(loop)
    reason = registry.why_unusable(name)
    if reason is not None:
        raise RuntimeError(f"loop {name} cannot be used here: {reason}")
    driver = registry.load(name)
    driver.prepare()

    def start(runtime: Runtime) -> Coroutine[Any, Any, Any]:
        if inspect.iscoroutinefunction(main):
            return cast(Coroutine[Any, Any, Any], main(*args))
        return runtime.green(main, *args)

    return run_loop(driver, start)
