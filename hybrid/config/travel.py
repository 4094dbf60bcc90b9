"""How a callable target reaches another process: as a copy, or by an import there."""

from __future__ import annotations

import dataclasses
import io
import sys
import warnings
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

from hybrid.config.targets import TargetError, describe

MAIN = "__hybrid_main__"
"""The name under which workers import the program's main module. Code below `if __name__ == "__main__":` does not run
there, as with `__mp_main__` of `multiprocessing`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Parcel:
    """A target ready to be sent. At least one of `content` and `reference` is set; `content` is tried first."""

    content: bytes | None
    """A copy, for `dill.loads`."""
    reference: str | None
    """`module:variable`."""
    homes: tuple[tuple[str, str], ...]
    """Names and files of modules that another process may not find otherwise."""


def parcel(target: Callable[..., Any]) -> Parcel:
    """Pack `target` for a worker.

    Raises `TargetError` when something in it cannot be copied, e.g. an open socket, and no module has it as a variable.
    """
    import dill

    found = _variable_of(target)
    homes = [home for home in (home_of(target), None if found is None else _home(found[0])) if home is not None]
    reference = None if found is None else f"{_importable_name(found[0])}:{found[1]}"
    try:
        return Parcel(pickled(target), reference, tuple(homes))
    except TargetError as error:
        # a function's globals may be set below `if __name__ == "__main__"`: only a call would show that
        is_bare = isinstance(target, FunctionType) and not isinstance(error.__cause__, dill.PicklingWarning)
        if reference is None or is_bare:
            raise
        return Parcel(None, reference, tuple(homes))


def home_of(target: Callable[..., Any]) -> tuple[str, str] | None:
    """Return (module name, file) of the module that defines `target`; None if it has no file or is `__main__`.

    A test runner or a plug-in system may have loaded the module under a name that no other process can import.
    """
    name = getattr(target, "__module__", None) or type(target).__module__
    module = sys.modules.get(name)
    return None if module is None or name == "__main__" else _home(module)


def pickled(target: Callable[..., Any]) -> bytes:
    """Return `target` as bytes that a worker can load: lambdas and closures by value, importable names by name.

    Raises `TargetError` if something in it cannot be sent, e.g. an open socket, or a class of `__main__` that dill
    cannot copy.
    """
    import dill

    file = io.BytesIO()
    # recurse: include the globals that a function uses, instead of its whole module
    pickler: Any = dill.Pickler(file, recurse=True)
    pickler.reducer_override = _reduced
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", dill.PicklingWarning)  # for names that mean nothing in another process
            pickler.dump(target)
    except Exception as error:  # an object's own __reduce__ may raise anything
        reason = str(error) or type(error).__name__
        raise TargetError(
            f"{describe(target)} cannot be sent to a worker: {reason}; "
            "give it as 'module:attribute', or create the object inside of it"
        ) from error
    return file.getvalue()


def is_importing_main() -> bool:
    """True while a worker imports the program's main module: it must not start another service."""
    spec = getattr(sys.modules.get(MAIN), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))


def _reduced(value: Any) -> Any:
    """Pickle objects whose class has `__getattr__` in another way than usual (a `reducer_override`).

    To load such an object, pickle looks up `__setstate__` in it while it is still empty. A `__getattr__` that needs an
    attribute of the object then recurses until the stack overflows (Starlette's `State`). Classes are pickled as usual,
    also if their metaclass has `__getattr__` (enumerations before Python 3.12, models of pydantic).
    """
    if isinstance(value, type):
        return NotImplemented
    kind: Any = type(value)
    is_plain = kind.__reduce_ex__ is object.__reduce_ex__ and kind.__reduce__ is object.__reduce__
    if not is_plain or not hasattr(kind, "__getattr__") or hasattr(kind, "__setstate__"):
        return NotImplemented
    function, arguments, state, *items = value.__reduce_ex__(2)
    return function, arguments, state, *items, *[None] * (2 - len(items)), restore


def restore(value: object, state: Any) -> None:
    """Set the attributes of a new object, bypassing its `__setattr__` (a `state_setter` of pickle). Runs in workers."""
    attributes, slots = state if isinstance(state, tuple) else (state, None)
    if attributes:
        object.__getattribute__(value, "__dict__").update(attributes)
    for name, content in (slots or {}).items():
        object.__setattr__(value, name, content)


def _variable_of(target: Callable[..., Any]) -> tuple[ModuleType, str] | None:
    """Return the module that has `target` as a variable, `__main__` last, and its name there."""
    modules = [module for name, module in list(sys.modules.items()) if name not in ("__main__", MAIN)]
    for module in (*modules, sys.modules.get("__main__")):
        if isinstance(module, ModuleType) and _home(module) is not None:
            for name, value in list(vars(module).items()):
                if value is target and name.isidentifier():
                    return module, name
    return None


def _home(module: ModuleType) -> tuple[str, str] | None:
    file = getattr(module, "__file__", None)
    return (_importable_name(module), file) if isinstance(file, str) else None


def _importable_name(module: ModuleType) -> str:
    if module.__name__ != "__main__":
        return module.__name__
    spec = module.__spec__  # of `python -m package.module`; None for a script
    return MAIN if spec is None else spec.name
