"""The supervisor as a child process of an embedding program, and the control socket to it.

The child is always *spawned*, with `multiprocess`: a fresh interpreter has none of the embedder's threads, loops, locks
and patches, which a fork would copy in an arbitrary state. Arguments are pickled with dill.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import itertools
import os
import select
import signal
import socket
import sys
import time
import weakref
from collections.abc import Iterator
from typing import Any

from hybrid.plan import Plan
from hybrid.plans import Plans
from hybrid.supervisor.contact.control import Control, ControlClient
from hybrid.supervisor.core.status import Status
from hybrid.supervisor.listeners.addresses import FdBind
from hybrid.supervisor.start import supervise
from hybrid.workers.contract.exits import Exit

_PREFIX = "hybrid-supervisor-"  # of the names of our processes
_numbers = itertools.count(1)
_KILL_MARGIN = 5.0  # seconds for a supervisor to end after the deadline of its workers


class EmbeddedSupervisor:
    """A supervisor in a child process. Its methods are thread-safe and block at most for their timeout."""

    def __init__(self, plans: Plans) -> None:
        """Start the child without waiting for its workers. Raises `OSError` if no process can be created."""
        self._plans = plans
        self._owner = os.getpid()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = _start(plans, theirs)
        try:
            self._pidfd: int | None = os.pidfd_open(self.pid)  # at once: if SIGCHLD is ignored, the pid may be reused
        except ProcessLookupError:  # it has ended and was reaped already
            self._pidfd = None
        self._client = ControlClient(ours)
        _living.add(self)
        atexit.register(self._stop_at_exit)

    @property
    def pid(self) -> int:
        """Process id of the supervisor."""
        pid: int = self._process.pid
        return pid

    def wait_started(self, timeout: float) -> tuple[str, ...]:
        """Wait until all workers are ready; return the addresses.

        Raises `StartError` with the reason if the start fails, and `TimeoutError`.
        """
        return self._client.wait_started(timeout)

    def status(self, timeout: float, service: str) -> Status:
        """Return the status of a service. Raises `TimeoutError`, and `ConnectionError` if the supervisor is gone."""
        return self._client.status(timeout, service)

    def scale(self, workers: int, timeout: float, service: str) -> None:
        """Change the number of workers of a service and wait until it is reached. Raises the errors of `status`."""
        self._client.scale(workers, timeout, service)

    def stop(self, *, graceful: bool, timeout: float | None) -> Exit:
        """Ask the supervisor to stop, wait, and kill it after `timeout` seconds; return the exit code.

        `timeout` None: the drain deadline of the workers, and a little more.
        """
        if timeout is None:
            timeout = _KILL_MARGIN + (self._plans.graceful_timeout if graceful else 0.0)
        if os.getpid() != self._owner:  # forked since: the supervisor belongs to the embedder, not to this process
            return Exit.OK
        until = time.monotonic() + timeout
        with contextlib.suppress(OSError):  # it is gone, or does not answer: then it is killed
            self._client.stop(graceful, timeout)
        code = self._join(until - time.monotonic())
        self._forget()  # not reached after an interrupt: `stop` is called again then
        return code

    def kill(self) -> None:
        """Kill the supervisor; its workers end with it."""
        if os.getpid() != self._owner:
            return
        if self._pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _join(self, timeout: float) -> Exit:
        is_killed = not _wait_for_end(self._pidfd, timeout)
        if is_killed:
            self.kill()
            _wait_for_end(self._pidfd, _KILL_MARGIN)
        code = self._process.exitcode
        if code is None:  # this program ignores SIGCHLD, so the kernel reaped it: use the code in its last message
            code = self._client.wait_ended(0.0)
        if is_killed or (code is not None and code < 0):
            return Exit.KILLED
        return next((known for known in Exit if known == code), Exit.ERROR)

    def _forget(self) -> None:
        atexit.unregister(self._stop_at_exit)
        _living.discard(self)
        self._client.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
        with contextlib.suppress(ValueError):  # it has ended, but the kernel reaped it, see `_join`
            self._process.close()
        _started().discard(self._process)

    def _stop_at_exit(self) -> None:
        """Stop at exit, before the handler of `multiprocess`, which would wait forever for a running child."""
        if os.getpid() == self._owner:
            self.stop(graceful=True, timeout=None)

    @property
    def handle(self) -> Any:
        """The process object of `multiprocess`."""
        return self._process

    def close_control_socket(self) -> None:
        """Close this process's end of the control socket and nothing else."""
        self._client.abandon()


