"""The functions that pools call, and how the processes of a caller are pinned. Imported in every process of a pool."""

from __future__ import annotations

import os
import time
from pathlib import Path

COMPUTED = "computed"
COMPUTE_SECONDS = 0.02
_STEPS = 1000  # of computing between two looks at the clock: some 50 us
_MOST_TRIES = 25
_HOLD_SECONDS = 0.2  # a process that pins itself takes no second call meanwhile


def nothing() -> None:
    """Return at once."""


def size_of(data: bytes) -> int:
    """Take a payload."""
    return len(data)


def content_of(number: int) -> bytes:
    """Return a payload."""
    return bytes(number)


def compute() -> str:
    """Use `COMPUTE_SECONDS` of processor time, in Python. A process that shares its core computes no less."""
    until = time.thread_time() + COMPUTE_SECONDS
    total = 0
    while time.thread_time() < until:
        for i in range(_STEPS):
            total += i * i
    return COMPUTED


def pin(core: int) -> int:
    """Pin the calling thread, which runs the calls, to a core; return the thread's id. Blocks for a moment.

    Calls that are made at the same time so reach different threads.
    """
    os.sched_setaffinity(0, {core})
    time.sleep(_HOLD_SECONDS)
    return int(Path("/proc/thread-self").readlink().name)


def pin_caller(core: int) -> None:
    """Pin all threads of this process to a core, and with them the threads that they start."""
    for thread in Path("/proc/self/task").iterdir():
        try:
            os.sched_setaffinity(int(thread.name), {core})
        except ProcessLookupError:  # it has ended
            continue


def are_apart(threads: list[int], tries: int) -> bool:
    """Return True if calls at a time have run in a thread each. Raises `RuntimeError` after too many tries.

    The first ones may not, as some pools start their processes while calls run already.
    """
    apart = len(set(threads))
    if apart < len(threads) and tries >= _MOST_TRIES:
        raise RuntimeError(f"{len(threads)} calls at a time ran in {apart} process(es)")
    return apart == len(threads)
