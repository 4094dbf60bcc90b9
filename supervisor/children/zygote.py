"""The zygote: a process that has imported the application once, and forks the workers of its generation.

It handles one order at a time. Before it takes the next one, the worker has sent `Forked` or is dead (`double_fork`).
`posix` stands in for `os` where gevent patches `os` when the application is imported: its `os.close` waits for a hub.

A worker may become a zygote after it has drained (`continue_as`). It first leaves every frame of the zygote that forked
it (`_Unwind`), so the stack does not grow from generation to generation.
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
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

from hybrid.supervisor.children import double_fork, spawn, titles
from hybrid.supervisor.children.command import write_to
from hybrid.supervisor.children.zygote_spec import ZygoteSpec, zygote_spec_of
from hybrid.supervisor.settings import Settings
from hybrid.workers.contract import log, metric_seat, reopening
from hybrid.workers.contract.channel import Channel, ChannelClosed
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import (
    BootFailed,
    CannotSpawn,
    Learn,
    Message,
    MessageError,
    Reopened,
    Spawn,
    Unfit,
    Warm,
)
from hybrid.workers.contract.promoted import Promoted
from hybrid.workers.contract.warming import CannotWarm, NotForkable
from hybrid.workers.contract.worker_spec import Listener, ListenerKind, WorkerSpec

"""The name of a zygote in the process table (`ps -o comm`); its workers keep the supervisor's name."""
_NO_DESCRIPTORS = "no descriptors came with the order: this process may hold no more (ulimit -n)"
_Socket = socket.socket  # as it was before the import
# All other signals are blocked: handlers set by the application must not run in the zygote.
# SIGTERM ends it, and a fault must show.
_UNBLOCKED = frozenset(
    {signal.SIGTERM, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGSYS}
)

logger = logging.getLogger(log.LOGGER_NAME)


class _Unwind(BaseException):
    """Unwinds the frames of the old zygote in a worker that becomes a zygote itself."""

    def __init__(self, promoted: Promoted, worker: WorkerSpec) -> None:
        super().__init__()
        self.promoted = promoted
        self.worker = worker


def be_zygote(
    spec: ZygoteSpec, settings: Settings, program: spawn.Program, foreign: Iterable[Callable[[], None]]
) -> int:
    """Run the zygote, in a fork of the supervisor: load, report, fork workers until the channel's EOF.

    Returns the exit code; in the workers it does not return. `foreign` closes descriptors that are not the zygote's.
    Blocks for the zygote's life.
    """
    code = spawn.settle(spec.channel, spec.supervisor_pid, settings, foreign, slot=None)
    if code is not None:
        return code
    if spec.output_fd is not None:
        write_to(spec.output_fd)
    spawn.start_log(settings, spec.labels, spec.outputs.log_fd)
    titles.of_zygote(spec.service)
    metric_seat.take(spec.seat)
    return _live(spec, settings, program, is_loaded=False)


def continue_as(outcome: int | Promoted, worker: WorkerSpec, settings: Settings, program: spawn.Program) -> int:
    """Return the exit code of a worker whose body returned `outcome`; run as a zygote first if it was promoted.

    Blocks for the zygote's life; in the workers that it forks it does not return.
    """
    if not isinstance(outcome, Promoted):
        return outcome
    spec = zygote_spec_of(worker, outcome.generation)
    _change(spec, settings)
    return _live(spec, settings, program, is_loaded=True)


def _change(spec: ZygoteSpec, settings: Settings) -> None:
    """Drop the core, log label and title of a worker."""
    spawn.unpin()
    log.relabel(settings.log_format, spec.labels)
    titles.of_zygote(spec.service)


def _live(spec: ZygoteSpec, settings: Settings, program: spawn.Program, *, is_loaded: bool) -> int:
    """Run the zygote; in a promoted worker, run the next one. Returns the exit code."""
    while True:
        try:
            if not is_loaded and (code := _load(spec, program)) is not None:
                return code
            is_loaded = True
            _share(spec)
            return _Zygote(spec, settings, program).serve()
        except _Unwind as unwind:
            spec = zygote_spec_of(unwind.worker, unwind.promoted.generation)
        except ChannelClosed:  # the supervisor is gone, or has closed the channel of this zygote
            return Exit.OK
        except BaseException:  # anything that ends this process must be in the log
            logger.critical("zygote failed", exc_info=True)
            return Exit.ERROR
        _change(spec, settings)


def _share(spec: ZygoteSpec) -> None:
    """Prepare the memory for sharing, and report `Warm`. Raises `ChannelClosed`."""
    gc.collect()
    gc.freeze()  # otherwise a worker's first collection writes to every page with an object, and so copies it
    spec.channel.send_nowait(Warm())


def _load(spec: ZygoteSpec, program: spawn.Program) -> int | None:
    """Load the application and report failures; return an exit code if workers cannot be forked, else None."""
    try:
        program.warm(audit=spec.audit, dump_fd=spec.dump_fd)
    except CannotWarm as error:
        spec.channel.send_nowait(BootFailed(error.code, error.reason))
        return error.code
    except NotForkable as error:
        spec.channel.send_nowait(Unfit(error.findings))
        return Exit.OK
    finally:
        spawn.flush_streams()  # output of the import
    return None


