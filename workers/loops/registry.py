"""The closed table of loops. Reading it imports no loop; `load` does."""

from __future__ import annotations

import importlib
import importlib.util
import select
import types
from collections.abc import Mapping
from typing import cast

from hybrid.workers.contract.records import record
from hybrid.workers.loops.driver import Driver

DEFAULT = "epoll"


@record(frozen=True, slots=True)
class LoopSpec:
    """One line of `hybrid loops`."""

    name: str
    module: str
    """The module of its driver, relative to `hybrid.workers.loops`."""
    summary: str
    needs: tuple[str, ...] = ()
    """Packages that must be importable."""
    call: str | None = None
    """The function or class of the `select` module that it needs, if any."""


LOOPS: Mapping[str, LoopSpec] = types.MappingProxyType(
    {
        spec.name: spec
        for spec in (
            LoopSpec(
                "select", "hub_loop", "hybrid's hub over select(2); at most 1,024 descriptors", ("greenlet",), "select"
            ),
            LoopSpec("poll", "hub_loop", "hybrid's hub over poll(2)", ("greenlet",), "poll"),
            LoopSpec("epoll", "hub_loop", "hybrid's hub over epoll(7); the default", ("greenlet",), "epoll"),
            LoopSpec("gevent", "gevent_loop", "gevent, the standard library patched", ("gevent", "greenlet")),
            LoopSpec("asyncio", "asyncio_loop", "the standard library's loop", ("greenlet",)),
            LoopSpec("uvloop", "uvloop_loop", "uvloop, an asyncio loop over libuv", ("uvloop", "greenlet")),
        )
    }
)


def resolve(name: str) -> str:
    """Return the loop that `name` (or `auto`) means. Raises `ValueError` with a suggestion."""
    if name == "auto":
        return DEFAULT
    if name in LOOPS:
        return name
    import difflib  # only in this rare case

    close = difflib.get_close_matches(name, LOOPS, 1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise ValueError(f"unknown loop {name!r}{hint}: use auto, {', '.join(LOOPS)}")


def why_unusable(name: str) -> str | None:
    """Say why the loop `name` cannot be used here, or None. Imports nothing."""
    spec = LOOPS[name]
    missing = [package for package in spec.needs if importlib.util.find_spec(package) is None]
    if missing:
        return f"{', '.join(missing)} is not installed: pip install {' '.join(missing)}"
    if spec.call is not None and not hasattr(select, spec.call):
        return f"this Python has no select.{spec.call}"
    return None


def load(name: str) -> Driver:
    """Import the driver of the loop `name`. Raises `KeyError` for a name not in `LOOPS`, `ImportError`."""
    module = importlib.import_module(f"hybrid.workers.loops.{LOOPS[name].module}")
    return cast(Driver, module.driver(name))
