"""`hybrid run --check`: open the sockets, load the target in a child process, report its kind, and exit.

`hybrid check` (`hybrid.checkup`) loads the target with `load` too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import shlex
import shutil
import signal
import sys

from hybrid.config.service import Service
from hybrid.config.targets import describe
from hybrid.plan import Plan, plan
from hybrid.supervisor.listeners.sockets import open_listeners
from hybrid.workers.contract.channel import Channel, ChannelClosed
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import BootFailed, Message, MessageError, Ready
from hybrid.workers.contract.worker_spec import ListenerKind


class CheckError(Exception):
    """The service could not start; has the exit code and the reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        """A value of `Exit`."""
        self.reason = reason


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A target that was loaded in a child process."""

    description: str
    """Its kind and the loop, e.g. `WSGI application on epoll`."""
    memory: int
    """Bytes that the process had in memory at most."""


def check(service: Service) -> str:
    """Return one line that describes the service that `run` would start.

    Changes the working directory, as `run` does. Blocks while the target is loaded, at most `boot_timeout` seconds.
    Raises `ConfigError`, `CheckError`, and `BindError` for an address that cannot be bound.
    """
    intended = plan(service, travels=False)
    intended.enter()
    if intended.command:
        return _check_command(intended)
    with open_listeners(intended.settings) as listeners:
        kinds = frozenset(listener.kind for listener in listeners.all())
        loaded = load(intended, kinds).description
        addresses = ", ".join(listeners.addresses)
    count = intended.settings.workers
    return f"{describe(service.target)}: {loaded}; {count} worker{'s' * (count != 1)} on {addresses}"


def _check_command(intended: Plan) -> str:
    """Return one line that describes a service of programs. Raises `CheckError`."""
    program = intended.command[0]
    if shutil.which(program) is None:
        raise CheckError(Exit.TARGET, f"cannot execute {program}: there is no such program in the search path (PATH)")
    count = intended.settings.workers
    return f"{shlex.join(intended.command)}: a program; {count} process{'es' * (count != 1)}"


def load(intended: Plan, kinds: frozenset[ListenerKind]) -> Loaded:
    """Load the target in a child process, so that it cannot crash this one, for listeners of `kinds`.

    Blocks meanwhile, at most `boot_timeout` seconds. Raises `CheckError`.
    """
    ours, theirs = Channel.pair()
    sys.stdout.flush()
    sys.stderr.flush()
    # an interrupt in a function of os.register_at_fork would be lost, and one right behind it would leave the child
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        pid = os.fork()
    except OSError:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise
    if pid == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        ours.close()
        _run_child(intended, kinds, theirs)
    has_answered = False
    status, memory = 0, 0
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
        message = _receive(ours, intended.settings.boot_timeout)
        has_answered = message is not None
    finally:
        ours.close()
        if not has_answered:  # it hangs, or is dead already: then the signal has no effect
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # this program ignores SIGCHLD: the kernel has reaped it
            _, status, usage = os.wait4(pid, 0)
            memory = usage.ru_maxrss * 1024  # KiB, getrusage(2)
    return Loaded(_description(message, status), memory)


def _run_child(intended: Plan, kinds: frozenset[ListenerKind], channel: Channel) -> None:
    """Never returns."""
    try:
        os.chdir(intended.directory)
        os.dup2(2, 1)  # the target may print during its import: keep that out of our summary
        channel.send_nowait(Ready(intended.application.loop, intended.check(kinds)))
    except BaseException as error:  # noqa: BLE001 - the target may raise anything, SystemExit too
        code = getattr(error, "code", None)
        reason = getattr(error, "reason", None) or f"{type(error).__name__}: {error}"
        channel.send_nowait(BootFailed(code if isinstance(code, Exit) else Exit.TARGET, str(reason)))
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):  # closed or replaced by the target
                stream.flush()
        os._exit(0)


def _receive(channel: Channel, timeout: float) -> Message | None:
    """Wait for the child's message, at most `timeout` seconds; None if it ended or sent a bad message instead."""
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    if not poll.poll(timeout * 1000):
        raise CheckError(Exit.BOOT, f"the target was not loaded within {timeout:g} s (--boot-timeout)")
    try:
        return channel.receive_nowait()
    except (ChannelClosed, MessageError):
        return None


def _description(message: Message | None, status: int) -> str:
    match message:
        case Ready():
            return message.interface
        case BootFailed():
            raise CheckError(message.code, message.reason)
        case _:
            raise CheckError(Exit.BOOT, f"the process that loaded the target {_ending(status)}")


def _ending(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
