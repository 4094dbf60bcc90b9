"""Values of expressions in a Python file that only configures: constants, the number of cores, the environment.

Nothing is executed: a syntax tree is evaluated, and what is not listed here is not understood.
"""

from __future__ import annotations

import ast
import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from hybrid.init.candidates import Names

_MAX_TEXT: Final = 4096  # characters of a result
_MAX_NUMBER: Final = 1 << 64
_CORES: Final = ("multiprocessing.cpu_count", "os.cpu_count", "os.process_cpu_count", "psutil.cpu_count")
_ENVIRONMENT: Final = ("os.environ.get", "os.getenv")
_ARITHMETIC: Final[dict[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.FloorDiv: lambda a, b: a // b,
}
_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "int": int, "float": float, "str": str, "max": max, "min": min, "round": round, "bool": bool,
}  # fmt: skip


class NotUnderstoodError(ValueError):
    """An expression that is not evaluated."""


@dataclasses.dataclass(frozen=True)
class Known:
    """The value of an expression, and what it depends on."""

    value: Any
    variables: tuple[str, ...] = ()
    """Environment variables; `value` is what it would be without them."""
    is_of_cores: bool = False


def evaluate(node: ast.expr, names: Names, assigned: Mapping[str, Known], cores: int | None = None) -> Known:
    """Return the value of an expression. `assigned`: names of the file and their values.

    Raises `NotUnderstoodError`.
    """
    return _Evaluation(names, assigned, cores or os.cpu_count() or 1).of(node)


class _Evaluation:
    def __init__(self, names: Names, assigned: Mapping[str, Known], cores: int) -> None:
        self._names = names
        self._assigned = assigned
        self._cores = cores

    def of(self, node: ast.expr) -> Known:
        match node:
            case ast.Constant(value=bool() | int() | float() | str() | None as value):
                return Known(value)
            case ast.Name(id=name) if name in self._assigned:
                return self._assigned[name]
            case ast.List(elts=elements) | ast.Tuple(elts=elements):
                parts = [self.of(element) for element in elements]
                return _together([part.value for part in parts], parts)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self._made(lambda value: -value, [self.of(operand)])
            case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _ARITHMETIC:
                return self._made(_ARITHMETIC[type(operator)], [self.of(left), self.of(right)])
            case ast.BoolOp(op=ast.Or(), values=values):
                parts = [self.of(value) for value in values]
                return _together(next((one.value for one in parts if one.value), parts[-1].value), parts)
            case ast.JoinedStr(values=values):
                return self._made(lambda *parts: "".join(map(str, parts)), [self._piece(value) for value in values])
            case ast.Subscript() | ast.Attribute():
                return self._of_path(node)
            case ast.Call(func=function, args=arguments, keywords=[]):
                return self._call(self._names.path(function), arguments)
        raise NotUnderstoodError

    def _piece(self, node: ast.expr) -> Known:
        """Return the value of a part of an f-string."""
        if isinstance(node, ast.FormattedValue) and node.conversion == -1 and node.format_spec is None:
            return self.of(node.value)
        return self.of(node)

    def _of_path(self, node: ast.expr) -> Known:
        path = self._names.path(node)
        if path.startswith("ssl.CERT_"):
            return Known(path)
        raise NotUnderstoodError  # also os.environ["X"], which has no default

    def _call(self, path: str, arguments: list[ast.expr]) -> Known:
        if path in _CORES and not arguments:
            return Known(self._cores, is_of_cores=True)
        if path == "len" and len(arguments) == 1 and _is_affinity(arguments[0], self._names):
            return Known(self._cores, is_of_cores=True)
        if path in _ENVIRONMENT and arguments:
            name, *default = [self.of(argument) for argument in arguments]
            if isinstance(name.value, str):
                return _together(default[0].value if default else None, default, (name.value,))
        if path in _FUNCTIONS:
            return self._made(_FUNCTIONS[path], [self.of(argument) for argument in arguments])
        raise NotUnderstoodError

    def _made(self, make: Callable[..., Any], parts: list[Known]) -> Known:
        if any(isinstance(part.value, str) for part in parts) and len({type(part.value) for part in parts}) > 1:
            is_text = all(isinstance(part.value, str | int | float | None) for part in parts)
            if not is_text or make in _ARITHMETIC.values():  # "a" * 10**9 would be a large text
                raise NotUnderstoodError
        try:
            value = make(*(part.value for part in parts))
        except (TypeError, ValueError, ArithmeticError):
            raise NotUnderstoodError from None
        if isinstance(value, str) and len(value) > _MAX_TEXT:
            raise NotUnderstoodError
        if isinstance(value, int | float) and not -_MAX_NUMBER < value < _MAX_NUMBER:
            raise NotUnderstoodError
        return _together(value, parts)


def _is_affinity(node: ast.expr, names: Names) -> bool:
    return isinstance(node, ast.Call) and names.path(node.func) == "os.sched_getaffinity"


def _together(value: Any, parts: Iterable[Known], variables: tuple[str, ...] = ()) -> Known:
    parts = list(parts)
    found = dict.fromkeys([*variables, *(name for part in parts for name in part.variables)])
    return Known(value, tuple(found), any(part.is_of_cores for part in parts))
