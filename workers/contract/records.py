"""`record`: the frozen dataclasses of this project, created in a quarter of the time.

A frozen dataclass costs 0.3 ms at import: Python compiles six methods for each. 130 of them took half of the start time
of the command. For a record, only `__init__` is compiled; all records share the other methods. `@record(...)` takes the
arguments of `@dataclass(...)`, and type checkers see a dataclass, so they report assignments to fields. At run time
nothing prevents an assignment. The public classes of the library are real dataclasses.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

__all__ = ("record",)

if TYPE_CHECKING:
    from dataclasses import dataclass as record
else:

    def record(*, frozen: bool, slots: bool, kw_only: bool = False) -> Any:
        """Return a decorator that turns a class into a record. `frozen` and `slots` must be true."""
        assert frozen
        assert slots

        def make(cls: type) -> type:
            made = dataclasses.dataclass(eq=False, repr=False, slots=True, kw_only=kw_only)(cls)
            made._compared = tuple([field.name for field in dataclasses.fields(made) if field.compare])
            own = vars(made)
            for name, method in _SHARED.items():
                if name not in own:
                    setattr(made, name, method)
            return made

        return make


def _values(one: Any) -> tuple[Any, ...]:
    return tuple([getattr(one, name) for name in one._compared])


def _equal(one: Any, other: object) -> Any:
    return _values(one) == _values(other) if type(other) is type(one) else NotImplemented


def _hash(one: Any) -> int:
    return hash((type(one), _values(one)))


def _repr(one: Any) -> str:
    pairs = ", ".join([f"{field.name}={getattr(one, field.name)!r}" for field in dataclasses.fields(one) if field.repr])
    return f"{type(one).__qualname__}({pairs})"


_SHARED = {"__eq__": _equal, "__hash__": _hash, "__repr__": _repr}
