"""The registered hooks of this process. A fork inherits them, so a zygote's are those of its workers.

Imports no loop: application code calls `on` while it is imported.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, overload

F = TypeVar("F", bound=Callable[..., Any])


class Hook(enum.Enum):
    """The moments at which functions of the application are called."""

    ZYGOTE_WARM = "zygote_warm"
    """In the zygote, once it has imported the application, before it forks."""
    AFTER_FORK = "after_fork"
    """In a worker that has its application, before its loop exists."""
    WORKER_START = "worker_start"
    """In a worker whose loop runs, before it is ready."""
    WORKER_DRAIN = "worker_drain"
    """In a worker that begins to drain."""
    WORKER_STOP = "worker_stop"
    """In a worker that has drained."""
    READY_CHECK = "ready_check"
    """In a worker that serves, again and again."""


BEFORE_THE_LOOP = frozenset({Hook.ZYGOTE_WARM, Hook.AFTER_FORK})
"""The hooks that cannot be async."""
_WITHOUT_A_WORKER = frozenset({Hook.ZYGOTE_WARM})
_registered: dict[Hook, list[Callable[..., Any]]] = {}  # hook -> its functions, in the order of their registration


@overload
def on(name: str) -> Callable[[F], F]: ...
@overload
def on(name: str, function: F) -> F: ...
def on(name: str, function: F | None = None) -> F | Callable[[F], F]:
    """Register a function for a hook: `@hybrid.on("worker_start")`, or `hybrid.on("worker_start", function)`.

    Returns the function. Call it while the application, or the module of `--hooks`, is imported: a hook whose moment
    has passed is not called. Functions of a hook are called in the order of their registration; one that is registered
    twice is called once. Does not block.

    Raises `ValueError` for an unknown name, and `TypeError` for a function that cannot be called as this hook is, or
    that is async although the hook runs before there is a loop.
    """
    hook = _named(name)
    if function is None:
        return lambda function: _add(hook, function)
    return _add(hook, function)


def _named(name: str) -> Hook:
    try:
        return Hook(name)
    except ValueError:
        import difflib  # only for the message

        known = [hook.value for hook in Hook]
        near = difflib.get_close_matches(str(name), known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(known)}"
        raise ValueError(f"there is no hook {name!r}: {hint}") from None


def _add(hook: Hook, function: F) -> F:
    if not callable(function):
        raise TypeError(f"the hook {hook.value} needs a function, not {function!r}")
    if hook in BEFORE_THE_LOOP and is_async(function):
        raise TypeError(f"the hook {hook.value} runs before there is a loop: make {name_of(function)} a plain function")
    _check_parameters(hook, function)
    functions = _registered.setdefault(hook, [])
    if function not in functions:
        functions.append(function)
    return function


def _check_parameters(hook: Hook, function: Callable[..., Any]) -> None:
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):  # some C callables have no signature
        return
    arguments = () if hook in _WITHOUT_A_WORKER else ("worker",)
    try:
        signature.bind(*arguments)
    except TypeError:
        called = f"{hook.value}({', '.join(arguments)})"
        raise TypeError(f"{name_of(function)}{signature} cannot be called as the hook {called} is") from None


def functions(hook: Hook) -> tuple[Callable[..., Any], ...]:
    """Return the functions of a hook, in the order of their registration."""
    return tuple(_registered.get(hook, ()))


def count() -> int:
    """Return the number of registrations."""
    return sum(map(len, _registered.values()))


def is_async(function: Callable[..., Any]) -> bool:
    """Return True if calling a function returns a coroutine."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004 - asks for more


def name_of(function: Callable[..., Any]) -> str:
    """Return the name of a function for messages, with its module."""
    name, module = getattr(function, "__qualname__", None), getattr(function, "__module__", None)
    if name is None:
        return repr(function)
    return name if module is None else f"{module}.{name}"
