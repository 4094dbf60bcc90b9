"""The report of one worker, as a callback of its loop."""

from __future__ import annotations

import asyncio
import math
import os
import sys
import threading
import types
from collections.abc import Iterable
from typing import Any

from hybrid.workers.common.requests import RequestInProgress
from hybrid.workers.contract import stack_report
from hybrid.workers.contract.stack_report import MOST_ENTRIES, MOST_REPORT, MOST_TEXT
from hybrid.workers.inspection import coroutines, greenlets
from hybrid.workers.inspection.frames import entry

_HERE = os.path.dirname(__file__) + "/"  # noqa: PTH120 - pathlib might have to be imported
_LEAST = 256


Requests = Iterable[RequestInProgress]


def write(fd: int, loop: asyncio.AbstractEventLoop | None, requests: Requests, now: float, most: int) -> int:
    """Write the report of this process into memory; return its size in bytes.

    Call it in the thread of `loop`, in a callback; None: in a thread of hybrid's, which is left out.
    `now`: as in `RequestInProgress.began`. Takes some milliseconds, as
    bounded as `stack_report` has it, and the search for greenlets. Raises `OSError` (ENOSPC), `ValueError`.
    """
    if not _LEAST <= most <= MOST_REPORT:
        raise ValueError(f"a report of {most} bytes")
    data = report(loop, requests, now, most)
    return os.pwrite(fd, data, 0)


def report(loop: asyncio.AbstractEventLoop | None, requests: Requests, now: float, most: int) -> bytes:
    """Return the report of this process, of at most `most` bytes; see `write`."""
    tasks = [] if loop is None else [task for task in asyncio.all_tasks(loop) if not coroutines.is_spare(task)]
    chosen = oldest_and_newest(tasks)
    ordered = longest_first(requests)
    threads, more_threads = _threads(MOST_ENTRIES) if loop is not None else _other_threads(MOST_ENTRIES)
    waiting, more_waiting = greenlets.entries(MOST_ENTRIES)
    sections: dict[str, Iterable[stack_report.Entry]] = {
        "threads": threads,
        "requests": [_request(one, now) for one in ordered[:MOST_ENTRIES]],
        "tasks": map(coroutines.task_entry, chosen),
        "greenlets": waiting,
    }
    left_out = {
        "threads": more_threads,
        "requests": max(0, len(ordered) - MOST_ENTRIES),
        "tasks": len(tasks) - len(chosen),
        "greenlets": more_waiting,
    }
    return stack_report.encode(sections, left_out, most)


def oldest_and_newest(tasks: list[asyncio.Task[Any]], most: int = MOST_ENTRIES) -> list[asyncio.Task[Any]]:
    """Return all tasks in the order of the numbers that asyncio gave them; half of the oldest and newest if too many.

    Tasks with names of their own come last: their age is not known.
    """
    ordered = sorted(tasks, key=_number)
    if len(ordered) <= most:
        return ordered
    return [*ordered[: most // 2], *ordered[-(most - most // 2) :]]


def _number(task: asyncio.Task[Any]) -> float:
    name = coroutines.name_of(task)
    if name[:5] == "Task-" and len(name) < 25:
        try:
            return int(name[5:])
        except ValueError:
            pass
    return math.inf


def longest_first(requests: Requests) -> list[RequestInProgress]:
    """Return the requests in the order of their begins; those of unknown age come last."""
    return sorted(requests, key=lambda one: math.inf if one.began is None else one.began)


def _request(one: RequestInProgress, now: float) -> dict[str, Any]:
    path = one.target.partition(b"?")[0][:MOST_TEXT].decode("latin-1")
    seconds = None if one.began is None else round(max(0.0, now - one.began), 3)
    return {"method": one.method[:MOST_TEXT], "path": path, "seconds": seconds, "id": one.id}


def _threads(most: int) -> tuple[list[dict[str, Any]], int]:
    """Return the entries of at most `most` threads that run Python, this one first, and the number of the others."""
    here = sys._getframe()
    running = sys._current_frames()
    me = next((ident for ident, frame in running.items() if frame is here), 0)  # gevent replaces `get_ident`
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    outside: types.FrameType | None = here
    while outside is not None and outside.f_code.co_filename.startswith(_HERE):
        outside = outside.f_back
    made = [{**entry(str(names.get(me, "MainThread")), outside), "is_loop": True}]
    others = [(ident, frame) for ident, frame in running.items() if ident != me]
    made += [entry(str(names.get(ident, f"Thread 0x{ident:x}")), frame) for ident, frame in others[: most - 1]]
    return made, max(0, len(others) - most + 1)


def _other_threads(most: int) -> tuple[list[dict[str, Any]], int]:
    """Return the entries of at most `most` threads that run Python, without this one, and the number of the others."""
    here = sys._getframe()
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    others = [(ident, frame) for ident, frame in sys._current_frames().items() if frame is not here]
    others.sort(key=lambda one: names.get(one[0]) != "MainThread")
    made = [entry(str(names.get(ident, f"Thread 0x{ident:x}")), frame) for ident, frame in others[:most]]
    return made, max(0, len(others) - most)
