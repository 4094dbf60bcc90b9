"""The steps of a child between the fork and its body: fork hygiene, as checklists.

 `LinuxKernel.fork` has done these, with all signals blocked:
  1. close the supervisor's end of this child's channel, otherwise its EOF never arrives
  2. reset the wake-up descriptor and close its pipe, otherwise the supervisor takes this child's signals for its own
  3. reset every signal handler; ignore the signals that a terminal sends to the whole group; unblock all signals
 Then `be_worker`:
  4. close descriptors of the supervisor: other workers' channels, the socket to the embedding process
  5. pin to one core, if asked: before the ids change, while it is certainly allowed
  6. drop privileges: groups, then group, then user, as each step takes away the right to do the one before
  7. ask for SIGTERM when the supervisor dies; after 6, as a change of ids clears it (`commit_creds`, kernel/cred.c)
  8. check that the supervisor still lives: it may have died between 1 and 7
     with --log-capture, write standard output and error to the supervisor
  9. clear the exit handlers: they belong to the supervisor, or to an embedding program
 10. log under this worker's name, and show it in the process table
     take the seat for the metrics of the application
 11. run the body
 12. end the interpreter as CPython does: join threads, run the exit handlers that the application added (`leaving`);
     flush the standard streams
 Finally `LinuxKernel.fork` ends the process with `os._exit`, so that it never returns to a frame of the supervisor.

A zygote takes the steps 1 to 10 without 5 (`settle`, `start_log`), loads the application and forks (`zygote`). A worker
forked by a zygote inherits that state. It waits until it is the supervisor's child, then `be_forked_worker`:
  5. pin to one core, if asked
  7. ask for SIGTERM when the supervisor dies: a fork clears that (prctl(2))
  8. check that the supervisor still lives
 10. log under this worker's name; changes of the application to the logging stay
     clear the zygote's processes, which the exit handlers of `multiprocessing` would end
     send `Forked`, take the seat
 11. run the body
 12. the same, with the exit handlers that the application added when the zygote imported it, or later

A body may return `Promoted`: the process becomes a zygote (`zygote.continue_as`) instead of step 12.

Kept on purpose: all listeners, standard input, output and error, the environment, the working directory, the umask.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import logging
import os
import pwd
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from hybrid.supervisor.children import titles
from hybrid.supervisor.children.command import write_to
from hybrid.supervisor.children.environment import change_account
from hybrid.supervisor.children.leaving import end_interpreter, forget_processes
from hybrid.supervisor.settings import Settings
from hybrid.workers.contract import log, metric_seat
from hybrid.workers.contract.channel import Channel, ChannelClosed
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import BootFailed, Forked
from hybrid.workers.contract.promoted import Promoted
from hybrid.workers.contract.worker_spec import WorkerSpec

Body = Callable[[WorkerSpec], "int | Promoted"]
"""The worker's program: takes its spec, returns an exit code, or `Promoted` if the process becomes a zygote."""


class Program(Protocol):
    """The program of the supervisor's children."""

    def body(self, spec: WorkerSpec) -> int | Promoted:
        """Run the worker of `spec`; return its exit code. Loads the application unless an ancestor has loaded it.

        Returns `Promoted` if the supervisor ordered a promotion and the process may be forked: a later `body` in a
        fork of this process then serves the same loaded application.
        """

    def warm(self, *, audit: bool, dump_fd: int) -> None:
        """Load the application, so that a later `body` in a fork of this process serves it. May block.

        While it hangs, the supervisor can request stack dumps, which are written to `dump_fd`.

        Raises `CannotWarm` if it cannot be loaded, and with `audit` `NotForkable` if it left something in the process
        that does not survive a fork.
        """


_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_FAILED = 2.0  # seconds for the threads of a worker that could not start
_libc = ctypes.CDLL(None, use_errno=True)  # looked up before the fork: a child should not search for libraries

logger = logging.getLogger(log.LOGGER_NAME)


class CannotDrop(Exception):  # noqa: N818 - the environment's fault
    """The worker lacks the right to become the configured user."""


def be_worker(
    spec: WorkerSpec, settings: Settings, body: Body, foreign: Iterable[Callable[[], None]]
) -> int | Promoted:
    """Run the worker of `spec`: the checklist from 4 on. Returns the result of `body`; blocks while that runs.

    `foreign` closes descriptors that are not the child's.
    """
    slot = spec.slot if settings.pin and not spec.companion else None
    code = settle(spec.channel, spec.supervisor_pid, settings, foreign, slot)
    if code is not None:
        return code
    if settings.pin and spec.queue is not None:
        _pin_away(settings.workers)
    if settings.captures and spec.output_fd is not None:
        write_to(spec.output_fd)
    start_log(settings, spec.labels, spec.log_fd)
    titles.of_worker(spec.title, spec.slot)
    return _run(body, spec)


def be_forked_worker(spec: WorkerSpec, settings: Settings, body: Body) -> int | Promoted:
    """Run the worker of `spec`, forked by a zygote and adopted by the supervisor: the second checklist."""
    if settings.pin and not spec.companion:
        _pin(spec.slot)
    elif settings.pin and spec.queue is not None:
        _pin_away(settings.workers)
    if not is_child_of(spec.supervisor_pid):
        return Exit.ORPHANED
    log.relabel(settings.log_format, spec.labels)
    titles.of_worker(spec.title, spec.slot)
    forget_processes()
    try:
        spec.channel.send_nowait(Forked(os.getpid()))
    except ChannelClosed:
        return Exit.ORPHANED
    return _run(body, spec)


