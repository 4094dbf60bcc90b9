"""Web applications that print, log, warn and crash on request; /count/A/N logs N lines from number A on."""

# ruff: noqa: T201 - that is its purpose

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import hybrid

log = logging.getLogger("shop.views")
going = False
print("imported")


def say(path: str) -> None:
    """Do what a path asks for."""
    match path.split("/")[1:]:
        case ["print"]:
            print("to stdout")
            print("to stderr", file=sys.stderr)
            sys.stdout.buffer.write(b"bytes \xff\n")
        case ["half"]:
            print("no end", end="")
        case ["long"]:
            print("x" * 20_000)
        case ["log"]:
            log.info("sold %d", 3, extra={"price": 7, "service": "theirs"})
            try:
                raise LookupError("no such\nitem")
            except LookupError:
                log.exception("failed")
        case ["warn"]:
            warnings.warn("old stuff", DeprecationWarning, stacklevel=1)
            warnings.warn("odd stuff", UserWarning, stacklevel=1)
        case ["child"]:
            subprocess.run(["/bin/sh", "-c", "echo from a child; echo and its stderr >&2"], check=True)
        case ["fd"]:
            os.write(1, b"raw one\n")
            os.write(2, b"raw two\n")
        case ["thread"]:
            thread = threading.Thread(target=lambda: 1 / 0)
            thread.start()
            thread.join()
        case ["abort"]:
            os.abort()
        case ["segfault"]:
            ctypes.string_at(0)
        case ["hold"]:  # the loop, until there is a file `go`
            logging.getLogger("hybrid").info("held")
            while not Path("go").exists():
                time.sleep(0.005)
            logging.getLogger("hybrid").info("released")
        case ["go"]:
            globals()["going"] = True
        case ["fail"]:
            raise ZeroDivisionError("on purpose")
        case ["count", first, count]:
            logger = logging.getLogger("hybrid")
            for number in range(int(first), int(first) + int(count)):
                logger.info("line %d %s", number, "x" * (number % 700))


def wsgi(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    say(environ["PATH_INFO"])
    if environ["PATH_INFO"] == "/wait":
        print("waits")
        while not going:
            in_thread = threading.current_thread() is not threading.main_thread()
            (time.sleep if in_thread else hybrid.sleep)(0.005)
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield environ.get("HTTP_X_REQUEST_ID", "").encode()


async def asgi(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[..., Any]) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        say(scope["path"])
        await send({"type": "websocket.send", "text": str(scope.get("hybrid.request_id"))})
        await send({"type": "websocket.close"})
        return
    if scope["type"] != "http":
        raise ValueError(scope["type"])
    say(scope["path"])
    if scope["path"] == "/wait":
        print("waits")
        while not going:
            await asyncio.sleep(0.005)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    found = [value for name, value in scope["headers"] if name == b"x-request-id"]
    await send({"type": "http.response.body", "body": b",".join(found)})
