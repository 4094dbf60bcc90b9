"""The commands that start the servers we compare with: one worker if not said otherwise, no access log, else defaults.

Each is the program that `pip install` put beside this Python; where a server has a choice of event loops or parsers, it
gets its fastest. Their "listening" lines tell the port; granian's does not know it, so it is told a free one.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from benchmarks.peers import HOST
from benchmarks.servers import FREE_PATH, FREE_PORT, Command

_ANY = f"{HOST}:0"


def gunicorn(name: str, target: str, worker: str, *options: str, workers: int = 1) -> Command:
    """Return gunicorn with a worker class: `sync`, `gevent`, `asgi`."""
    fixed = ("--bind", _ANY, "--workers", str(workers), "--worker-class", worker, "--no-control-socket")
    listening = r"Listening at: https?://127\.0\.0\.1:(\d+)"
    return Command(name, (_tool("gunicorn"), *fixed, *options, target), listening, serving=r"Booting worker with pid")


def uvicorn(name: str, target: str, *options: str) -> Command:
    """Return uvicorn on uvloop with httptools."""
    fixed = ("--host", HOST, "--port", "0", "--loop", "uvloop", "--http", "httptools", "--no-access-log")
    return Command(name, (_tool("uvicorn"), *fixed, *options, target), r"running on https?://127\.0\.0\.1:(\d+)")


def granian(name: str, target: str, interface: str, *options: str, workers: int = 1) -> Command:
    """Return granian, for `wsgi` or `asgi`."""
    fixed = (
        "--host",
        HOST,
        "--port",
        FREE_PORT,
        "--interface",
        interface,
        "--workers",
        str(workers),
        "--no-access-log",
    )
    return Command(name, (_tool("granian"), *fixed, *options, target), serving=rf"Started worker-{workers}")


def hypercorn(name: str, target: str, *options: str) -> Command:
    """Return hypercorn on uvloop."""
    fixed = ("--bind", _ANY, "--workers", "1", "--worker-class", "uvloop")
    return Command(name, (_tool("hypercorn"), *fixed, *options, target), r"Running on https?://127\.0\.0\.1:(\d+)")


def on_unix(command: Command) -> Command:
    """Return the command with a UNIX socket in the place of its port."""
    words = list(command.argv)
    for option, value in (("--bind", f"unix:{FREE_PATH}"), ("--port", "")):
        if option in words:
            place = words.index(option)
            words[place : place + 2] = [option, value] if value else ["--uds", FREE_PATH]
    return dataclasses.replace(command, argv=tuple(words))


def bjoern(name: str, target: str) -> Command:
    """Return bjoern, which is a library: `benchmarks.peers` runs it."""
    return Command(name, (sys.executable, "-m", "benchmarks.peers", "bjoern", target))


def _tool(name: str) -> str:
    return str(Path(sys.executable).with_name(name))
