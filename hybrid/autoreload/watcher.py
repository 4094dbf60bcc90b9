"""`hybrid run --reload`: a watcher that restarts the service when its source files change. For development.

The watcher opens the listening sockets and keeps them, so new connections wait in the queue during a restart instead of
being refused. The service is a child process, a supervisor with its workers, in a fresh interpreter each time. There is
one socket per address, shared by all workers, where a service without --reload has one per worker: a group of sockets
cannot be passed on as one address.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

from hybrid.autoreload.changes import Watched, batches
from hybrid.autoreload.child import ChildSpec
from hybrid.autoreload.restarting import RESTART_GRACE, STOPS, Child, Reloader, Signalled
from hybrid.checking import CheckError
from hybrid.config.service import ConfigError, Service
from hybrid.plan import plan
from hybrid.supervisor.children.spawn import occupy_standard_descriptors
from hybrid.supervisor.contact.pidfile import Pidfile, PidfileError
from hybrid.supervisor.listeners.sockets import Listeners, open_listeners
from hybrid.supervisor.settings import Settings
from hybrid.workers.contract import log
from hybrid.workers.contract.exits import Exit

_PASSED_ON = STOPS | {signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1, signal.SIGUSR2}

logger = logging.getLogger(log.LOGGER_NAME)


def reload(service: Service, watched: Watched) -> int:
    """Run `service` until it is stopped, and restart it when `watched` files change; return the exit code.

    Blocks. Changes the working directory, and blocks the supervisor's signals meanwhile. Raises `ConfigError`,
    `BindError`, and `CheckError` for a pidfile in use or a tree that cannot be watched.
    """
    if not isinstance(service.target, str):
        raise ConfigError("target", "only a target given as module:attribute can be reloaded")
    files = tuple(os.path.abspath(file) for file in service.env_files)  # noqa: PTH100 - may be text
    # absolute: the child starts in this directory
    service = dataclasses.replace(service, chdir=service.directory, env_file=files)
    intended = plan(service, travels=False)
    intended.enter()
    settings = intended.settings
    occupy_standard_descriptors()
    log.configure(settings.log_format, settings.log_level, {"service": settings.service})
    with contextlib.ExitStack() as stack:
        stack.enter_context(_blocked_signals())  # before any thread is started
        stack.enter_context(_holding_pidfile(settings))
        listeners = stack.enter_context(open_listeners(dataclasses.replace(settings, workers=1)))
        starter = stack.enter_context(contextlib.closing(_Starter(service, listeners)))
        logger.info("reload: watching %s", ", ".join(str(directory) for directory in watched.directories))
        grace = min(RESTART_GRACE, settings.graceful_timeout)
        reloader = Reloader(watched, starter.start, _signals_nowait, grace=grace)
        changes = stack.enter_context(contextlib.closing(batches(watched.directories)))
        try:
            return reloader.run(changes)
        except OSError as error:
            raise CheckError(Exit.ERROR, f"cannot watch for changes: {error}") from None


class _Starter:
    """Starts children that serve the watcher's sockets."""

    def __init__(self, service: Service, listeners: Listeners) -> None:
        self._fds = tuple(fd for entry in listeners.offer() for fd in entry.fds)
        self._service = dataclasses.replace(
            service,
            bind=tuple(f"fd://{fd}" for fd in self._fds),
            pidfile=None,  # it has to name this process, the one to stop
        )
        self._control: socket.socket | None = None  # our end of the newest child's control socket

    def start(self) -> Child:
        """Start a child. Raises `OSError`."""
        self.close()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, contextlib.ExitStack() as stack:
            spec = ChildSpec(self._service, tuple(sys.argv), theirs.fileno()).to_fd()
            stack.callback(os.close, spec)
            # -P: only workers may import from the working directory. The child inherits the blocked signals, until
            # its supervisor is ready for them.
            return subprocess.Popen(
                [sys.executable, *_flags(), "-P", "-m", "hybrid.autoreload.child", str(spec)],
                pass_fds=(*self._fds, theirs.fileno(), spec),
            )

    def close(self) -> None:
        """Close the control socket: a child that still runs ends."""
        if self._control is not None:
            self._control.close()


def _flags() -> list[str]:
    """Return the options that this interpreter was started with, such as -X dev."""
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does
    return flags


@contextlib.contextmanager
def _blocked_signals() -> Iterator[None]:
    """Block the supervisor's signals for sigtimedwait(2): a Python signal handler does not get the sender."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _signals_nowait() -> Iterator[Signalled]:
    while (info := signal.sigtimedwait(_PASSED_ON, 0)) is not None:
        # sigaction(2): above zero the kernel sent it; a terminal's signals go to the whole process group
        yield Signalled(signal.Signals(info.si_signo), is_for_all=info.si_code > 0)


@contextlib.contextmanager
def _holding_pidfile(settings: Settings) -> Iterator[None]:
    if settings.pidfile is None:
        yield
        return
    try:
        pidfile = Pidfile(settings.pidfile)
    except PidfileError as error:
        raise CheckError(Exit.ERROR, str(error)) from None
    try:
        yield
    finally:
        pidfile.release()
