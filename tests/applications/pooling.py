"""Web applications that give work to a pool; POOL names the kind. The answer: the worker's pid and the pool's."""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing
import multiprocessing.pool
import os
import signal
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


def daemon(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Start a daemon, by two forks and a session of its own; answer with the pids of this worker and of the daemon."""
    read, write = os.pipe()
    if (intermediate := os.fork()) == 0:
        os.setsid()
        if os.fork() == 0:
            quiet = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(quiet, fd)
            os.write(write, str(os.getpid()).encode())
            os.close(write)
            signal.sigtimedwait([], 60)
        os._exit(0)
    os.waitpid(intermediate, 0)
    os.close(write)
    body = b"%d %b" % (os.getpid(), os.read(read, 20))
    os.close(read)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def left(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Fork a process that ignores SIGTERM; answer with the pids of this worker and of that process."""
    if (child := os.fork()) == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.sigtimedwait([], 60)
        os._exit(0)
    body = b"%d %d" % (os.getpid(), child)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