def settle(
    channel: Channel, supervisor_pid: int, settings: Settings, foreign: Iterable[Callable[[], None]], slot: int | None
) -> int | None:
    """Take the steps 4 to 8, in a fork of the supervisor; pin the process if a `slot` is given.

    Returns None, or the exit code if the process cannot continue; the supervisor has been told why.
    """
    for close in foreign:
        close()
    if slot is not None:
        _pin(slot)
    try:
        starter = os.getuid()
        drop_privileges(settings.uid, settings.gid)
        change_account(os.environ, starter, os.getuid())
    except CannotDrop as error:
        with contextlib.suppress(ChannelClosed):
            channel.send_nowait(BootFailed(Exit.USAGE, str(error)))
        return Exit.USAGE
    return None if is_child_of(supervisor_pid) else Exit.ORPHANED


def start_log(settings: Settings, labels: Mapping[str, object], fd: int) -> None:
    """Clear the supervisor's exit handlers, and log to `fd` with the labels of this process."""
    atexit._clear()
    atexit.register(logging.shutdown)  # it was cleared, and the application relies on it too
    log.configure(settings.log_format, settings.log_level, labels, fd)


def is_child_of(supervisor_pid: int) -> bool:
    """Make this process die with its parent; return True if that is the supervisor, which may have died before."""
    die_with_parent()
    return os.getppid() == supervisor_pid


def die_with_parent(number: int = signal.SIGTERM) -> None:
    """Have the kernel send this process a signal when its parent dies (PR_SET_PDEATHSIG, prctl(2))."""
    _libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


_cores: set[int] | None = None  # the cores this process may use, while it is pinned to one


def _pin(slot: int) -> None:
    global _cores
    _cores = os.sched_getaffinity(0)
    cpus = sorted(_cores)
    with contextlib.suppress(OSError):  # a cpuset that shrank meanwhile: unpinned is slower, not wrong
        os.sched_setaffinity(0, {cpus[slot % len(cpus)]})


def _pin_away(workers: int) -> None:
    """Use the cores to which no worker is pinned; all, if there is none."""
    cpus = sorted(os.sched_getaffinity(0))
    if others := set(cpus[workers:]):
        with contextlib.suppress(OSError):  # as in `_pin`
            os.sched_setaffinity(0, others)


def unpin() -> None:
    """Undo the pinning: forks of this process choose among all cores."""
    global _cores
    if _cores is not None:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, _cores)
        _cores = None


class _Ids(Protocol):
    """The functions of the `os` module that change the account of a process."""

    def geteuid(self) -> int: ...
    def initgroups(self, username: str, gid: int, /) -> None: ...
    def setgroups(self, groups: Sequence[int], /) -> None: ...
    def setgid(self, gid: int, /) -> None: ...
    def setuid(self, uid: int, /) -> None: ...


def drop_privileges(uid: int | None, gid: int | None, ids: _Ids = os) -> None:
    """Become `uid` and `gid`; without a `gid`, take the group of the account. Raises `CannotDrop`."""
    if uid is None and gid is None:
        return
    name, own_group = _account(uid)
    group = gid if gid is not None else own_group
    try:
        if ids.geteuid() == 0:
            if group is not None and name is not None:
                ids.initgroups(name, group)
            else:
                ids.setgroups([] if group is None else [group])
        if group is not None:
            ids.setgid(group)
        if uid is not None:
            ids.setuid(uid)
    except OSError as error:
        account = " ".join(f"{kind} {value}" for kind, value in (("user", uid), ("group", group)) if value is not None)
        raise CannotDrop(f"cannot run workers as {account}: {(error.strerror or '').lower()}; start as root") from error


def _account(uid: int | None) -> tuple[str | None, int | None]:
    """Return the name and the group of the account `uid`; None for both if it has none."""
    try:
        entry = pwd.getpwuid(-1 if uid is None else uid)
    except (KeyError, OverflowError):
        return None, None
    return entry.pw_name, entry.pw_gid


def _run(body: Body, spec: WorkerSpec) -> int | Promoted:
    outcome: int | Promoted = Exit.ERROR
    metric_seat.take(spec.seat)
    try:
        outcome = body(spec)
    except SystemExit as error:
        outcome = _code_of(error)
    except BaseException:  # any failure must be in the log
        logger.critical("worker failed", exc_info=True)
    finally:
        if not isinstance(outcome, Promoted):  # the exit handlers are for the workers that follow
            end_interpreter(spec.grace.left(spec.graceful_timeout if outcome == Exit.OK else _FAILED), outcome)
        flush_streams()
    return outcome


def occupy_standard_descriptors() -> None:
    """Open /dev/null for each closed descriptor among 0, 1 and 2.

    Otherwise a worker's next connection could get the number that the log is written to.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:  # open(2) takes the lowest number that is free
        os.set_inheritable(fd, True)
    os.close(fd)


def flush_streams() -> None:
    """Flush standard output and error; may block, as any write to them."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, gone, or replaced by something else
            stream.flush()


def _code_of(error: SystemExit) -> int:
    """Return the exit code of `sys.exit(...)`: None is 0, a text is 1."""
    if error.code is None:
        return Exit.OK
    if isinstance(error.code, int):
        return error.code & 0xFF
    logger.error("%s", error.code)
    return Exit.ERROR
