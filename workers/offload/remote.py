"""What runs on the workers of a Dask cluster, and how it gets there.

Neither the scheduler nor the gateway loads a call, and a Dask worker needs no hybrid for it. A task of Dask is
`pickle.loads(content)`: the content, when loaded, calls `begin`, which travels by value (cloudpickle), and so does the
code of this module and of `outcomes`, `packing` and `refusals` that it uses. Only the standard library is imported
there; dill, for calls and results that pickle cannot send. The code is sent with each call, and loaded once in a
process.

`begin`, `run`, `interrupt`, `place_of` and what they use run on a Dask worker, or on its scheduler.
"""

from __future__ import annotations

import _thread
import ctypes
import functools
import hashlib
import io
import operator
import pickle
import struct
import sys
import threading
import time
import types
from collections.abc import Callable, Sequence
from typing import Any, Final

from hybrid.workers.offload import packing
from hybrid.workers.offload.outcomes import failed, of_error, of_result
from hybrid.workers.offload.packing import Packed, unpack

_HOME: Final = "_hybrid_offload"
"""The name in `sys.modules` of what a Dask worker keeps between calls."""
_MOST_CANCELLED: Final = 1024
_HEAD: Final = "=BBHd"
"""Kind, 1 if dill has made the pickle, number of buffers, seconds that the call ran. Lengths follow, then all parts."""
_NEEDS_DILL: Final = "it cannot be sent by pickle alone, and the Dask workers have no dill: pip install dill there"


class Interrupted(BaseException):
    """The caller does not want the outcome any more. It derives from BaseException, as GreenletExit does."""


