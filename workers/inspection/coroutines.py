"""The frames of a suspended task: the chain of coroutines down to the innermost `await`, and the object waited for.

Runs no code of others: only the types of the interpreter, and hybrid's own, are looked into. A coroutine of another
kind, as Cython makes them, ends the chain and is named.
"""

from __future__ import annotations

import asyncio
import collections
import gc
import types
from typing import Any

from hybrid.workers.common.accounting import Steps
from hybrid.workers.contract.stack_report import MOST_FRAMES, MOST_TEXT
from hybrid.workers.inspection.frames import frame_of
from hybrid.workers.tasks.cpython import awaited_by
from hybrid.workers.tasks.parked import Parked

_MOST_AWAITS = 10_000  # links of a chain
_WRAPPERS = frozenset(
    ("coroutine_wrapper", "async_generator_asend", "async_generator_athrow", "anext_awaitable", "FutureIter")
)
_CHAINED = (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)


def chain_of(coroutine: Any) -> tuple[list[dict[str, Any]], bool, Any]:
    """Return the frames of a coroutine and of those that it awaits, innermost first.

    Also True if outer ones are left out, and the object that the innermost one waits for (None: not known).
    """
    frames: collections.deque[dict[str, Any]] = collections.deque(maxlen=MOST_FRAMES)
    count = 0
    found = coroutine
    for _ in range(_MOST_AWAITS):
        frame, awaited = _look_into(found)
        if frame is None and awaited is None:
            break
        if frame is not None:
            frames.appendleft(frame_of(frame.f_code, frame.f_lineno))
            count += 1
        found = awaited
    return list(frames), count > MOST_FRAMES, None if type(found) in _CHAINED else found


def _look_into(found: Any) -> tuple[types.FrameType | None, Any]:
    """Return the frame of one link of the chain, and the next link; two None for the object at the end."""
    kind = type(found)
    if kind is types.CoroutineType:
        return found.cr_frame, found.cr_await
    if kind is types.GeneratorType:
        return found.gi_frame, found.gi_yieldfrom
    if kind is types.AsyncGeneratorType:
        return found.ag_frame, found.ag_await
    if issubclass(kind, Parked) or kind is Steps:
        return None, found.wrapped
    return None, _unwrapped(found) if _is_wrapper(kind) else None


def _unwrapped(found: Any) -> Any:
    """Return the next link inside an iterator that has no attribute for it; None if there is none any more."""
    for one in gc.get_referents(found):
        kind = type(one)
        if kind in _CHAINED or _is_wrapper(kind) or issubclass(kind, asyncio.Future):
            return one
    return None


def _is_wrapper(kind: type) -> bool:
    """Return True for an iterator of the interpreter or of asyncio around the next link."""
    return kind.__name__ in _WRAPPERS and kind.__module__ in ("builtins", "_asyncio")


def task_entry(task: asyncio.Task[Any]) -> dict[str, Any]:
    """Return the entry of a report for a task of the loop of this thread."""
    coroutine = _coroutine_of(task)
    frames, is_cut, last = chain_of(coroutine)
    awaited = awaited_by(task)
    made: dict[str, Any] = {
        "name": name_of(task),
        "waits_for": describe(last if awaited is None else awaited),
        "frames": frames,
    }
    if is_cut:
        made["is_cut"] = True
    return made


def _coroutine_of(task: asyncio.Task[Any]) -> Any:
    """Return the coroutine of a task; None if it is none of asyncio's."""
    return asyncio.Task.get_coro(task) if issubclass(type(task), asyncio.Task) else None


def is_spare(task: asyncio.Task[Any]) -> bool:
    """Return True for a task of hybrid's that waits for a request to run: it does nothing for the application."""
    coroutine = _coroutine_of(task)
    return issubclass(type(coroutine), Parked) and coroutine.wrapped is None


def name_of(task: asyncio.Task[Any]) -> str:
    """Return the name of a task; its type if it is none of asyncio's.

    The tasks of requests have method and target as their name: the query is left out, because it may hold secrets.
    """
    name = asyncio.Task.get_name(task) if issubclass(type(task), asyncio.Task) else type(task).__qualname__
    return name.partition("?")[0][:MOST_TEXT] if isinstance(name, str) else ""


def describe(awaited: Any) -> str | None:
    """Return what a task waits for, in a few words; None if nothing is known, or nothing is waited for."""
    if awaited is None:
        return None
    kind = type(awaited)  # not `isinstance`, which reads `__class__`: a proxy runs code there
    if issubclass(kind, Parked):
        return str(awaited.meaning)
    if issubclass(kind, asyncio.Task):
        return f"task {name_of(awaited)}"[:MOST_TEXT]
    if kind is asyncio.Future:
        return "a future"
    return f"{kind.__module__}.{kind.__qualname__}"[:MOST_TEXT]
