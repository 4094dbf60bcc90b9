"""The body of a worker: prepare the loop, load the application, serve, drain, exit code.

No loop library and no asyncio is imported here before the loop's driver has prepared the process: gevent must come
first.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import signal
import sys

from hybrid.workers import heap, identity, target
from hybrid.workers.application import Application
from hybrid.workers.contract.channel import ChannelClosed
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import BootFailed
from hybrid.workers.contract.seat import ListenerKind, Seat
from hybrid.workers.errors import BootError
from hybrid.workers.interfaces.detect import kind_of
from hybrid.workers.loops import registry
from hybrid.workers.loops.driver import Driver, run

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
    faulthandler.enable(2)  # the descriptor: sys.stderr is None where it was closed at the start
    heap.keep_room()
    try:
        driver = _driver(application.loop)
        identity.take(identity.Identity(seat.service, seat.slot, seat.generation, os.getpid(), driver.name))
        kinds = frozenset(listener.kind for listener in seat.own_listeners)
        served, kind = target.load(application), None
        kind = kind_of(served, application.interface, kinds)
    except BootError as error:
        with contextlib.suppress(ChannelClosed):
            seat.channel.send_nowait(BootFailed(code=int(error.code), reason=error.reason))
        return int(error.code)
    from hybrid.workers.serving import Worker  # imports asyncio

    return int(run(driver, lambda runtime: Worker(seat, application, served, kind, runtime).run()))


def check(application: Application, kinds: frozenset[ListenerKind]) -> str:
    """Load the target as a worker would and say what it is, e.g. `async stream handler on epoll`.

    Runs code of the application and, for gevent, patches the process: call it in a child. Raises `BootError`.
    """
    driver = _driver(application.loop)
    kind = kind_of(target.load(application), application.interface, kinds)
    return f"{kind.value} handler on {driver.name}"


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
