"""A WSGI application whose requests change what signals do in its worker."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any


async def _with_handlers() -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: None)
    await asyncio.sleep(0)


def _nested() -> None:
    """Run a loop with handlers, as a library that was written for scripts does."""
    inner = asyncio.SelectorEventLoop()
    outer = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        inner.run_until_complete(_with_handlers())
    finally:
        inner.close()
        asyncio._set_running_loop(outer)


def _deaf() -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _own_handler() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))


_DEEDS = {"/nested": _nested, "/deaf": _deaf, "/own": _own_handler, "/": lambda: None}


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Do what the path says, in the thread of the loop, and answer with the pid."""
    _DEEDS[environ["PATH_INFO"]]()
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
