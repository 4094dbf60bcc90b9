"""The body of a worker: prepare the process, load the application, serve, drain, return the exit code.

That of a companion begins in the same way, and goes on in `companion`.

Loading and serving are two steps. A worker does both; a worker forked by a zygote only serves, with the application its
zygote has loaded (`preload`). This module imports neither asyncio nor a loop library before the loop's driver has
prepared the process: gevent must be imported first.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from hybrid.workers import identity
from hybrid.workers.apps.detect import Kind, check_http, check_listeners, kind_of
from hybrid.workers.apps.unused_options import unused_options
from hybrid.workers.boot import crash, heap, stall, target
from hybrid.workers.boot.application import Application
from hybrid.workers.boot.dispositions import FOR_THE_SUPERVISOR, do_nothing
from hybrid.workers.common.errors import BootError
from hybrid.workers.common.heartbeat import Heartbeat
from hybrid.workers.contract import metric_seat
from hybrid.workers.contract.channel import ChannelClosed
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import BootFailed
from hybrid.workers.contract.promoted import Promoted
from hybrid.workers.contract.records import record
from hybrid.workers.contract.signals import DUMP_STACK, TELL_STACKS
from hybrid.workers.contract.worker_spec import ListenerKind, WorkerSpec
from hybrid.workers.loops import registry
from hybrid.workers.loops.driver import Driver, run
from hybrid.workers.offload import place
from hybrid.workers.offload.settings import OffloadSettings, PoolSettings

if TYPE_CHECKING:
    from hybrid.workers.hooks.life import LifeHooks
    from hybrid.workers.runtime import Runtime

_log = logging.getLogger("hybrid")


@record(frozen=True, slots=True)
class Loaded:
    """A loaded application; inherited by the forks of the process that loaded it."""

    driver: Driver
    target: Any
    kind: Kind
    companions: Mapping[str, Callable[[], Any]] = dataclasses.field(default_factory=dict)
    """The functions of companions, by name; none in a worker without a zygote."""


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
    function: Callable[[], Any] | None = None
    try:
        if loaded is None:
            loaded = load(application)
        if spec.companion and spec.queue is None:
            function = _function(spec.companion, application, loaded)
        elif spec.queue is None:
            check_listeners(loaded.kind, frozenset(listener.kind for listener in spec.own_listeners))
    except BootError as error:
        _tell(spec, error)
        return int(error.code)
    if function is not None or spec.queue is not None:
        return _accompany(spec, application, loaded, function)
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


def load(application: Application, *, captures: bool = True, with_companions: bool = False) -> Loaded:
    """Change to the application's directory, prepare the process for the loop and import the target.

    `captures`: log its output from now on, if it is to be captured. `with_companions`: import their functions too.
    Refuses anything that would fail in every worker. Runs code of the application. Raises `BootError`.
    """
    if application.directory is not None:
        _enter(application.directory)
    driver = _driver(application.loop)
    if metric_seat.is_taken():
        from hybrid.workers.boot import app_metrics  # only with --admin

        app_metrics.follow()
    if application.captured_level is not None and captures:
        from hybrid.workers.boot.capture import capture  # most services do without

        capture(application.captured_level)
    if application.log_config is not None:
        from hybrid.workers.boot import log_config  # most services do without

        log_config.apply(application.log_config)
    found = _import(partial(_target, application), application.name, driver)
    kind = kind_of(found, application.interface, frozenset())
    check_http(kind, application.http)
    loaded = Loaded(driver, found, kind)
    if not with_companions:
        return loaded
    functions = {one.called: _function(one.called, application, loaded) for one in application.companions}
    return dataclasses.replace(loaded, companions=functions)


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
    identity.take(identity.Identity(spec.title, spec.slot, spec.generation, os.getpid(), loop))


def _function(name: str, application: Application, loaded: Loaded) -> Callable[[], Any]:
    """Return the function of a companion, as loaded or imported now. Raises `BootError`."""
    if name in loaded.companions:
        return loaded.companions[name]
    for one in application.companions:
        if one.called == name:
            function: Callable[[], Any] = _import(partial(target.load_function, one), one.name, loaded.driver)
            return function
    # the zygote has an older configuration
    raise BootError(Exit.TARGET, f"there is no companion {name!r} in this generation: reload the service")


def _accompany(spec: WorkerSpec, application: Application, loaded: Loaded, function: Callable[[], Any] | None) -> int:
    """Run a companion's function, or, without one, an offload worker."""
    try:
        call_early("after_fork", identity.current())
    except BootError as error:
        _tell(spec, error)
        return int(error.code)
    _settle()
    settings = application.offload or OffloadSettings()
    place.knows(settings)
    if function is None:
        from hybrid.workers.offload import body
        from hybrid.workers.ordering_thread import OrderingThread

        number = settings.number_of(spec.companion)
        pool = PoolSettings() if number is None else settings.pools[number]
        return body.run(spec, pool, lambda answers, looks: OrderingThread(spec.channel, answers, looks).begin())
    from hybrid.workers import companion  # imports asyncio

    return companion.run(spec, application, loaded.driver, function)


