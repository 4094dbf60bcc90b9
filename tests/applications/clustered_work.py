"""Functions that Dask workers run: they have this module, and neither hybrid nor the application."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path


def echo(text: str) -> str:
    return text


def parent(_: str) -> str:
    """Return the pid of the process that runs it."""
    return f"{os.getpid()}"


def fails(text: str) -> None:
    raise LookupError(text)


def exits(text: str) -> None:
    raise SystemExit(text)


def adder(number: int) -> Callable[[], str]:
    """Return a closure."""
    return lambda: f"{number + 1}"


def length(content: bytes) -> str:
    return f"{len(content)}"


def big(size: str) -> bytes:
    return bytes(int(size))


def writable(memory: bytearray) -> str:
    """Write into memory that came beside the pickle."""
    memory[0] = 7
    return f"{memory[0]} {len(memory)}"


def note(name: str) -> None:
    """Say in a file of that name that the call runs here."""
    part = Path(f"{name}.part-{os.getpid()}")
    part.write_text(str(os.getpid()))
    part.rename(name)


def wait(name: str) -> str:
    """Run until a file is there; say first that it runs, how often it was run, and at last if it was interrupted."""
    with Path(f"{name}.runs-all").open("a") as runs:
        runs.write("x")
    note(f"{name}.runs")
    try:
        while not Path(name).exists():
            time.sleep(0.005)
    except BaseException:
        note(f"{name}.interrupted")
        raise
    return "waited"


def swallow(name: str) -> str:
    """Catch everything until a file is there."""
    note(f"{name}.runs")
    while not Path(name).exists():
        with contextlib.suppress(BaseException):
            while not Path(name).exists():
                time.sleep(0.005)
    return "swallowed"


def die(name: str) -> None:
    """Say that it runs, and kill the process."""
    with Path(f"{name}.runs-all").open("a") as runs:
        runs.write("x")
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(name: str) -> str:
    """Die when called for the first time."""
    if not Path(name).exists():
        note(name)
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"
