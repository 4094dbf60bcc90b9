"""Applications and handlers in the source of a module, found by its syntax tree. Runs no code.

app = FastAPI()                      an object at module level
def create_app(): ...                a factory, which --factory calls without arguments
async def handle(reader, writer)     a connection handler
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import warnings
from collections.abc import Iterator
from typing import Final

_FRAMEWORKS: Final = {
    "flask.Flask": "Flask",
    "fastapi.FastAPI": "FastAPI",
    "starlette.applications.Starlette": "Starlette",
    "quart.Quart": "Quart",
    "litestar.Litestar": "Litestar",
    "litestar.app.Litestar": "Litestar",
    "django.core.wsgi.get_wsgi_application": "Django",
    "django.core.asgi.get_asgi_application": "Django",
}  # what is called -> framework
_FACTORIES: Final = ("create_app", "make_app")
_READERS: Final = (("reader", "stream_reader"), ("writer", "stream_writer"))
_SOCKETS: Final = (("sock", "socket", "conn", "connection", "client"), ("address", "addr", "peer"))
_BLOCKS: Final = ("body", "orelse", "handlers", "finalbody", "cases")


class Form(enum.Enum):
    """What a candidate is, the likelier ones first."""

    APPLICATION = "application"
    """An object of a framework."""
    FACTORY = "factory"
    PLAIN = "plain"
    """A function with the parameters of WSGI or ASGI."""
    HANDLER = "handler"
    """A handler of one connection."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """Something that hybrid could serve."""

    name: str
    """Of the attribute."""
    form: Form
    kind: str
    """For people, e.g. `Flask` or `stream handler`."""
    line: int


class UnreadableError(ValueError):
    """A source that this Python cannot parse; the text says why."""


def parse(source: bytes) -> ast.Module:
    """Return the syntax tree of a module. Raises `UnreadableError`."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of invalid escapes: not ours to report
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        raise UnreadableError(f"line {line}: {error.args[0]}" if line else str(error)) from None


def candidates_in(tree: ast.Module) -> list[Candidate]:
    """Return the candidates of a module in the order of their lines; of two with one name the later one."""
    names = Names()
    found: dict[str, Candidate] = {}
    for statement in _statements(tree.body):
        names.learn(statement)
        for candidate in _candidates(statement, names):
            found.pop(candidate.name, None)
            found[candidate.name] = candidate
    return list(found.values())


def imported_by(tree: ast.Module) -> set[str]:
    """Return the top-level names of the modules that absolute imports of a module name."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found |= {alias.name.partition(".")[0] for alias in names}
            case ast.ImportFrom(module=str(module), level=0):
                found.add(module.partition(".")[0])
    return found


class Names:
    """What the names of a module stand for, as far as its imports and classes tell."""

    def __init__(self) -> None:
        self._meanings: dict[str, str] = {}  # name -> dotted path

    def learn(self, statement: ast.stmt) -> None:
        """Take in an import, or a class that is derived from a framework's."""
        match statement:
            case ast.Import(names=names):
                for alias in names:
                    top = alias.name.partition(".")[0]
                    self._meanings[alias.asname or top] = alias.name if alias.asname else top
            case ast.ImportFrom(module=str(module), level=0, names=names):
                for alias in names:
                    self._meanings[alias.asname or alias.name] = f"{module}.{alias.name}"
            case ast.ClassDef(name=name, bases=bases):
                known = [path for base in bases if (path := self.path(base)) in _FRAMEWORKS]
                if known:
                    self._meanings[name] = known[0]

    def path(self, node: ast.expr) -> str:
        """Return the dotted path that an expression means; empty if it is no name."""
        match node:
            case ast.Name(id=name):
                return self._meanings.get(name, name)
            case ast.Attribute(value=value, attr=attr):
                before = self.path(value)
                return f"{before}.{attr}" if before else ""
            case ast.Subscript(value=value):  # App[State]
                return self.path(value)
        return ""

    def framework(self, node: ast.AST | None) -> str | None:
        """Return the framework whose application an expression makes; None if it makes none."""
        return _FRAMEWORKS.get(self.path(node.func)) if isinstance(node, ast.Call) else None


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that an import executes, those in `if` and `try` too, but not in `if __name__ == ...`."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or _is_main_guard(statement):
            continue
        for field in _BLOCKS:
            for inner in getattr(statement, field, ()):
                yield from _statements(inner.body if not isinstance(inner, ast.stmt) else [inner])


def _is_main_guard(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and any(
        isinstance(node, ast.Name) and node.id == "__name__" for node in ast.walk(statement.test)
    )


def _candidates(statement: ast.stmt, names: Names) -> Iterator[Candidate]:
    match statement:
        case ast.Assign(targets=targets, value=value) if (framework := names.framework(value)) is not None:
            for target in targets:
                if isinstance(target, ast.Name):
                    yield Candidate(target.id, Form.APPLICATION, framework, statement.lineno)
        case ast.AnnAssign(target=ast.Name(id=name), value=value) if (framework := names.framework(value)) is not None:
            yield Candidate(name, Form.APPLICATION, framework, statement.lineno)
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            candidate = _function(statement, names)
            if candidate is not None:
                yield candidate


def _function(node: ast.FunctionDef | ast.AsyncFunctionDef, names: Names) -> Candidate | None:
    required = _required(node)
    if required is None or node.name.startswith("_"):
        return None
    is_async = isinstance(node, ast.AsyncFunctionDef)
    if node.name in _FACTORIES and not is_async and not required:
        return Candidate(node.name, Form.FACTORY, _made_in(node, names), node.lineno)
    match is_async, required:
        case True, ("scope", "receive", "send"):
            return Candidate(node.name, Form.PLAIN, "ASGI", node.lineno)
        case False, ("environ", "start_response"):
            return Candidate(node.name, Form.PLAIN, "WSGI", node.lineno)
        case True, (first, second) if first in _READERS[0] and second in _READERS[1]:
            return Candidate(node.name, Form.HANDLER, "async stream handler", node.lineno)
        case False, (first, second) if first in _SOCKETS[0] and second in _SOCKETS[1]:
            return Candidate(node.name, Form.HANDLER, "sync stream handler", node.lineno)
    return None


def _required(node: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[str, ...] | None:
    """Return the positional parameters without a default; None if a keyword must be given."""
    arguments = node.args
    if any(default is None for default in arguments.kw_defaults):
        return None
    positional = [*arguments.posonlyargs, *arguments.args]
    return tuple(one.arg for one in positional[: len(positional) - len(arguments.defaults)])


def _made_in(node: ast.FunctionDef | ast.AsyncFunctionDef, names: Names) -> str:
    """Return the framework whose application a factory makes, as far as it can be seen."""
    inside = Names()
    inside._meanings.update(names._meanings)
    for inner in ast.walk(node):
        if isinstance(inner, ast.Import | ast.ImportFrom):
            inside.learn(inner)
    made = (inside.framework(inner) for inner in ast.walk(node))
    return next((framework for framework in made if framework is not None), "application")
