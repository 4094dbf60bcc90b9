"""Calls for a Dask cluster; the request's path says which. Dask workers cannot import this module."""

from __future__ import annotations

import asyncio
import os
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import clustered_work as work

import hybrid


def at_home() -> str:
    """Be importable in the service only."""
    return f"{os.getpid()}"


def job(target: str) -> hybrid.Job[Any]:
    """Offload what a target says: `/NAME?ARGUMENT&timeout=S&retries=N`."""
    path, _, query = target.partition("?")
    words = urllib.parse.unquote(query).split("&")
    given = {name: float(value) for name, value in (word.split("=") for word in words[1:])}
    options: dict[str, Any] = {name: int(value) if name == "retries" else value for name, value in given.items()}
    name, argument = path.rpartition("/")[2], words[0]
    if name == "closure":
        return hybrid.offload(work.adder(int(argument)), **options)
    if name == "at_home":
        return hybrid.offload(at_home, **options)
    if name == "sent":
        return hybrid.offload(work.length, bytes(int(argument)), **options)
    if name == "array":
        import numpy

        return hybrid.offload(work.writable, numpy.zeros(int(argument), "u1"), **options)
    if name == "got":
        return hybrid.offload(work.big, argument, **options)
    return hybrid.offload(getattr(work, name), argument, **options)


def told(call: Callable[[], object]) -> str:
    """Return the result of a call, or its error and the cause of that, as text."""
    try:
        result = call()
    except Exception as error:  # noqa: BLE001 - the test compares it
        cause = f" <- {error.__cause__}" if error.__cause__ is not None else ""
        return f"{type(error).__name__}: {error}{cause}"
    return f"{len(result)} bytes" if isinstance(result, bytes) else str(result)


async def answer(target: str) -> str:
    """Make a call in a coroutine; below `/cancelled` it is cancelled once it runs."""
    one = job(target)
    if target.startswith("/cancelled/"):
        while not Path(f"{target.partition('?')[2]}.runs").exists():
            await asyncio.sleep(0.005)
        one.cancel()
    await asyncio.wait([asyncio.ensure_future(_ended(one))])
    return told(one.result)


async def _ended(one: hybrid.Job[Any]) -> None:
    try:
        await one
    except Exception:  # noqa: BLE001 - it is read from the job
        return


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer with the outcome of the call, as an ASGI application."""
    if scope["type"] != "http":
        raise LookupError("none")
    text = await answer(f"{scope['path']}?{scope['query_string'].decode()}")
    fields = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": text.encode()})


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """The same as a WSGI application, in blocking style."""
    target = f"{environ['PATH_INFO']}?{environ['QUERY_STRING']}"
    one = job(target)
    text = told(one.result)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
    return [text.encode()]
