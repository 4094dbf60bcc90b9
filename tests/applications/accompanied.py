"""Functions for companions. Each writes lines to stdout, so that a test can follow what it does."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from hybrid.workers.identity import current

LOADED_BY = os.getpid()


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer with the pid, or after a while if asked to wait for a file."""
    if scope["type"] != "http":
        return
    name = scope["query_string"].decode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"begun ", "more_body": True})
    while name and not Path(name).exists():
        await asyncio.sleep(0.01)
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})


def say(*words: object) -> None:
    """Write one line."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def begin(what: str) -> None:
    """Say who and where this is."""
    me = current()
    place = "main" if threading.current_thread() is threading.main_thread() else "thread"
    say("begun", what, me.service, me.slot, f"gen={me.generation}", os.getpid(), LOADED_BY, place)


async def coroutine() -> None:
    """Run until it is cancelled."""
    try:
        begin("coroutine")
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        say("cancelled", os.getpid())
        raise
    finally:
        say("ended coroutine", os.getpid())


def function() -> None:
    """Run until SystemExit."""
    try:
        begin("function")
        while True:
            time.sleep(60)
    except SystemExit as error:
        say("exit", error.code, os.getpid())
        raise
    finally:
        say("ended function", os.getpid())


def chatty() -> None:
    """Log all the time."""
    log = logging.getLogger("hybrid")
    while True:
        log.info("a tick")
        log.debug("a detail")
        time.sleep(0.01)


def deaf() -> None:
    """Refuse to end."""
    has_begun = False
    while True:
        try:
            if not has_begun:
                has_begun = True
                begin("deaf")
            time.sleep(60)
        except SystemExit:
            say("refused", os.getpid())


def fails() -> None:
    """Fail at once."""
    raise RuntimeError("the queue is gone")


def returns() -> None:
    """Return at once."""
    begin("returns")


async def exits() -> None:
    """End the process with a code of its own."""
    sys.exit(5)


async def blocks() -> None:
    """Block the loop once a file is there."""
    begin("blocks")
    while not Path("block").exists():
        await asyncio.sleep(0.01)
    time.sleep(60)


def takes(one: object) -> None:
    """Need an argument, which a companion has not."""


NUMBER = 5