def _settle() -> None:
    """Undo what the import may have done to signals and to asyncio."""
    _restore_policy()
    # an application with a thread that waits for signals blocks them at import; a blocked SIGTERM cannot drain a worker
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, TELL_STACKS, DUMP_STACK})


def _serve(spec: WorkerSpec, application: Application, loaded: Loaded) -> int | Promoted:
    from hybrid.workers.serving import Worker  # imports asyncio

    def serve(runtime: Runtime) -> Coroutine[Any, Any, Exit | Promoted]:
        try:
            hooks = _life_hooks(application, runtime)
            worker = Worker(spec, application, loaded.target, loaded.kind, runtime, hooks)
        except BootError as error:  # from TLS, whose SNI hook is code of the application
            _tell(spec, error)
            raise
        return worker.run()

    try:
        call_early("after_fork", identity.current())
    except BootError as error:
        _tell(spec, error)
        return int(error.code)
    _settle()
    try:
        outcome = run(loaded.driver, serve, _survive)
        return outcome if isinstance(outcome, Promoted) else int(outcome)
    except BootError as error:  # the supervisor has been told, also of an error in the application's start-up
        return int(error.code)


def has_hooks() -> bool:
    """Return True if the application may have registered hooks: then the modules for them are imported."""
    return "hybrid.workers.hooks.registry" in sys.modules


def call_early(hook: str, worker: identity.Identity | None = None) -> None:
    """Call the functions of a hook that runs before there is a loop. Raises `BootError`."""
    if has_hooks():
        from hybrid.workers.hooks import early
        from hybrid.workers.hooks.registry import Hook

        with _in_one_process():
            early.call(Hook(hook), worker)


def _life_hooks(application: Application, runtime: Runtime) -> LifeHooks | None:
    if not has_hooks():
        return None
    from hybrid.workers.hooks.life import LifeHooks

    return LifeHooks(runtime, identity.current(), application.ready_check_interval)


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
    loaded = load(application, captures=False, with_companions=True)
    check_listeners(loaded.kind, kinds)
    _warn(application, loaded.kind)
    if application.http.tls is not None:
        from hybrid.workers.accepting import tls  # imports ssl, which the driver may have to patch first

        tls.server_context(application.http.tls)
    return f"{loaded.kind.noun} on {loaded.driver.name}"


def _target(application: Application) -> Any:
    """Import the hooks, if they are in a module of their own, and the target."""
    if application.hooks is not None:
        from hybrid.workers.hooks import loading  # most applications have none

        loading.load(application.hooks)
    return target.load(application)


def _import(load_it: Callable[[], Any], name: str, driver: Driver) -> Any:
    """Return what `load_it` imports. Refuse it if its import has patched the process in a way the loop cannot serve."""
    with _in_one_process():
        found = load_it()
    _log.disabled = False  # `logging.config.dictConfig`, which Django calls, disables all loggers it is not told of
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and driver.name != "gevent" and monkey.is_module_patched("socket"):
        raise BootError(
            Exit.TARGET,
            f"{name} patches the standard library for gevent, which only gevent's loop can serve: "
            "write --loop gevent, or leave monkey.patch_all() out",
        )
    return found


@contextlib.contextmanager
def _in_one_process() -> Iterator[None]:
    """End a process that code of the application forks in the block, and that reaches its end."""
    owner = os.getpid()
    try:
        yield
    finally:
        if os.getpid() != owner:
            _leave()


def _leave() -> NoReturn:
    """End a process that the application forked at its import or in a hook: two processes must not share one spec."""
    _log.error("a process forked by the import of the target, or by a hook, reached its end: leave it with os._exit")
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
