"""ASGI applications that differ in what they make of their lifespan."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from typing import Any


def note(line: str) -> None:
    with open(os.environ["NOTES"], "a") as file:  # noqa: PTH123 - one write for each line
        file.write(line + "\n")


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """Say whether there is a state."""
    assert scope["type"] == "http", "this application knows HTTP only"
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": str(scope.get("state")).encode()})


async def full(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "lifespan":
        await answer(scope, receive, send)
        return
    assert (await receive())["type"] == "lifespan.startup"
    await asyncio.sleep(0.05)
    scope["state"]["answer"] = 42
    note("started")
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    await asyncio.sleep(0.05)
    note("stopped")
    await send({"type": "lifespan.shutdown.complete"})


async def failing(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "the database is not there"})


async def broken(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        raise LookupError("no such table")
    await answer(scope, receive, send)


async def never_stops(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    try:
        await asyncio.Event().wait()
    finally:
        note("cancelled")


async def never_starts(scope: Any, receive: Any, send: Any) -> None:
    """Wait in the start-up until it is cancelled."""
    await receive()
    note("starting")
    try:
        await asyncio.Event().wait()
    finally:
        note("cancelled")


async def refuses_to_end(scope: Any, receive: Any, send: Any) -> None:
    """Wait in the start-up, cancelled or not."""
    await receive()
    note("starting")
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


async def blocks(scope: Any, receive: Any, send: Any) -> None:
    """Block the loop in the start-up."""
    await receive()
    note("starting")
    threading.Event().wait()
