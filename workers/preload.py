"""Load the application in a process that will be forked into workers, and look it up in the forks.

A module variable survives the fork. The plan that a worker is started with knows nothing of its zygote.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

from hybrid.workers import main as entry
from hybrid.workers.apps.detect import HTTP_KINDS
from hybrid.workers.boot import audit
from hybrid.workers.boot.application import Application
from hybrid.workers.common.errors import BootError
from hybrid.workers.contract.warming import CannotWarm, NotForkable
from hybrid.workers.inspection.heap import keep_in_view

T = TypeVar("T")
_warm: tuple[Application, entry.Loaded] | None = None  # loaded by this process or by the one it was forked from


def warm(application: Application, *, audit_import: bool, dump_fd: int = 2) -> None:
    """Import the target and the modules that serve it. Runs code of the application; blocks for as long as that takes.

    If it hangs, its stack is written to the descriptor `dump_fd` when the supervisor asks.

    Raises `CannotWarm` if it cannot be loaded, and, with `audit_import`, `NotForkable` if its import has left something
    behind that does not survive a fork.
    """
    global _warm
    before = _looking(audit.census) if audit_import else None
    entry.prepare(dump_fd)
    try:
        loaded = entry.load(application, with_companions=True)
    except BootError as error:
        raise CannotWarm(int(error.code), error.reason) from None
    for name in _needed(application, loaded):
        importlib.import_module(name)
    try:
        entry.call_early("zygote_warm")
    except BootError as error:
        raise CannotWarm(int(error.code), error.reason) from None
    if before is not None and (found := _looking(lambda: audit.findings(before))):
        raise NotForkable(", ".join(found))
    keep_in_view()  # the zygote freezes its heap
    _warm = application, loaded


def _looking(look: Callable[[], T]) -> T:
    """Return the result of `look`. A process that cannot be inspected (no /proc, EMFILE) must not be forked."""
    try:
        return look()
    except OSError as error:
        raise NotForkable(f"the process cannot be inspected: {error}") from None


def _needed(application: Application, loaded: entry.Loaded) -> Iterator[str]:
    """Yield the modules that workers import before they serve: imported here once, not in each of them."""
    yield "hybrid.workers.serving"
    match loaded.driver.name:
        case "gevent":
            yield "hybrid.workers.loops.gevent_runtime"
        case name:
            yield "hybrid.workers.hub.sockets"
            if name in ("select", "poll", "epoll"):
                yield f"hybrid.workers.pollers.{name}"
    if loaded.kind in HTTP_KINDS:
        yield f"hybrid.workers.apps.{loaded.kind.value}.interface"
        if application.http.http != "1":
            yield "hybrid.workers.http.h2.choice"
        if application.http.access_log is not None:
            yield "hybrid.workers.http.access.events"
            yield "hybrid.workers.http.access.log"
        if application.http.forwarded_allow_ips:
            yield "hybrid.workers.http.forwarded"
    if entry.has_hooks():
        yield "hybrid.workers.hooks.life"
    if application.companions:
        yield "hybrid.workers.companion"
    if application.recycle.refork_after:
        yield "hybrid.workers.refork"


def keep(application: Application, loaded: entry.Loaded) -> None:
    """Let the forks of this process, which has served `application`, serve it from `loaded`."""
    global _warm
    _warm = application, loaded


def is_warm() -> bool:
    """Return True if this process, or the one it was forked from, has loaded an application."""
    return _warm is not None


def loaded_for(application: Application) -> entry.Loaded | None:
    """Return `application` as loaded in this process or an ancestor of it; None if it was not."""
    if _warm is None or _warm[0] is not application:
        return None
    _renew_hub()
    return _warm[1]


def _renew_hub() -> None:
    """If the import has started gevent's hub, give the hub its own epoll set in the forked process."""
    if audit.idle_hub() is not None:
        sys.modules["gevent.hub"].reinit()
