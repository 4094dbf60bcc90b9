"""The zygote: a process that has imported the application once, and forks the workers of its generation.

It handles one order at a time. Before it takes the next one, the worker has sent `Forked` or is dead (`double_fork`).
`posix` stands in for `os` where gevent patches `os` when the application is imported: its `os.close` waits for a hub.

A worker may become a zygote after it has drained (`live_on`). It leaves the code of the zygote that it was forked by,
frame by frame (`_Promoted`): however many generations follow one another, the stack does not grow.
"""

from __future__ import annotations

import gc
import logging
import os
import posix
import select
import signal
import socket
import traceback
from collections.abc import Callable, Iterable
from typing import NoReturn

from hybrid.supervisor.children import double_fork, spawn
from hybrid.supervisor.children.zygote_spec import ZygoteSpec, zygote_spec_of
from hybrid.supervisor.settings import Settings
from hybrid.workers.contract import log
from hybrid.workers.contract.channel import Channel, ChannelClosed
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import (
    BootFailed,
    CannotSpawn,
    Learn,
    Message,
    MessageError,
    Spawn,
    Unfit,
    Warm,
)
from hybrid.workers.contract.promotion import Promotion
from hybrid.workers.contract.seat import Listener, ListenerKind, Seat
from hybrid.workers.contract.warming import CannotWarm, NotForkable

NAME = b"hybrid-zygote"
"""Of a zygote in the process table (`ps -o comm`), where its workers have the supervisor's."""
_NO_DESCRIPTORS = "no descriptors came with the order: this process may hold no more (ulimit -n)"
_Socket = socket.socket  # as it was before the import
# Whatever handlers the application sets must not run in the zygote. SIGTERM ends it, and a fault must be seen
_HEARD = frozenset(
    {signal.SIGTERM, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGSYS}
)

logger = logging.getLogger(log.LOGGER_NAME)


class _Promoted(BaseException):
    """A worker, forked by a zygote, that is to be a zygote itself: its way out of the code of the other one."""

    def __init__(self, promotion: Promotion, seat: Seat) -> None:
        super().__init__()
        self.promotion = promotion
        self.seat = seat


def be_zygote(
    spec: ZygoteSpec, settings: Settings, program: spawn.Program, foreign: Iterable[Callable[[], None]]
) -> int:
    """Be a zygote, in a fork of the supervisor: load, say so, fork workers until the channel's end.

    Returns the exit code; in the workers it does not return. `foreign` closes what is not the zygote's. Blocks for the
    zygote's life.
    """
    code = spawn.settle(spec.channel, spec.supervisor_pid, settings, foreign, slot=None)
    if code is not None:
        return code
    spawn.start_log(settings, spec.labels)
    return _live(spec, settings, program, spawn.take_name(NAME), is_loaded=False)


def live_on(outcome: int | Promotion, seat: Seat, settings: Settings, program: spawn.Program) -> int:
    """Go on with what the worker of `seat` has ended with: be a zygote, if that is it. Returns an exit code.

    Blocks for the zygote's life; in the workers it forks it does not return.
    """
    if not isinstance(outcome, Promotion):
        return outcome
    spec = zygote_spec_of(seat, outcome.generation)
    return _live(spec, settings, program, _change(spec, settings), is_loaded=True)


def _change(spec: ZygoteSpec, settings: Settings) -> bytes:
    """Put off what is a worker's; return its name in the process table."""
    spawn.unpin()
    log.relabel(settings.log_format, spec.labels)
    return spawn.take_name(NAME)


def _live(spec: ZygoteSpec, settings: Settings, program: spawn.Program, name: bytes, *, is_loaded: bool) -> int:
    """Be a zygote; in a worker that becomes one, be the next. Returns the exit code."""
    while True:
        try:
            if not is_loaded and (code := _load(spec, program)) is not None:
                return code
            is_loaded = True
            _share(spec)
            return _Zygote(spec, settings, program, name).serve()
        except _Promoted as promoted:
            spec = zygote_spec_of(promoted.seat, promoted.promotion.generation)
        except ChannelClosed:  # the supervisor is gone, or wants this zygote no more
            return Exit.OK
        except BaseException:  # anything that ends this process must be in the log
            logger.critical("zygote failed", exc_info=True)
            return Exit.ERROR
        name = _change(spec, settings)


def _share(spec: ZygoteSpec) -> None:
    """Make the memory fit to be shared, and say so. Raises `ChannelClosed`."""
    gc.collect()
    gc.freeze()  # or a worker's first collection would write to, and so copy, every page with an object on it
    spec.channel.send_nowait(Warm())


def _load(spec: ZygoteSpec, program: spawn.Program) -> int | None:
    """Load the application and say how that went; return the exit code where workers cannot be forked, else None."""
    try:
        program.warm(audit=spec.audit, dump_fd=spec.dump_fd)
    except CannotWarm as error:
        spec.channel.send_nowait(BootFailed(error.code, error.reason))
        return error.code
    except NotForkable as error:
        spec.channel.send_nowait(Unfit(error.findings))
        return Exit.OK
    finally:
        spawn.flush_streams()  # what the import has printed
    return None


