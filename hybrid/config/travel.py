"""How a callable target gets into another process: as a copy, or by an import there."""

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
"""The name under which workers import the program's main module. What stands below `if __name__ == "__main__":` is not
run there, as under `__mp_main__` of `multiprocessing`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Parcel:
    """A target on its way. At least one of `content` and `reference` is there; `content` is tried first."""

    content: bytes | None
    """A copy, for `dill.loads`."""
    reference: str | None
    """`module:variable`."""
    homes: tuple[tuple[str, str], ...]
    """Name and file of modules that another process may not find otherwise."""


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
        # a function's globals may be made below `if __name__ == "__main__"`: then only a call would tell
        is_bare = isinstance(target, FunctionType) and not isinstance(error.__cause__, dill.PicklingWarning)
        if reference is None or is_bare:
            raise
        return Parcel(None, reference, tuple(homes))


def home_of(target: Callable[..., Any]) -> tuple[str, str] | None:
    """Return (module name, file) of the module that defines `target`; None if it has no file or is `__main__`.

    A test runner or a plug-in system may have loaded the module under a name that `import` does not find elsewhere.
    """
    name = getattr(target, "__module__", None) or type(target).__module__
    module = sys.modules.get(name)
    return None if module is None or name == "__main__" else _home(module)


def pickled(target: Callable[..., Any]) -> bytes:
    """Return `target` as bytes that a worker can load: lambdas and closures by value, importable names by name.

    Raises `TargetError` when something in it cannot be sent, e.g. an open socket, or a class of `__main__` that dill
    cannot copy.
    """
    import dill

    file = io.BytesIO()
    # recurse: take along the globals a function uses, and not all of its module
    pickler: Any = dill.Pickler(file, recurse=True)
    pickler.reducer_override = _reduced
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", dill.PicklingWarning)  # of names that mean nothing in another process
            pickler.dump(target)
    except Exception as error:  # whatever the objects' own __reduce__ raises
        reason = str(error) or type(error).__name__
        raise TargetError(
            f"{describe(target)} cannot be sent to a worker: {reason}; "
            "give it as 'module:attribute', or make what it needs inside of it"
        ) from error
    return file.getvalue()


def is_importing_main() -> bool:
    """Whether a worker is importing the program's main module right now: it must not start another service."""
    spec = getattr(sys.modules.get(MAIN), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))


def _reduced(value: Any) -> Any:
    """Say how an object is pickled whose class has `__getattr__` (a `reducer_override`; others: as usual).

    To load it, pickle asks the object, which is empty at that moment, for `__setstate__`. A `__getattr__` that needs an
    attribute of the object then calls itself until the stack ends (Starlette's `State`). Classes travel as ever, those
    whose metaclass has `__getattr__` too (enumerations before Python 3.12, models of pydantic).
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
    """Give a new object its attributes, past its own `__setattr__` (a `state_setter` of pickle). Called in workers."""
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