class _Zygote:
    """A warm zygote. Call `serve` once."""

    def __init__(self, spec: ZygoteSpec, settings: Settings, program: spawn.Program) -> None:
        """`name`: the workers' name in the process table."""
        self._spec = spec
        self._channel = spec.channel
        self._settings = settings
        self._program = program
        self._listeners = spec.listeners
        # the application may have set a handler for SIGTERM
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - _UNBLOCKED)  # the workers' mask
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _UNBLOCKED)

    def serve(self) -> int:
        """Handle orders. Raises `ChannelClosed` at EOF; returns an exit code if it cannot continue."""
        poll = log.unpatched("poll")()
        while True:
            poll.register(self._channel.fileno(), select.POLLIN | (select.POLLOUT if self._channel.pending else 0))
            poll.poll()  # forever: the death of the supervisor shows as EOF
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
        """Handle one order; False if this process must end so that the supervisor starts another one."""
        match order, descriptors:
            case Spawn(), [channel, dump_fd, *more] if len(more) == self._settings.captures + order.has_queue:
                reason = self._spawn(order, channel, dump_fd, more)
                if reason is not None:  # before the EOF of the worker's channel, which gives no reason
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
            case Reopened(numbers), _:
                reopening.replace(numbers, descriptors)
            case _:  # orders for workers
                double_fork.close_all(descriptors)
        return True

    def _learn(self, order: Learn, descriptors: list[int]) -> None:
        for address, kind, fd in zip(order.addresses, order.kinds, descriptors, strict=True):
            sock = _Socket(fileno=fd)
            sock.setblocking(False)
            self._listeners += (Listener(address, ListenerKind(kind), sock, order.slot),)

    def _spawn(self, order: Spawn, channel: int, dump_fd: int, more: Sequence[int]) -> str | None:
        """Fork the worker; return None once it has sent `Forked`, else the reason. Waits a few seconds at most.

        The intermediate, and the worker until it has sent `Forked`, hold an end of `life`; its EOF tells the zygote.
        """
        try:
            news, life = os.pipe2(os.O_CLOEXEC)
        except OSError as error:
            return double_fork.fork_error(error.errno)
        spawn.flush_streams()  # otherwise each worker writes the buffered output again
        try:
            pid = double_fork.fork_quietly()
        except OSError as error:
            double_fork.close_all((news, life))
            return double_fork.fork_error(error.errno)
        if pid == 0:
            self._be_intermediate(order, channel, dump_fd, more, (news, life))
        posix.close(life)
        try:
            return double_fork.await_worker(pid, news)
        finally:
            posix.close(news)

    def _be_intermediate(
        self, order: Spawn, channel: int, dump_fd: int, more: Sequence[int], life: tuple[int, int]
    ) -> NoReturn:
        """Fork the worker, write its pid or the negated errno to the second of `life`, and exit.

        In the worker this raises `_Unwind`, or does not return.
        """
        unwind: _Unwind | None = None
        try:
            own = os.getpid()
            try:
                outcome = double_fork.fork_quietly()
            except OSError as error:
                outcome = -(error.errno or 1)
            if outcome == 0:
                if self._settings.captures:
                    write_to(more[0])
                self._be_worker(order, channel, dump_fd, more[-1] if order.has_queue else None, own, life)
            os.write(life[1], b"%d" % outcome)
        except _Unwind as raised:
            unwind = raised
        finally:
            if unwind is None:
                os._exit(0)
        raise unwind

    def _be_worker(
        self, order: Spawn, channel: int, dump_fd: int, queue: int | None, parent: int, life: tuple[int, int]
    ) -> NoReturn:
        """Run the worker, once the supervisor has adopted this process. Never returns to a frame of the zygote.

        Raises `_Unwind` if the worker becomes a zygote itself.
        """
        outcome: int | Promoted = Exit.ERROR
        try:
            self._channel.close()
            posix.close(life[0])
            dump_fd = self._take_dump_fd(dump_fd)
            double_fork.await_adoption(parent)
            if order.companion:
                for listener in self._listeners:
                    listener.sock.close()
            worker = self._worker_spec(order, channel, dump_fd, queue)
            outcome = spawn.be_forked_worker(worker, self._settings, lambda worker: self._run_body(worker, life[1]))
        except BaseException:  # noqa: BLE001 - must not return into the zygote's code
            traceback.print_exc()
        finally:
            if not isinstance(outcome, Promoted):
                os._exit(outcome)
        raise _Unwind(outcome, worker)

    def _take_dump_fd(self, dump_fd: int) -> int:
        """Replace the zygote's dump file by the worker's; return the descriptor."""
        own = self._spec.dump_fd
        if own <= 2:  # a standard stream
            return dump_fd
        posix.dup2(dump_fd, own, inheritable=False)
        posix.close(dump_fd)
        return own

    def _worker_spec(self, order: Spawn, channel: int, dump_fd: int, queue: int | None) -> WorkerSpec:
        return WorkerSpec(
            service=self._spec.service,
            slot=order.number if order.companion else order.slot,
            companion=order.companion,
            generation=order.generation,
            supervisor_pid=self._spec.supervisor_pid,
            listeners=() if order.companion else self._listeners,
            channel=Channel(_Socket(fileno=channel)),
            graceful_timeout=self._spec.graceful_timeout,
            record=self._spec.scoreboard.record(order.place),
            dump_fd=dump_fd,
            log_fd=self._spec.outputs.log_fd,
            access_fd=self._spec.outputs.access_fd,
            seat=None if self._spec.seat is None else self._spec.seat.at(order.place),
            offload_key=self._spec.offload_key,
            queue=None if queue is None else _Socket(fileno=queue),
        )

    def _run_body(self, worker: WorkerSpec, life: int) -> int | Promoted:
        """Run the body of a worker that has sent `Forked`."""
        posix.close(life)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        return self._program.body(worker)
