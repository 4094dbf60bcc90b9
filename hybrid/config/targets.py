"""Targets: the code that a service runs, named as `module:attribute` or given as a callable.

Nothing here imports a target. Workers do that: a broken target must not crash the supervisor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

DEMONSTRATION = "hybrid.demonstration.app:handle"  # the default target
DASHBOARD = "HYBRID_DEMONSTRATION_DASHBOARD"
"""The variable that tells the demonstration, and no other application, the address of --admin."""
_HOW = "write module:attribute, e.g. myapp:handle"


class TargetError(ValueError):
    """A target that is not of the form `module:attribute`, or a callable that cannot be sent to a worker."""


def check_reference(text: str) -> str:
    """Return `text` if it has the form `package.module:attribute`; raise `TargetError` with the reason otherwise."""
    module, colon, attribute = text.partition(":")
    if not colon:
        raise TargetError(f"target {text!r} names no attribute: {_suggestion(text)}")
    if "/" in module or "\\" in module or module.endswith(".py"):
        raise TargetError(f"target {text!r} starts with a file name, not a module: {_suggestion(text)}")
    for part, noun in ((module, "module"), (attribute, "attribute")):
        if not _is_dotted_name(part):
            raise TargetError(f"target {text!r}: {part!r} is not the name of {_article(noun)}: {_HOW}")
    return text


def describe(target: str | Callable[..., Any]) -> str:
    """Return a short name of a target, for messages."""
    if isinstance(target, str):
        return target
    name = getattr(target, "__qualname__", type(target).__qualname__)
    return f"{getattr(target, '__module__', None) or type(target).__module__}:{name}"


def _suggestion(text: str) -> str:
    """Return advice that keeps the usable parts of the input."""
    stem, _, attribute = text.partition(":")
    module = stem.removesuffix(".py").replace("\\", "/").strip("./").replace("/", ".")
    if not _is_dotted_name(module):
        return _HOW
    attribute = attribute if _is_dotted_name(attribute) else "handle"
    return f"write module:attribute, e.g. {module}:{attribute}"


def _is_dotted_name(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
