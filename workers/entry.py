"""The body of a worker: prepare the loop, load the application, serve, drain, exit code.

No loop library and no asyncio is imported here before the loop's driver has prepared the process: gevent must come
first.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from hybrid.workers import crash, heap, identity, target
from hybrid.workers.application import Application
from hybrid.workers.contract.channel import ChannelClosed
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import BootFailed
from hybrid.workers.contract.seat import ListenerKind, Seat
from hybrid.workers.errors import BootError
from hybrid.workers.interfaces.detect import Kind, check_http, kind_of
from hybrid.workers.interfaces.effects import without_effect
from hybrid.workers.loops import registry
from hybrid.workers.loops.driver import Driver, run

if TYPE_CHECKING:
    from hybrid.workers.runtime import Runtime

_log = logging.getLogger("hybrid")
# What a terminal or a tool sends to the whole process group is for the supervisor to decide on. A handler that does
# nothing, not SIG_IGN, so that programs the application starts get the default again (execve(2)).
_FOR_THE_SUPERVISOR = (
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
)


def main(seat: Seat, application: Application) -> int:
    """Be a worker, from the fork to its exit code. Blocks for its life; no application can make it raise."""
    _set_signals()
    crash.leave_evidence(2)  # the descriptor: sys.stderr is None where it was closed at the start
    heap.keep_room()
    try:
        driver = _driver(application.loop)
        identity.take(identity.Identity(seat.service, seat.slot, seat.generation, os.getpid(), driver.name))
        kinds = frozenset(listener.kind for listener in seat.own_listeners)
        served, kind = _load(application, driver, kinds)
    except BootError as error:
        _tell(seat, error)
        return int(error.code)
    if seat.slot == 0:  # the others have the same to say
        _warn(without_effect(kind, application), kind)
    from hybrid.workers.serving import Worker  # imports asyncio

    def serve(runtime: Runtime) -> Coroutine[Any, Any, Exit]:
        try:
            worker = Worker(seat, application, served, kind, runtime)
        except BootError as error:  # of TLS, whose SNI hook is code of the application
            _tell(seat, error)
            raise
        return worker.run()

    _restore_policy()
    try:
        return int(run(driver, serve, _survive))
    except BootError as error:  # the supervisor has been told, also of one in the application's start-up
        return int(error.code)


def _tell(seat: Seat, error: BootError) -> None:
    with contextlib.suppress(ChannelClosed):
        seat.channel.send_nowait(BootFailed(code=int(error.code), reason=error.reason))


def _warn(options: list[str], kind: Kind) -> None:
    for option in options:
        _log.warning("%s has no effect for %s", option, kind.with_article)


def _survive(error: SystemExit) -> None:
    """Log an exit that one connection's code asked for: the other connections of this worker are not its business."""
    _log.error(
        "ignoring sys.exit(%r) of a callback or task: a handler cannot end its worker", error.code, exc_info=error
    )


def _restore_policy() -> None:
    """Put asyncio's default policy back, if the application called `uvloop.install()`: `--loop` chooses the loop.

    A foreign policy breaks subprocesses: it has no child watcher for a loop that is not its own (Python 3.11).
    """
    import asyncio

    if sys.version_info < (3, 14):  # where policies are on their way out
        asyncio.set_event_loop_policy(None)


def check(application: Application, kinds: frozenset[ListenerKind]) -> str:
    """Load the target as a worker would and say what it is, e.g. `async stream handler on epoll`.

    Runs code of the application and, for gevent, patches the process: call it in a child. Raises `BootError`.
    """
    driver = _driver(application.loop)
    _, kind = _load(application, driver, kinds)
    _warn(without_effect(kind, application), kind)
    if application.http.tls is not None:
        from hybrid.workers import tls  # imports ssl, which the driver may have had to prepare

        tls.server_context(application.http.tls)
    return f"{kind.noun} on {driver.name}"


def _load(application: Application, driver: Driver, kinds: frozenset[ListenerKind]) -> tuple[Any, Kind]:
    """Return the target and its kind; refuse one whose import has changed the process under the loop."""
    found = target.load(application)
    _log.disabled = False  # dictConfig of `logging`, which Django calls, silences every logger that it is not told of
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and driver.name != "gevent" and monkey.is_module_patched("socket"):
        raise BootError(
            Exit.TARGET,
            f"{application.name} patches the standard library for gevent, which only gevent's loop can serve: "
            "write --loop gevent, or leave monkey.patch_all() out",
        )
    kind = kind_of(found, application.interface, kinds)
    check_http(kind, application.http)
    return found, kind


def _driver(name: str) -> Driver:
    try:
        resolved = registry.resolve(name)
    except ValueError as error:
        raise BootError(Exit.USAGE, str(error)) from None
    reason = registry.why_unusable(resolved)
    if reason is None:
        try:
            driver = registry.load(resolved)
            driver.prepare()
        except (ImportError, OSError) as error:
            reason = str(error)
            if not os.access(os.__file__, os.R_OK):  # after --user: the import system just finds nothing
                reason = f"user id {os.geteuid()} cannot read the Python installation in {sys.prefix}"
        else:
            return driver
    raise BootError(Exit.LOOP, f"loop {resolved} cannot be used here: {reason}; see `hybrid loops`")


def _set_signals() -> None:
    for number in _FOR_THE_SUPERVISOR:
        signal.signal(number, _do_nothing)
    # SIGTERM keeps its default until the loop takes it over: a worker that is still booting has nothing to drain


def _do_nothing(number: int, frame: object) -> None:
    """A signal that is not for workers."""
