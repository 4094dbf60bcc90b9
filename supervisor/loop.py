"""The shell around the machine: wait, translate what happened into events, step, perform the actions.

It decides nothing and waits in one place only, `kernel.wait`. While nothing happens it sleeps for as long as the
machine's deadline allows; with all workers ready that is for ever.
"""

from __future__ import annotations

import collections
import dataclasses
import logging
import os
import threading

from hybrid.supervisor import events as ev
from hybrid.supervisor.binding import BindError
from hybrid.supervisor.control import Control
from hybrid.supervisor.desk import Desk
from hybrid.supervisor.kernel import CannotFork, Kernel, LinuxKernel
from hybrid.supervisor.machine import Machine
from hybrid.supervisor.pidfile import Pidfile, PidfileError
from hybrid.supervisor.settings import Settings
from hybrid.supervisor.sockets import Listeners, open_listeners
from hybrid.supervisor.spawn import Body, be_worker, flush_streams, occupy_standard_descriptors
from hybrid.supervisor.status import Status
from hybrid.supervisor.steering import SteeringError
from hybrid.workers.contract import log
from hybrid.workers.contract.channel import Channel, ChannelClosed
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import BootFailed, Draining, Message, MessageError, Ready
from hybrid.workers.contract.seat import Seat

_BATCH = 16  # messages of one worker taken in a turn: a worker that talks without end does not keep us from the others
_LAST_WAIT = 5.0  # seconds for killed workers to be reaped after a failure of our own

_MEANINGS: dict[str, ev.Event] = {
    "SIGTERM": ev.StopAsked(graceful=True),
    "SIGINT": ev.Interrupted(),
    "SIGQUIT": ev.StopAsked(graceful=False),
    "SIGHUP": ev.ReloadAsked(),
    "SIGTTIN": ev.ScaleByAsked(1),
    "SIGTTOU": ev.ScaleByAsked(-1),
}
"""What a signal to the supervisor means; others mean nothing."""

logger = logging.getLogger(log.LOGGER_NAME)