_living: weakref.WeakSet[EmbeddedSupervisor] = weakref.WeakSet()  # started and not yet stopped


def _started() -> set[Any]:
    """Return the processes that `multiprocess` joins at exit."""
    found: set[Any] = getattr(sys.modules.get("multiprocess.process"), "_children", set())
    return found


def _close_control_sockets_after_fork() -> None:
    """Run in forks of the embedder: the supervisor must notice the embedder's death although such a fork lives on."""
    for supervisor in list(_living):
        supervisor.close_control_socket()
        _started().discard(supervisor.handle)  # its exit handler would join a process that is not a child of this one


os.register_at_fork(after_in_child=_close_control_sockets_after_fork)


def _end_tracker(owner: int) -> None:
    """Close the pipe to the resource tracker of `multiprocess` in a program that gevent has patched.

    `multiprocess` closes the pipe and waits for the tracker when the interpreter exits (Python 3.12). gevent's
    `os.close` delays the closing until its hub runs, which it no longer does: both wait forever.
    """
    tracker = getattr(sys.modules.get("multiprocess.resource_tracker"), "_resource_tracker", None)
    fd = getattr(tracker, "_fd", None)
    if fd is not None and "gevent" in sys.modules and os.getpid() == owner:
        os.closerange(fd, fd + 1)  # the only way to close that gevent does not patch
        tracker._fd = None  # type: ignore[union-attr]


atexit.register(_end_tracker, os.getpid())


def _start(plans: Plans, line: socket.socket) -> Any:
    """Start the supervisor process and return its `multiprocess` handle."""
    import multiprocess.spawn

    _skip_main_import(multiprocess.spawn)
    # descriptor numbers are not valid in another process
    binds = [bind for one in plans.plans for bind in one.settings.binds]
    inherited = [socket.socket(fileno=os.dup(bind.fd)) for bind in binds if isinstance(bind, FdBind)]
    process = multiprocess.get_context("spawn").Process(
        target=_run_supervisor, args=(plans, line, inherited), name=f"{_PREFIX}{next(_numbers)}"
    )
    try:
        process.start()
    finally:
        for sock in inherited:
            sock.close()
    return process


def _skip_main_import(spawn: Any) -> None:
    """Keep `multiprocess` from importing the embedder's `__main__` into the supervisor.

    That would run application code there, perhaps monkey-patching. A callable target carries everything it needs.
    Other processes of `multiprocess` are not affected. If its internals have changed, this does nothing.
    """
    original = getattr(spawn, "get_preparation_data", None)
    if original is None or getattr(original, "skips_main", False):
        return

    def get_preparation_data(name: str) -> dict[str, Any]:
        data: dict[str, Any] = original(name)
        if name.startswith(_PREFIX):
            data.pop("init_main_from_name", None)
            data.pop("init_main_from_path", None)
        return data

    get_preparation_data.skips_main = True  # type: ignore[attr-defined]
    spawn.get_preparation_data = get_preparation_data


def _run_supervisor(plans: Plans, line: socket.socket, inherited: list[socket.socket]) -> None:
    """The child's main: become the supervisor of `plans`, and exit with its code."""
    # own process group: Ctrl-C must reach the embedder only, which then stops us, or dies, which we notice
    os.setpgid(0, 0)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # exec(3) keeps the signal mask of the starting thread
    arrived = iter(inherited)
    made = tuple(_with_descriptors(plan, arrived) for plan in plans.plans)
    plans = dataclasses.replace(plans, plans=made)
    plans.enter()
    sys.exit(int(supervise(plans.deployment, control=Control(line))))


def _with_descriptors(plan: Plan, arrived: Iterator[socket.socket]) -> Plan:
    """Return a plan with the numbers that its passed sockets have in this process."""
    binds = tuple(FdBind(next(arrived).fileno()) if isinstance(b, FdBind) else b for b in plan.settings.binds)
    return dataclasses.replace(plan, settings=dataclasses.replace(plan.settings, binds=binds))


def _wait_for_end(pidfd: int | None, timeout: float) -> bool:
    """Wait for a child to end, at most `timeout` seconds; True if it has ended. Does not reap it.

    The sentinel of `multiprocess` is not used: it is a pipe whose other end the workers inherit, so it waits for them
    too.
    """
    if pidfd is None:
        return True
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    until = time.monotonic() + timeout
    while (remaining := until - time.monotonic()) > 0:
        if poll.poll(remaining * 1000):
            return True
    return False
