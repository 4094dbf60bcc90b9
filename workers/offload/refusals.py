"""What must not travel to another process, and how to name its place."""

from __future__ import annotations

import _thread
import asyncio
import collections
import contextvars
import functools
import io
import socket
import sys
import threading
import types
from collections.abc import Iterable, Iterator
from typing import Any, Final

_BOUND: Final = (
    _thread.LockType,
    type(threading.RLock()),
    threading.Thread,
    threading.local,
    socket.socket,
    asyncio.AbstractEventLoop,
    asyncio.Future,
    contextvars.Context,
    contextvars.ContextVar,
    contextvars.Token,
    types.GeneratorType,
    types.CoroutineType,
    types.AsyncGeneratorType,
    types.FrameType,
    types.TracebackType,
)
_IN_MEMORY: Final = (io.BytesIO, io.StringIO)
_MOST: Final = 20_000  # objects looked at for the name of a place


def is_bound(value: object) -> bool:
    """Return True if an object belongs to its process: a lock, a file, a socket, a thread, a loop, a context."""
    if isinstance(value, _BOUND):
        return True
    if isinstance(value, io.IOBase):
        return not isinstance(value, _IN_MEMORY)
    greenlet = sys.modules.get("greenlet")  # not imported for this
    return greenlet is not None and isinstance(value, greenlet.greenlet)


def path_to(wanted: object, roots: Iterable[tuple[str, Any]]) -> str:
    """Return how `wanted` is reached from one of the roots: `argument 2 -> Cart.lock: _thread.lock`."""
    seen: set[int] = set()
    queue = collections.deque(roots)
    while queue and len(seen) < _MOST:
        path, value = queue.popleft()
        if value is wanted:
            return f"{path}: {_type(value)}"
        if id(value) not in seen:
            seen.add(id(value))
            queue += ((f"{path} -> {step}", one) for step, one in _parts(value))
    return f"it contains a {_type(wanted)}"


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what an object refers to, with a name for each."""
    if isinstance(value, dict):
        yield from ((f"[{key!r}]", one) for key, one in list(value.items()))
    elif isinstance(value, list | tuple | set | frozenset | collections.deque):
        yield from ((f"[{number}]", one) for number, one in enumerate(value))
    elif isinstance(value, types.FunctionType):
        names = value.__code__.co_freevars
        for name, cell in zip(names, value.__closure__ or (), strict=True):
            try:
                yield f"variable {name}", cell.cell_contents
            except ValueError:  # it is not set yet
                continue
        yield from ((f"default {number}", one) for number, one in enumerate(value.__defaults__ or (), 1))
    elif isinstance(value, types.MethodType | types.BuiltinMethodType):
        yield "its object", value.__self__
    elif isinstance(value, functools.partial):
        yield "its function", value.func
        yield from ((f"argument {number}", one) for number, one in enumerate(value.args, 1))
        yield from ((f"argument {name}", one) for name, one in value.keywords.items())
    elif not isinstance(value, type | types.ModuleType | str | bytes):
        attributes = getattr(value, "__dict__", None)
        if isinstance(attributes, dict):
            yield from ((f"{type(value).__name__}.{name}", one) for name, one in list(attributes.items()))
        yield from _slots(value)


def _slots(value: object) -> Iterator[tuple[str, Any]]:
    for owner in type(value).__mro__:
        for name, descriptor in vars(owner).items():
            if isinstance(descriptor, types.MemberDescriptorType):
                try:
                    yield f"{type(value).__name__}.{name}", descriptor.__get__(value)
                except AttributeError:  # it is not set
                    continue


def _type(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
