"""The body of a worker: prepare the process, load the application, serve, drain, return the exit code.

Loading and serving are two steps. A worker does both; a worker forked by a zygote only serves, with the application its
zygote has loaded (`preload`). This module imports neither asyncio nor a loop library before the loop's driver has
prepared the process: gevent must be imported first.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, NoReturn

from hybrid.workers import identity
from hybrid.workers.apps.detect import Kind, check_http, check_listeners, kind_of
from hybrid.workers.apps.unused_options import unused_options
from hybrid.workers.boot import crash, heap, stall, target
from hybrid.workers.boot.application import Application
from hybrid.workers.boot.dispositions import FOR_THE_SUPERVISOR, do_nothing
from hybrid.workers.common.errors import BootError
from hybrid.workers.common.heartbeat import Heartbeat
from hybrid.workers.contract.channel import ChannelClosed
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import BootFailed
from hybrid.workers.contract.promoted import Promoted
from hybrid.workers.contract.records import record
from hybrid.workers.contract.signals import DUMP_STACK, TELL_STACKS
from hybrid.workers.contract.worker_spec import ListenerKind, WorkerSpec
from hybrid.workers.loops import registry
from hybrid.workers.loops.driver import Driver, run

if TYPE_CHECKING:
    from hybrid.workers.runtime import Runtime

_log = logging.getLogger("hybrid")


@record(frozen=True, slots=True)
class Loaded:
    """A loaded application; inherited by the forks of the process that loaded it."""

    driver: Driver
    target: Any
    kind: Kind


def main(spec: WorkerSpec, application: Application, loaded: Loaded | None = None) -> int | Promoted:
    """Run a worker, from the fork to its exit code. Blocks until it ends; never raises because of the application.

    `loaded` was loaded by an ancestor of this process, after `prepare`; None: this process does both itself. Returns a
    `Promoted` if the supervisor has ordered one and this process may be forked after its drain.
    """
    if loaded is None:
        prepare(spec.dump_fd)
    else:
        stall.dump_on_request(spec.dump_fd)
    _take_place(spec, application.loop)
    try:
        if loaded is None:
            loaded = load(application)
        check_listeners(loaded.kind, frozenset(listener.kind for listener in spec.own_listeners))
    except BootError as error:
        _tell(spec, error)
        return int(error.code)
    if spec.slot == 0:  # the others would log the same
        _warn(application, loaded.kind)
    if not application.recycle.refork_after:
        return _serve(spec, application, loaded)
    from hybrid.workers import refork  # imports `preload`, which imports this

    before = refork.census()
    outcome = _serve(spec, application, loaded)
    if isinstance(outcome, Promoted):
        return refork.become(spec, application, loaded, before, outcome)
    return outcome


def prepare(dump_fd: int) -> None:
    """Prepare the process for an application: signals, stack dumps of crashes and stalls, room in the heap.

    Call it once, in the main thread. All of it survives a fork, including the alternate signal stack (sigaltstack(2)).
    """
    _set_signals()
    crash.dump_on_crash(2)  # the descriptor: sys.stderr is None if it was closed at the start
    stall.dump_on_request(dump_fd)
    heap.keep_room()


def load(application: Application) -> Loaded:
    """Change to the application's directory, prepare the process for the loop and import the target.

    Refuses anything that would fail in every worker. Runs code of the application. Raises `BootError`.
    """
    if application.directory is not None:
        _enter(application.directory)
    driver = _driver(application.loop)
    found = _import(application, driver)
    kind = kind_of(found, application.interface, frozenset())
    check_http(kind, application.http)
    return Loaded(driver, found, kind)


def _enter(directory: str) -> None:
    """Change to the directory by its name: a symbolic link that a new release has moved leads to the new code.

    Raises `BootError` if the directory no longer exists.
    """
    try:
        if not os.path.samefile(directory, "."):  # noqa: PTH121
            os.chdir(directory)
    except PermissionError:  # for the workers' account: stay in the directory that the supervisor, as root, changed to
        return
    except OSError as error:
        raise BootError(Exit.TARGET, f"cannot work in {directory}: {error.strerror}") from None


def _take_place(spec: WorkerSpec, loop: str) -> None:
    Heartbeat(spec.record).takes_place(spec.generation)
    identity.take(identity.Identity(spec.service, spec.slot, spec.generation, os.getpid(), loop))


def _serve(spec: WorkerSpec, application: Application, loaded: Loaded) -> int | Promoted:
    from hybrid.workers.serving import Worker  # imports asyncio

    def serve(runtime: Runtime) -> Coroutine[Any, Any, Exit | Promoted]:
        try:
            worker = Worker(spec, application, loaded.target, loaded.kind, runtime)
        except BootError as error:  # from TLS, whose SNI hook is code of the application
            _tell(spec, error)
            raise
        return worker.run()

    _restore_policy()
    # an application with a thread that waits for signals blocks them at import; a blocked SIGTERM cannot drain a worker
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, TELL_STACKS, DUMP_STACK})
    try:
        outcome = run(loaded.driver, serve, _survive)
        return outcome if isinstance(outcome, Promoted) else int(outcome)
    except BootError as error:  # the supervisor has been told, also of an error in the application's start-up
        return int(error.code)


def _tell(spec: WorkerSpec, error: BootError) -> None:
    with contextlib.suppress(ChannelClosed):
        spec.channel.send_nowait(BootFailed(code=int(error.code), reason=error.reason))


def _warn(application: Application, kind: Kind) -> None:
    for option in unused_options(kind, application):
        _log.warning("%s has no effect for %s", option, kind.with_article)


def _survive(error: SystemExit) -> None:
    """Log a `sys.exit` in a handler: one connection must not end the other connections of this worker."""
    _log.error(
        "ignoring sys.exit(%r) of a callback or task: a handler cannot end its worker", error.code, exc_info=error
    )


def _restore_policy() -> None:
    """Restore asyncio's default policy in case the application called `uvloop.install()`: `--loop` chooses the loop.

    A foreign policy breaks subprocesses: it has no child watcher for a loop that is not its own (Python 3.11).
    """
    import asyncio

    if sys.version_info < (3, 14):  # policies are deprecated from 3.14 on
        asyncio.set_event_loop_policy(None)


def check(application: Application, kinds: frozenset[ListenerKind]) -> str:
    """Load the target as a worker would and describe it, e.g. `async stream handler on epoll`.

    Runs code of the application and, for gevent, patches the process: call it in a child. Raises `BootError`.
    """
    loaded = load(application)
    check_listeners(loaded.kind, kinds)
    _warn(application, loaded.kind)
    if application.http.tls is not None:
        from hybrid.workers.accepting import tls  # imports ssl, which the driver may have to patch first

        tls.server_context(application.http.tls)
    return f"{loaded.kind.noun} on {loaded.driver.name}"


def _import(application: Application, driver: Driver) -> Any:
    """Return the target. Refuse it if its import has patched the process in a way the loop cannot serve."""
    owner = os.getpid()
    try:
        found = target.load(application)
    finally:
        if os.getpid() != owner:
            _leave()
    _log.disabled = False  # `logging.config.dictConfig`, which Django calls, disables all loggers it is not told of
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and driver.name != "gevent" and monkey.is_module_patched("socket"):
        raise BootError(
            Exit.TARGET,
            f"{application.name} patches the standard library for gevent, which only gevent's loop can serve: "
            "write --loop gevent, or leave monkey.patch_all() out",
        )
    return found


def _leave() -> NoReturn:
    """End a process that the application forked during its import: two processes must not share one spec."""
    _log.error("a process forked during the import of the target reached its end: leave such a process with os._exit")
    os._exit(1)


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
            _check_python_is_readable()
            reason = str(error)
        else:
            return driver
    raise BootError(Exit.LOOP, f"loop {resolved} cannot be used here: {reason}; see `hybrid loops`")


def _check_python_is_readable() -> None:
    """Blame the account, not the loop, if --user cannot read Python's library: the import system just finds nothing."""
    library = os.path.dirname(os.__file__)  # noqa: PTH120 - pathlib might have to be imported
    if not os.access(os.__file__, os.R_OK):
        raise BootError(
            Exit.USAGE,
            f"the workers' account, user id {os.geteuid()}, cannot read Python's library in {library}: "
            "give it read access there, or use a Python that is installed for all users",
        )


def _set_signals() -> None:
    for number in FOR_THE_SUPERVISOR:
        signal.signal(number, do_nothing)
    # SIGTERM keeps its default until the loop handles it: a booting worker has nothing to drain