def supervise(settings: Settings, body: Body, *, control: Control | None = None) -> Exit:
    """Be the supervisor: open the sockets, run `body` in workers, and return the exit code when all is over.

    Blocks for the life of the service. To be called in the main thread of a process without other threads (it forks);
    `RuntimeError` otherwise. Signal handlers, wake-up descriptor and mask are put back at the end. `control` is closed.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("a supervisor must run in the main thread: only there can Python handle signals")
    occupy_standard_descriptors()
    log.configure(settings.log_format, settings.log_level, {"service": settings.service})
    flush_streams()  # or each worker would write what is buffered once more
    kernel = LinuxKernel()
    try:
        return run(settings, body, kernel, control)
    finally:
        kernel.close()
        if control is not None:
            control.close()


def run(settings: Settings, body: Body, kernel: Kernel, control: Control | None) -> Exit:
    """Do what `supervise` does, over any kernel."""
    try:
        pidfile = Pidfile(settings.pidfile) if settings.pidfile is not None else None
    except PidfileError as error:
        return _refuse(Exit.ERROR, str(error), control)
    try:
        with open_listeners(settings) as listeners:
            for address in listeners.addresses:
                logger.info("listening on %s", address)
            return Shell(settings, body, kernel, listeners, control).run()
    except BindError as error:
        return _refuse(error.code, str(error), control)
    finally:
        if pidfile is not None:
            pidfile.release()


def _refuse(code: Exit, reason: str, control: Control | None) -> Exit:
    logger.error("%s", reason)
    if control is not None:
        control.ended(code, reason)
    return code


@dataclasses.dataclass(slots=True)
class Line:
    """What the shell keeps of a living worker: our end of its channel."""

    slot: int
    channel: Channel
    has_babbled: bool = False
    """It has sent something that is no message, and that was logged."""


class Shell:
    """The imperative part: one per run."""

    def __init__(
        self, settings: Settings, body: Body, kernel: Kernel, listeners: Listeners, control: Control | None
    ) -> None:
        self._settings = settings
        self._body = body
        self._kernel = kernel
        self._listeners = listeners
        self._machine = Machine(settings.policy, settings.workers)
        self._desk = None if control is None else Desk(control, self._machine, self._status)
        self._lines: dict[int, Line] = {}  # pid -> line of a worker that is not yet reaped
        self._pids: dict[int, int] = {}  # descriptor of a watched channel -> pid
        self._has_told_steering = False
        self._reason = ""  # the newest error, in words
        self._supervisor_pid = os.getpid()
        self._code: Exit | None = None  # once the machine has finished

    def run(self) -> Exit:
        """Run until the machine finishes; return its exit code. Blocks. No worker is left when it returns."""
        if self._desk is not None:
            self._kernel.watch(self._desk.fileno())
        try:
            self._feed(ev.Started())
            while self._code is None:
                self._turn()
            if self._desk is not None:
                self._desk.tell_end(self._code, self._reason)
            return self._code
        finally:
            self._clear()

    def _turn(self) -> None:
        deadline = self._machine.deadline()
        ready = self._kernel.wait(None if deadline is None else deadline - self._kernel.now())
        for name in self._kernel.take_signals():
            self._on_signal(name)
        for fd in ready:
            if fd in self._pids:
                self._hear(self._pids[fd], self._lines[self._pids[fd]])
            elif self._desk is not None and fd == self._desk.fileno():
                self._on_request(self._desk)
        self._reap()
        if deadline is not None and deadline <= self._kernel.now():
            self._feed(ev.Tick())
        if self._desk is not None:
            self._desk.tell()

    # --- what happened

    def _on_signal(self, name: str) -> None:
        if name in _MEANINGS:
            self._feed(_MEANINGS[name])
        else:
            logger.info("%s has no meaning here", name)

    def _hear(self, pid: int, line: Line) -> None:
        """Take in what a worker has said, as far as a turn allows."""
        for _ in range(_BATCH):
            try:
                message = line.channel.receive_nowait()
            except ChannelClosed:  # its death is reported by reap, a moment later
                self._hang_up(line)
                return
            except MessageError as error:
                self._on_babble(pid, line, error)
                continue
            if message is None:
                return
            self._feed(_event_of(pid, message))

    def _on_babble(self, pid: int, line: Line, error: MessageError) -> None:
        if not line.has_babbled:
            logger.warning("ignoring what is %s", error, extra={"slot": line.slot, "subject_pid": pid})
        line.has_babbled = True

    def _hang_up(self, line: Line) -> None:
        fd = line.channel.fileno()
        if self._pids.pop(fd, None) is not None:
            self._kernel.unwatch(fd)
            line.channel.close()

    def _reap(self) -> None:
        """Take note of deaths: all of them before the first is acted on, lest a signal goes to a pid that is free."""
        deaths = self._kernel.reap(tuple(self._lines))
        lines = {pid: self._lines.pop(pid) for pid, _ in deaths}
        for pid, how in deaths:
            self._hear(pid, lines[pid])  # it may have said, in its last moment, why it cannot start
            self._hang_up(lines[pid])
            self._feed(ev.Exited(pid, how))

    def _on_request(self, desk: Desk) -> None:
        fd = desk.fileno()
        event = desk.take()
        if desk.fileno() == -1:
            self._kernel.unwatch(fd)
            self._desk = None
        if event is not None:
            self._feed(event)

    # --- what to do about it

    def _feed(self, event: ev.Event) -> None:
        """Step the machine with `event` and with whatever its actions bring about, until nothing is left."""
        events = collections.deque([event])
        while events:
            for action in self._machine.step(events.popleft(), self._kernel.now()):
                answer = self._perform(action)
                if answer is not None:
                    events.append(answer)

    def _perform(self, action: ev.Action) -> ev.Event | None:
        match action:
            case ev.Fork(slot, generation):
                return self._fork(slot, generation)
            case ev.Drain(pid) if pid in self._lines:
                self._kernel.terminate(pid)
            case ev.Kill(pid) if pid in self._lines:
                self._kernel.kill(pid)
            case ev.Steer(slots):
                self._steer(slots)
            case ev.HoldConnections():
                self._listeners.hold()
            case ev.RefuseConnections():
                self._listeners.refuse()
            case ev.Report():
                self._report(action)
            case ev.Finish(code):
                self._code = Exit(code)
            case _:  # a signal for a worker that is reaped: its Exited is on the way
                pass
        return None

    def _fork(self, slot: int, generation: int) -> ev.Event:
        try:
            self._listeners.grow(slot + 1)
            pid, channel = self._kernel.fork(lambda theirs: self._be_child(slot, generation, theirs))
        except (BindError, CannotFork) as error:
            return ev.ForkFailed(slot, str(error))
        self._lines[pid] = Line(slot, channel)
        self._pids[channel.fileno()] = pid
        self._kernel.watch(channel.fileno())
        return ev.Spawned(slot, pid)

    def _be_child(self, slot: int, generation: int, channel: Channel) -> int:
        seat = Seat(
            service=self._settings.service,
            slot=slot,
            generation=generation,
            supervisor_pid=self._supervisor_pid,
            listeners=self._listeners.all(),
            channel=channel,
            graceful_timeout=self._settings.graceful_timeout,
        )
        foreign = [line.channel.close for line in self._lines.values()]
        if self._desk is not None:
            foreign.append(self._desk.close)
        return be_worker(seat, self._settings, self._body, foreign)

    def _steer(self, slots: tuple[int, ...]) -> None:
        try:
            self._listeners.steer(slots)
        except SteeringError as error:
            if not self._has_told_steering:
                logger.warning("%s; a connection may wait for a worker that is booting or gone", error)
            self._has_told_steering = True

    def _report(self, report: ev.Report) -> None:
        level = logging.getLevelNamesMapping()[report.level.value]
        if report.level is ev.Level.ERROR:
            self._reason = report.text
        extra = {"slot": report.slot, "generation": report.generation, "subject_pid": report.pid}
        logger.log(level, "%s", report.text, extra=extra)

    def _status(self) -> Status:
        workers = self._machine.workers(self._kernel.now())
        return Status(self._settings.service, self._listeners.addresses, workers)

    def _clear(self) -> None:
        """Leave nothing behind: after a failure of our own there may be workers."""
        if self._desk is not None:
            self._kernel.unwatch(self._desk.fileno())
        for pid, line in self._lines.items():
            self._kernel.kill(pid)
            self._hang_up(line)
        deadline = self._kernel.now() + _LAST_WAIT
        while self._lines and (remaining := deadline - self._kernel.now()) > 0:
            self._kernel.wait(remaining)
            for pid, _ in self._kernel.reap(tuple(self._lines)):
                del self._lines[pid]


def _event_of(pid: int, message: Message) -> ev.Event:
    match message:
        case Ready():
            return ev.WorkerReady(pid)
        case Draining():
            return ev.WorkerDraining(pid)
        case BootFailed(code, reason):
            return ev.WorkerFailed(pid, code, reason)