class _Zygote:
    """A zygote that is warm. `serve` once."""

    def __init__(self, spec: ZygoteSpec, settings: Settings, program: spawn.Program, name: bytes) -> None:
        """`name`: what workers are called in the process table."""
        self._spec = spec
        self._name = name
        self._channel = spec.channel
        self._settings = settings
        self._program = program
        self._listeners = spec.listeners
        # the application may have changed what SIGTERM does
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - _HEARD)  # the workers' mask
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)

    def serve(self) -> int:
        """Obey orders. Raises `ChannelClosed` at the channel's end; returns an exit code if it cannot go on."""
        poll = log.unpatched("poll")()
        while True:
            poll.register(self._channel.fileno(), select.POLLIN | (select.POLLOUT if self._channel.pending else 0))
            poll.poll()  # forever: the supervisor's death is the channel's end
            self._channel.flush()
            try:
                arrived = self._channel.take_over_nowait()
            except MessageError as error:
                logger.error("zygote: %s", error)
                return Exit.ERROR
            if arrived is not None:
                order, descriptors = arrived
                if not self._obey(order, descriptors):
                    return Exit.ERROR

    def _obey(self, order: Message, descriptors: list[int]) -> bool:
        """Do what is ordered; False if this process must end, so that the supervisor makes another one."""
        match order, descriptors:
            case Spawn(), [channel, dump_fd]:
                reason = self._spawn(order, channel, dump_fd)
                if reason is not None:  # before the worker's channel ends, which says less
                    self._channel.send_nowait(CannotSpawn(order.slot, reason))
                double_fork.close_all(descriptors)
            case Spawn(), _:
                double_fork.close_all(descriptors)
                self._channel.send_nowait(CannotSpawn(order.slot, _NO_DESCRIPTORS))
            case Learn(addresses=addresses), _ if len(addresses) == len(descriptors):
                self._learn(order, descriptors)
            case Learn(), _:
                logger.error("a new slot cannot be served: %s", _NO_DESCRIPTORS)
                return False
            case _:  # for workers
                double_fork.close_all(descriptors)
        return True

    def _learn(self, order: Learn, descriptors: list[int]) -> None:
        for address, kind, fd in zip(order.addresses, order.kinds, descriptors, strict=True):
            sock = _Socket(fileno=fd)
            sock.setblocking(False)
            self._listeners += (Listener(address, ListenerKind(kind), sock, order.slot),)

    def _spawn(self, order: Spawn, channel: int, dump_fd: int) -> str | None:
        """Fork the worker; return None once it has said `Forked`, or why there is none. Waits a few seconds at most.

        The intermediate, and the worker until it has sent `Forked`, hold an end of `life`; its EOF tells the zygote.
        """
        try:
            news, life = os.pipe2(os.O_CLOEXEC)
        except OSError as error:
            return double_fork.why_not_forked(error.errno)
        spawn.flush_streams()  # or each worker would write what is buffered once more
        try:
            pid = double_fork.fork_quietly()
        except OSError as error:
            double_fork.close_all((news, life))
            return double_fork.why_not_forked(error.errno)
        if pid == 0:
            self._be_intermediate(order, channel, dump_fd, news, life)
        posix.close(life)
        try:
            return double_fork.await_worker(pid, news)
        finally:
            posix.close(news)

    def _be_intermediate(self, order: Spawn, channel: int, dump_fd: int, news: int, life: int) -> NoReturn:
        """Fork the worker, tell its pid or, negative, the number of the error that kept us from it; and end.

        In the worker this raises `_Promoted`, or does not return.
        """
        promoted: _Promoted | None = None
        try:
            own = os.getpid()
            try:
                said = double_fork.fork_quietly()
            except OSError as error:
                said = -(error.errno or 1)
            if said == 0:
                self._be_worker(order, channel, dump_fd, own, (news, life))
            os.write(life, b"%d" % said)
        except _Promoted as raised:
            promoted = raised
        finally:
            if promoted is None:
                os._exit(0)
        raise promoted

    def _be_worker(self, order: Spawn, channel: int, dump_fd: int, parent: int, life: tuple[int, int]) -> NoReturn:
        """Be a worker, once the supervisor has adopted this process. No frame of the zygote is ever returned to.

        Raises `_Promoted` if it is to be a zygote itself.
        """
        outcome: int | Promotion = Exit.ERROR
        try:
            self._channel.close()
            posix.close(life[0])
            dump_fd = self._take_dump_fd(dump_fd)
            double_fork.await_adoption(parent)
            spawn.take_name(self._name)
            seat = self._seat(order, channel, dump_fd)
            outcome = spawn.be_forked_worker(seat, self._settings, lambda seat: self._enter(seat, life[1]))
        except BaseException:  # noqa: BLE001 - nothing may return into the zygote's code from here
            traceback.print_exc()
        finally:
            if not isinstance(outcome, Promotion):
                os._exit(outcome)
        raise _Promoted(outcome, seat)

    def _take_dump_fd(self, dump_fd: int) -> int:
        """Put the worker's dump_fd in the place of the zygote's, that is nothing to it; return its descriptor."""
        own = self._spec.dump_fd
        if own <= 2:  # a standard stream
            return dump_fd
        posix.dup2(dump_fd, own, inheritable=False)
        posix.close(dump_fd)
        return own

    def _seat(self, order: Spawn, channel: int, dump_fd: int) -> Seat:
        return Seat(
            service=self._spec.service,
            slot=order.slot,
            generation=order.generation,
            supervisor_pid=self._spec.supervisor_pid,
            listeners=self._listeners,
            channel=Channel(_Socket(fileno=channel)),
            graceful_timeout=self._spec.graceful_timeout,
            record=self._spec.scoreboard.record(order.place),
            dump_fd=dump_fd,
        )

    def _enter(self, seat: Seat, life: int) -> int | Promotion:
        """Run the program of a worker that has said `Forked`."""
        posix.close(life)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        return self._program.body(seat)