class Travelling:
    """A function that becomes itself where it is loaded, without its module."""

    def __init__(self, code: bytes) -> None:
        """`code`: what cloudpickle has made of it."""
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        """Load the code."""
        return pickle.loads, (self.code,)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Never called: what is loaded is another object."""
        raise TypeError("it runs elsewhere")


class _Applied:
    """A call that is made when this is loaded."""

    def __init__(self, function: object, *args: object) -> None:
        self._args = (function, *args)

    def __reduce__(self) -> tuple[Any, ...]:
        return operator.call, self._args


_TRAVEL: Final = tuple(
    f"hybrid.workers.{name}"
    for name in ("contract.records", "offload.outcomes", "offload.packing", "offload.refusals", "offload.remote")
)
"""The modules whose functions and classes travel by value."""


def code_of(value: object, *more: str) -> bytes:
    """Return an object as bytes that need none of our modules where they are loaded; `more`: names of further ones."""
    import cloudpickle  # Dask brings it

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
        def reducer_override(self, one: Any) -> Any:
            if one is _thread.LockType:  # its own name for itself cannot be looked up
                return getattr, (_thread, "LockType")
            if one is packing._made:  # it is made anew, where dill is needed
                return type(None), ()
            return super().reducer_override(one)

    modules = [sys.modules[name] for name in (*_TRAVEL, *more)]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        written = io.BytesIO()
        Pickler(written, 5).dump(value)
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)
    return written.getvalue()


@functools.cache
def travelling(function: Callable[..., Any]) -> Travelling:
    """Return a function of this module for the journey."""
    return Travelling(code_of(function))


def content(key: str, call: bytes, most: int) -> bytes:
    """Return the bytes whose loading runs a call and gives its outcome, for `split`. `most`: bytes of a result."""
    code = travelling(run).code
    digest = hashlib.sha256(code).hexdigest()
    return pickle.dumps(_Applied(travelling(begin), digest, code, key, call, most), 5)


def joined(kind: int, parts: Sequence[Any], *, is_dill: bool, ran: float = 0.0) -> bytes:
    """Return a pickle and its buffers as bytes."""
    sizes = [memoryview(part).nbytes for part in parts]
    head = struct.pack(_HEAD, kind, is_dill, len(parts) - 1, ran) + struct.pack(f"={len(sizes)}Q", *sizes)
    return b"".join([head, *parts])


def split(data: bytes) -> tuple[int, Packed, float]:
    """Return the kind of an outcome, its content, and the seconds that the call ran. The buffers share its memory."""
    kind, is_dill, count, ran = struct.unpack_from(_HEAD, data)
    place = struct.calcsize(_HEAD)
    sizes = struct.unpack_from(f"={count + 1}Q", data, place)
    place += 8 * len(sizes)
    parts = []
    for size in sizes:
        parts.append(memoryview(data)[place : place + size])
        place += size
    return kind, Packed(bytes(parts[0]), tuple(parts[1:]), is_dill == 1), ran


def begin(digest: str, code: bytes, key: str, call: bytes, most: int) -> bytes:
    """Run a call. It is small, because it is loaded for each call: the rest is loaded once."""
    import pickle
    import sys
    import types

    home = sys.modules.setdefault("_hybrid_offload", types.ModuleType("_hybrid_offload"))
    known: dict[str, Any] = home.__dict__.setdefault("known", {})
    if digest not in known:
        known[digest] = pickle.loads(code)
    outcome: bytes = known[digest](key, call, most)
    return outcome


def run(key: str, call: bytes, most: int) -> bytes:
    """Run a call in this thread; return its outcome, or nothing if it was interrupted."""
    home, ident = _home(), threading.get_ident()
    with home.lock:
        if key in home.cancelled:
            return b""
        home.running[key] = (ident, Interrupted)
    began = time.monotonic()
    try:
        try:
            kind, packed = _outcome(call, most)
        finally:
            with home.lock:
                home.running.pop(key, None)
            _let_come()
    except Interrupted:
        home.running.pop(key, None)
        return b""
    return joined(kind, (packed.pickle, *packed.buffers), is_dill=packed.is_dill, ran=time.monotonic() - began)


def _let_come() -> None:
    """Execute bytecodes, before which an exception comes that `interrupt` has sent to this thread, if it has not come.

    PyThreadState_SetAsyncExc(NULL) would take it back, but Python 3.11 then believes forever that one is on its way,
    also if there was none: it runs slower, and under sys.setprofile, sys.settrace or a debugger it never goes on.
    """
    for _ in range(10):
        pass


def _outcome(call: bytes, most: int) -> tuple[int, Packed]:
    _, packed, _ = split(call)
    try:
        try:
            buffers = [bytearray(one) for one in packed.buffers]  # writable, and of this call alone
            function, args, kwargs = unpack(packed.pickle, buffers, is_dill=packed.is_dill)
        except ModuleNotFoundError as error:
            if error.name == "dill":
                return failed(_NEEDS_DILL)
            raise
        result = function(*args, **kwargs)
        try:
            return of_result(result, most)
        except ModuleNotFoundError as error:
            if error.name == "dill":
                return failed(f"the result: {_NEEDS_DILL}")
            raise
    except Interrupted:
        raise
    except BaseException as error:  # noqa: BLE001 - it is the caller's
        return of_error(error)


def interrupt(key: str, *, is_first: bool) -> bool:
    """Interrupt a call of this process, or one that is about to begin; return True if it still runs.

    The exception comes between two bytecodes of its thread: not while that is in C.
    """
    home = _home()
    with home.lock:
        found = home.running.get(key)
        if is_first:
            home.cancelled[key] = None
            while len(home.cancelled) > _MOST_CANCELLED:
                home.cancelled.pop(next(iter(home.cancelled)))
            if found is not None:
                ident, error = found
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(error))
    return found is not None


def place_of(key: str, dask_scheduler: Any = None) -> str:
    """Return the address of the worker that has a task, on the scheduler; empty: none has."""
    task = dask_scheduler.tasks.get(key)
    return "" if task is None or task.processing_on is None else str(task.processing_on.address)


def _home() -> Any:
    home: Any = sys.modules.setdefault(_HOME, types.ModuleType(_HOME))
    for name, value in (("lock", threading.Lock()), ("running", {}), ("cancelled", {})):
        home.__dict__.setdefault(name, value)
    return home
