"""What a child does between the fork and its body: fork hygiene, as a checklist.

 The kernel seam has done, with all signals blocked (`LinuxKernel.fork`):
  1. close the supervisor's end of this child's channel, else its EOF would never come
  2. take the wake-up descriptor away and close its pipe, else the supervisor would see this child's signals as its own
  3. reset every signal handler; what a terminal sends to the whole group means nothing here; unblock all signals
 Then `be_worker`:
  4. close what is the supervisor's: other workers' channels, the line to the embedding process
  5. keep to one core, if pinned: before the ids change, while it is certainly allowed
  6. drop privileges: groups, then group, then user, for each takes away the right to do the one before
  7. ask for SIGTERM when the supervisor dies; after 6, for a change of ids clears it (`commit_creds`, kernel/cred.c)
  8. look whether the supervisor still lives: it may have died between 1 and 7
  9. forget its exit handlers: they are the supervisor's, or an embedding program's
 10. log under this worker's name
 11. run the body
 12. run the exit handlers that the application added, flush the standard streams
 And the seam ends the process with `os._exit`, so that no frame of the supervisor below is ever returned to.

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
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from hybrid.supervisor.settings import Settings
from hybrid.workers.contract import log
from hybrid.workers.contract.channel import ChannelClosed
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import BootFailed
from hybrid.workers.contract.seat import Seat

Body = Callable[[Seat], int]
"""The worker's program: takes its seat, returns an exit code."""

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None, use_errno=True)  # looked up before the fork: a child should not search for libraries

logger = logging.getLogger(log.LOGGER_NAME)


class CannotDrop(Exception):  # noqa: N818 - the environment's fault
    """The worker may not become the user it should run as."""


def be_worker(seat: Seat, settings: Settings, body: Body, foreign: Iterable[Callable[[], None]]) -> int:
    """Be the worker of `seat`: the checklist from 4 on. Returns the exit code; returns late, for it runs `body`.

    `foreign` closes what is not the child's.
    """
    for close in foreign:
        close()
    if settings.pin:
        _pin(seat.slot)
    try:
        drop_privileges(settings.uid, settings.gid)
    except CannotDrop as error:
        with contextlib.suppress(ChannelClosed):
            seat.channel.send_nowait(BootFailed(Exit.USAGE, str(error)))
        return Exit.USAGE
    die_with_parent()
    if os.getppid() != seat.supervisor_pid:
        return Exit.ORPHANED
    atexit._clear()
    atexit.register(logging.shutdown)  # it was among them, and is the application's too
    log.configure(settings.log_format, settings.log_level, seat.labels)
    return _run(body, seat)


def die_with_parent() -> None:
    """Have this process sent SIGTERM when its parent dies (PR_SET_PDEATHSIG, prctl(2))."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _pin(slot: int) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    with contextlib.suppress(OSError):  # a cpuset that shrank meanwhile: unpinned is slower, not wrong
        os.sched_setaffinity(0, {cpus[slot % len(cpus)]})


class _Ids(Protocol):
    """What of the `os` module changes who a process is."""

    def geteuid(self) -> int: ...
    def initgroups(self, username: str, gid: int, /) -> None: ...
    def setgroups(self, groups: Sequence[int], /) -> None: ...
    def setgid(self, gid: int, /) -> None: ...
    def setuid(self, uid: int, /) -> None: ...


def drop_privileges(uid: int | None, gid: int | None, ids: _Ids = os) -> None:
    """Become `uid` and `gid`; a user without a group takes the group of its account. Raises `CannotDrop`."""
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
        who = " ".join(f"{what} {value}" for what, value in (("user", uid), ("group", group)) if value is not None)
        raise CannotDrop(f"cannot run workers as {who}: {(error.strerror or '').lower()}; start as root") from error


def _account(uid: int | None) -> tuple[str | None, int | None]:
    """Return the name and the group of the account `uid`; None for both if it has none."""
    try:
        entry = pwd.getpwuid(-1 if uid is None else uid)
    except (KeyError, OverflowError):
        return None, None
    return entry.pw_name, entry.pw_gid


def _run(body: Body, seat: Seat) -> int:
    try:
        return body(seat)
    except SystemExit as error:
        return _code_of(error)
    except BaseException:  # whatever it is, it ends this process and must be read by somebody
        logger.critical("worker failed", exc_info=True)
        return Exit.ERROR
    finally:
        atexit._run_exitfuncs()
        flush_streams()


def occupy_standard_descriptors() -> None:
    """Open /dev/null as whichever of the descriptors 0, 1 and 2 is closed.

    Or else a worker's next connection would get the number that the log is written to.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:  # open(2) takes the lowest number that is free
        os.set_inheritable(fd, True)
    os.close(fd)


def flush_streams() -> None:
    """Write out what standard output and error hold back; may block, as any write to them."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, gone, or replaced by something else
            stream.flush()


def _code_of(error: SystemExit) -> int:
    """Return the exit code that `sys.exit(...)` means: None is 0, a text is 1."""
    if error.code is None:
        return Exit.OK
    if isinstance(error.code, int):
        return error.code & 0xFF
    logger.error("%s", error.code)
    return Exit.ERROR
