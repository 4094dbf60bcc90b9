"""`record`: the frozen dataclasses of this project, made in a quarter of the time.

A frozen dataclass costs 0.3 ms at import: Python compiles six methods for each. 130 of them were half of the time in
which the command starts. A record has `__init__` compiled, and shares the rest with all others. `@record(...)` takes
the arguments of `@dataclass(...)`, and type checkers see just that, so assignments to fields are errors for them. At
run time nothing prevents one. What users of the library get are dataclasses proper.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

__all__ = ("record",)

if TYPE_CHECKING:
    from dataclasses import dataclass as record
else:

    def record(*, frozen: bool, slots: bool, kw_only: bool = False) -> Any:
        """Return a decorator that makes a record of a class. `frozen` and `slots` are always meant."""
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
