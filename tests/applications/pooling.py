"""Web applications that give work to a pool; POOL names the kind. The answer: the worker's pid and the pool's."""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing
import multiprocessing.pool
import os
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

_pool: Any = None


def _make() -> Any:
    match os.environ.get("POOL", "fork"):
        case "pool":
            return multiprocessing.get_context("fork").Pool(2)
        case "threads":
            return concurrent.futures.ThreadPoolExecutor(2)
        case method:
            context = multiprocessing.get_context(method)
            return concurrent.futures.ProcessPoolExecutor(2, mp_context=context)


def _work() -> int:
    return os.getpid()


def _pooled() -> int:
    global _pool
    if _pool is None:
        _pool = _make()
    if isinstance(_pool, multiprocessing.pool.Pool):
        return int(_pool.apply(_work))
    return int(_pool.submit(_work).result(20))


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer with the pids of this worker and of a process of the pool."""
    body = f"{os.getpid()} {_pooled()}".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope: dict[str, Any], receive: Any, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
    """The same, asked from a thread."""
    body = f"{os.getpid()} {await asyncio.to_thread(_pooled)}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


def stubborn(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Start a thread that is no daemon and never ends."""
    threading.Thread(target=threading.Event().wait, name="stubborn").start()
    start_response("200 OK", [("Content-Length", "0")])
    return []
