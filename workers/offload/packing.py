"""A call and its outcome as bytes: pickle first, dill for what pickle cannot do.

pickle sends an importable function as a name of 30 bytes. dill sends lambdas and closures by value; their globals, and
objects that are globals of the function's own module, such as the application, by name: the other process has imported
the same module. dill is too generous: it copies locks in the state they have, and opens files anew, which empties one
that is open for writing. So `_Pickler` refuses what is bound to its process.
"""

from __future__ import annotations

import importlib
import io
import pickle
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from hybrid.workers.contract.records import record
from hybrid.workers.offload.refusals import is_bound, path_to

MOST_BUFFERS: Final = 1024
"""Buffers beside a pickle; further ones are copied into it."""
_PROTOCOL: Final = 5  # with buffers beside the pickle (PEP 574)
Roots = Iterable[tuple[str, Any]]
"""What is packed, in named parts: from them a path leads to what cannot travel."""


@record(frozen=True, slots=True)
class Packed:
    """An object as bytes."""

    pickle: bytes
    buffers: tuple[memoryview, ...] = ()
    """Contiguous memory that the pickle refers to, such as the data of arrays."""
    is_dill: bool = False
    """True if `unpack` must know that dill has made it."""

    @property
    def size(self) -> int:
        """Bytes in all."""
        return len(self.pickle) + sum(buffer.nbytes for buffer in self.buffers)


def pack_call(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Packed:
    """Return a call as bytes. Blocks for as long as the arguments take.

    Raises `TypeError` for what cannot be sent, with the path to it: `argument 2 -> Cart.lock: _thread.lock`.
    """

    def roots() -> Roots:
        yield "the function", function
        yield from ((f"argument {number}", one) for number, one in enumerate(args, 1))
        yield from ((f"argument {name}", one) for name, one in kwargs.items())

    return _pack((function, tuple(args), dict(kwargs)), roots, getattr(function, "__module__", None))


def pack_result(result: object) -> Packed:
    """Return a result as bytes. Raises `TypeError` as `pack_call` does."""
    return _pack(result, lambda: [("the result", result)], None)


def unpack(data: bytes | memoryview, buffers: Iterable[Any] = (), *, is_dill: bool = False) -> Any:
    """Return the object. Runs code of its classes; raises whatever that raises."""
    return _Unpickler(io.BytesIO(data), buffers=buffers).load() if is_dill else pickle.loads(data, buffers=buffers)


def _pack(value: object, roots: Callable[[], Roots], module: str | None) -> Packed:
    buffers: list[memoryview] = []

    def takes(buffer: pickle.PickleBuffer) -> bool:
        """Take a buffer; return True if the pickle must contain it."""
        if len(buffers) >= MOST_BUFFERS:
            return True
        buffers.append(buffer.raw())
        return False

    is_dill = False
    try:
        content = pickle.dumps(value, _PROTOCOL, buffer_callback=takes)
    except Exception:  # noqa: BLE001 - code of the objects' classes; dill finds the place, or it succeeds
        buffers.clear()
        is_dill = True
        content = _dill(value, takes, roots, module)
    return Packed(content, tuple(buffers), is_dill)


def _dill(
    value: object, takes: Callable[[pickle.PickleBuffer], bool], roots: Callable[[], Roots], module: str | None
) -> bytes:
    pickler = _pickler()
    written = io.BytesIO()
    try:
        pickler(written, _globals_of(module), takes).dump(value)
    except Refused as refused:
        raise TypeError(f"cannot be offloaded: {path_to(refused.value, roots())}") from None
    except RecursionError:
        raise TypeError("cannot be offloaded: it is nested too deeply, or refers to itself") from None
    except Exception as error:  # code of the objects' classes runs
        raise TypeError(f"cannot be offloaded: {type(error).__name__}: {error}") from error
    return written.getvalue()


class Refused(Exception):  # noqa: N818 - internal
    """An object belongs to this process."""

    def __init__(self, value: object) -> None:
        super().__init__()
        self.value = value


_made: type[Any] | None = None


def _pickler() -> type[Any]:
    """Return the pickler, made at first use: dill imports a hundred modules."""
    global _made
    if _made is not None:
        return _made
    import dill

    class _Pickler(dill.Pickler):  # type: ignore[misc]  # dill has no types
        """Refuses what is bound to this process, and sends globals of the function's module by name."""

        def __init__(
            self,
            file: io.BytesIO,
            names: Mapping[int, tuple[str, str]],
            buffer_callback: Callable[[pickle.PickleBuffer], object],
        ) -> None:
            super().__init__(file, _PROTOCOL, buffer_callback=buffer_callback, recurse=False)
            self._names = names

        def persistent_id(self, value: object) -> tuple[str, str] | None:
            """Return module and name of a global that is sent by name; None for all others."""
            found = self._names.get(id(value))
            if found is None and is_bound(value):
                raise Refused(value)
            return found

        def reducer_override(self, value: Any) -> Any:
            """Let the data of arrays travel beside the pickle: dill would copy them into it."""
            array = getattr(sys.modules.get("numpy"), "ndarray", None)  # not imported for this
            if array is not None and isinstance(value, array):
                return value.__reduce_ex__(_PROTOCOL)
            return NotImplemented

    _made = _Pickler
    return _Pickler


def _globals_of(name: str | None) -> dict[int, tuple[str, str]]:
    """Return the objects that are sent by name: instances that are globals of a module."""
    module = sys.modules.get(name or "")
    if module is None or name is None:
        return {}
    plain = (int, float, complex, str, bytes, bool, type(None), tuple, type, type(sys), type(_globals_of))
    return {id(one): (name, called) for called, one in vars(module).items() if not isinstance(one, plain)}


class _Unpickler(pickle.Unpickler):
    """Finds the globals that were sent by name."""

    def persistent_load(self, found: tuple[str, str]) -> Any:
        """Return a global of a module."""
        return getattr(importlib.import_module(found[0]), found[1])

    def find_class(self, module: str, name: str) -> Any:
        """Return a class or a function. dill's own names need dill."""
        if module.startswith("dill"):
            import dill  # noqa: F401 - registers what it needs
        return super().find_class(module, name)
