"""The shell around the machine: wait, translate what happened into events, step, perform the actions.

It decides nothing and waits in one place only, `kernel.wait`. It sleeps until something happens, until the machine's
deadline, or until the next look at the workers.
"""

from __future__ import annotations

import collections
import dataclasses
import gc
import logging
import threading

from hybrid.supervisor.children.crew import Crew, Line
from hybrid.supervisor.children.forking import Forking
from hybrid.supervisor.children.kernel import Kernel, LinuxKernel
from hybrid.supervisor.children.snapshot import Snapshot
from hybrid.supervisor.children.spawn import Program, flush_streams, occupy_standard_descriptors
from hybrid.supervisor.contact.control import Control
from hybrid.supervisor.contact.desk import Desk
from hybrid.supervisor.contact.herald import Herald
from hybrid.supervisor.contact.pidfile import Pidfile, PidfileError
from hybrid.supervisor.contact.roll_call import RollCall
from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.machine import MAX_WORKERS, Machine, Phase
from hybrid.supervisor.core.status import Status, with_record
from hybrid.supervisor.core.table import ZYGOTE
from hybrid.supervisor.listeners.binding import BindError
from hybrid.supervisor.listeners.sockets import Listeners, open_listeners
from hybrid.supervisor.listeners.steering import SteeringError
from hybrid.supervisor.settings import Settings
from hybrid.supervisor.upgrade.inheritance import Inheritance, Scale
from hybrid.supervisor.upgrade.succession import Origin, Succession
from hybrid.supervisor.watch.inquest import Inquest
from hybrid.supervisor.watch.lookout import CALM, Lookout
from hybrid.workers.contract import log
from hybrid.workers.contract.channel import ChannelClosed
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import (
    Awake,
    BootFailed,
    Born,
    Broken,
    CannotSpawn,
    Draining,
    Message,
    MessageError,
    Ready,
    Seasoned,
    Stop,
    Unfit,
    Warm,
    Worn,
)

_BATCH = 16  # messages of one child taken in a turn: one that talks without end does not keep us from the others
_ASLEEP = 0.5  # seconds that we wake too late when it was not only this process that did not run
_LAST_WAIT = 5.0  # seconds for killed workers to be reaped after a failure of our own
_PLACES = 2 * MAX_WORKERS + 64  # processes at a time: each worker and its successor, zygotes, and some that drain

_MEANINGS: dict[str, ev.Event] = {
    "SIGTERM": ev.StopAsked(graceful=True),
    "SIGINT": ev.Interrupted(),
    "SIGQUIT": ev.StopAsked(graceful=False),
    "SIGHUP": ev.ReloadAsked(),
    "SIGTTIN": ev.ScaleByAsked(1),
    "SIGTTOU": ev.ScaleByAsked(-1),
    "SIGUSR2": ev.UpgradeAsked(),
}
"""What a signal to the supervisor means; others mean nothing."""

logger = logging.getLogger(log.LOGGER_NAME)


def supervise(
    settings: Settings, program: Program, *, control: Control | None = None, origin: Origin | None = None
) -> Exit:
    """Be the supervisor: open the sockets, run `program` in workers, and return the exit code when all is over.

    Blocks for the life of the service. To be called in the main thread of a process without other threads (it forks);
    `RuntimeError` otherwise. Signal handlers, wake-up descriptor and mask are put back at the end. `control` is closed.
    `origin` tells how this process was started; without it, it cannot be upgraded.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("a supervisor must run in the main thread: only there can Python handle signals")
    occupy_standard_descriptors()
    log.configure(settings.log_format, settings.log_level, {"service": settings.service})
    flush_streams()  # or each worker would write what is buffered once more
    kernel = LinuxKernel()
    snapshot = Snapshot.take()
    gc.collect()
    gc.freeze()  # or a zygote's first collection would write to, and so copy, every page with an object of ours
    try:
        with snapshot.in_use():
            return run(settings, program, kernel, control, origin)
    finally:
        gc.unfreeze()
        kernel.close()
        if control is not None:
            control.close()


def run(
    settings: Settings, program: Program, kernel: Kernel, control: Control | None, origin: Origin | None = None
) -> Exit:
    """Do what `supervise` does, over any kernel."""
    inheritance = None if origin is None else origin.inheritance
    predecessor = None if inheritance is None else inheritance.predecessor_pid
    configured = settings.workers
    if inheritance is not None:
        settings = _scaled(settings, inheritance)
    try:
        pidfile = None if settings.pidfile is None else Pidfile(settings.pidfile, predecessor)
    except PidfileError as error:
        return _refuse(Exit.ERROR, str(error), control)
    try:
        with open_listeners(settings, inheritance) as listeners:
            for address in listeners.addresses:
                logger.info("listening on %s", address)
            succession = Succession(origin or Origin(), listeners, pidfile)
            return Shell(settings, program, kernel, listeners, succession, configured, control).run()
    except BindError as error:
        return _refuse(error.code, str(error), control)
    finally:
        if pidfile is not None:
            pidfile.release()


def _scaled(settings: Settings, inheritance: Inheritance) -> Settings:
    """Return the settings for as many workers as the predecessor has been scaled to."""
    scale = inheritance.scale
    workers = settings.workers if scale is None else scale.for_successor(settings.workers)
    if workers == settings.workers:
        return settings
    logger.info("upgrading: %d workers, as before; --workers says %d", workers, settings.workers)
    return dataclasses.replace(settings, workers=workers)


def _refuse(code: Exit, reason: str, control: Control | None) -> Exit:
    logger.error("%s", reason)
    if control is not None:
        control.ended(code, reason)
    return code


class Shell:
    """The imperative part: one per run."""

    def __init__(
        self,
        settings: Settings,
        program: Program,
        kernel: Kernel,
        listeners: Listeners,
        succession: Succession,
        configured: int,
        control: Control | None,
    ) -> None:
        """`configured`: the number of workers in the command; that in the settings may be a predecessor's."""
        self._settings = settings
        self._kernel = kernel
        self._listeners = listeners
        self._succession = succession
        self._configured = configured
        self._machine = Machine(settings.policy, settings.workers, preload=settings.preload != "off")
        self._crew = Crew(_PLACES)
        self._forking = Forking(settings, program, kernel, listeners, self._crew)
        self._lookout = Lookout(self._crew.board, settings.stall_threshold, settings.slowest)
        self._inquest = Inquest(kernel, self._crew)
        self._herald = Herald(succession.notifier, self._machine)
        self._desk = None if control is None else self._open_desk(control)
        self._has_told_steering = False
        self._scheme = ""  # `http` or `https` once a worker has said so
        self._has_told_urls = False
        self._told_failures: set[str] = set()  # why listening sockets cannot be mended
        self._mends_at = 0.0  # when they are looked at next
        self._reason = ""  # the newest error, in words
        self._code: Exit | None = None  # once the machine has finished
        self._forking.foreign.append(succession.close)
        self._is_bereaved = False  # a child has died, and its leftovers are not yet looked for
        self._heirs: frozenset[int] = frozenset()  # workers of a dead zygote: they go on using its leftovers
        self._orphans_due: float | None = None  # when leftovers that were told to end are looked at again

    def _open_desk(self, control: Control) -> Desk:
        return Desk(control, self._machine, self._status, RollCall(self._crew))

    def run(self) -> Exit:
        """Run until the machine finishes; return its exit code. Blocks. No worker is left when it returns."""
        if self._desk is not None:
            self._kernel.watch(self._desk.fileno())
            self._forking.foreign.append(self._desk.close)
        self._kernel.adopt_orphans(True)
        try:
            for fd in self._succession.descriptors:
                self._kernel.watch(fd)
            if self._listeners.slots > self._settings.workers:
                self._feed(ev.SlotsInherited(self._listeners.slots))
            self._feed(ev.Started())
            while self._code is None:
                self._turn()
            self._herald.finish(self._kernel)
            if self._desk is not None:
                self._desk.tell_end(self._code, self._reason)
            return self._code
        finally:
            self._clear()

    @property
    def _desk_due(self) -> float | None:
        return None if self._desk is None else self._desk.due

    def _turn(self) -> None:
        deadline = self._machine.deadline()
        ready = self._wait(
            deadline, self._inquest.due, self._herald.due, self._crew.due, self._orphans_due, self._desk_due
        )
        for name in _in_order(self._kernel.take_signals()):
            self._on_signal(name)
        for fd in ready or ():
            self._on_readable(fd)
        self._reap()
        if self._is_bereaved or self._orphans_due is not None:
            self._end_orphans()
        now = self._kernel.now()
        if deadline is not None and deadline <= now:
            self._feed(ev.Tick())
        if self._lookout.next_look <= now:
            self._look(now)
        self._crew.settle(now)
        self._inquest.advance(now)
        self._tell(now)

    def _wait(self, *dues: float | None) -> list[int] | None:
        """Sleep until something happens or is due; return the descriptors that are readable.

        Under load most turns are looks that show nothing new: such a look is taken here, and is half a turn's work.
        """
        due = min((when for when in dues if when is not None), default=None)
        while True:
            look = self._next_look()
            wake = min((when for when in (due, look) if when is not None), default=None)
            ready = self._kernel.wait(None if wake is None else wake - self._kernel.now())
            now = self._kernel.now()
            if wake is not None and now - wake > _ASLEEP:
                self._lookout.forgive(now)
            if ready is not None or look is None or (due is not None and due <= now):
                return ready
            if look <= now and self._look(now):
                return None

    def _tell(self, now: float) -> None:
        """Tell the others how it goes: the embedding process, the service manager, the other supervisor."""
        if self._desk is not None:
            self._desk.tell(now)
        if self._machine.has_started and self._succession.is_waiting:
            self._succession.claim()
        if self._machine.has_started and self._scheme and not self._has_told_urls:
            self._has_told_urls = True
            for address in self._listeners.addresses:
                if "://" not in address and not address.startswith("unix:"):  # a TCP address
                    logger.info("reachable at %s://%s", self._scheme, address)
        self._herald.tell(now)

    # --- what happened

    def _on_signal(self, name: str) -> None:
        if name == "SIGHUP":
            self._herald.reload_asked()
        if name in _MEANINGS:
            self._feed(_MEANINGS[name])
        else:
            logger.info("%s has no meaning here", name)

    def _on_readable(self, fd: int) -> None:
        if (pid := self._crew.pid_at(fd)) is not None:
            self._hear(pid, self._crew[pid])
        elif (slot := self._crew.slot_at(fd)) is not None:
            self._hear_of_birth(slot)
        elif self._desk is not None and fd == self._desk.fileno():
            self._on_request(self._desk)
        elif fd in self._succession.descriptors:
            self._on_succession(fd)

    def _hear(self, pid: int, line: Line) -> None:
        """Take in what a child has said, as far as a turn allows."""
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
            if isinstance(message, Awake):
                self._lookout.wake(self._kernel.now())
            elif isinstance(message, CannotSpawn):
                self._on_refusal(line, message)
            elif (event := _event_of(pid, message)) is not None:
                if isinstance(message, Ready):
                    line.takes_orders, self._scheme = message.takes_orders, message.scheme
                self._feed(event)

    def _hear_of_birth(self, slot: int) -> None:
        """Take in the first word of a worker that a zygote was asked for, or that there is none."""
        line = self._crew.birth(slot)
        if line is None:
            return
        try:
            message = line.channel.receive_nowait()
        except ChannelClosed:
            self._on_miscarriage(slot, "the zygote has not forked it, or it died at once")
            return
        except MessageError as error:
            self._on_miscarriage(slot, f"its first word is {error}")
            return
        if message is None:
            return
        if not isinstance(message, Born) or not self._is_newborn(message.pid):
            self._on_miscarriage(slot, f"its first word is {message}, which no new child of this process would say")
            return
        self._forking.born(slot, message.pid)
        self._feed(ev.Spawned(slot, message.pid))
        if message.pid in self._crew:
            self._hear(message.pid, self._crew[message.pid])

    def _is_newborn(self, pid: int) -> bool:
        """Whether a process may be the worker that says so: it will be sent signals, so it must be no other one."""
        return pid not in self._crew and self._kernel.is_child(pid)

    def _on_refusal(self, zygote: Line, message: CannotSpawn) -> None:
        """A zygote has not forked the worker that it was asked for; it may have been another one since."""
        expected = self._crew.birth(message.slot)
        if zygote.slot == ZYGOTE and expected is not None and expected.generation == zygote.generation:
            self._on_miscarriage(message.slot, message.reason)

    def _on_miscarriage(self, slot: int, reason: str) -> None:
        if self._crew.birth(slot) is not None:
            self._forking.call_off(slot)
            self._feed(ev.ForkFailed(slot, reason))

    def _on_babble(self, pid: int, line: Line, error: MessageError) -> None:
        if not line.has_babbled:
            labels = {"slot": line.slot, "generation": line.generation, "subject_pid": pid}
            logger.warning("ignored: %s", error, extra=labels)
        line.has_babbled = True

    def _hang_up(self, line: Line) -> None:
        fd = self._crew.hang_up(line)
        if fd is not None:
            self._kernel.unwatch(fd)

    def _reap(self) -> None:
        """Take note of deaths: all before the first is acted on, so that no signal is sent to a recycled pid."""
        deaths = self._kernel.reap(self._crew.pids)
        self._is_bereaved |= bool(deaths)
        lines = {pid: self._crew.remove(pid) for pid, _ in deaths}
        for line in lines.values():
            if line.slot == ZYGOTE:
                self._heirs |= self._crew.workers_of(line.generation)
        for pid, how in deaths:
            line = lines[pid]
            self._inquest.close(pid)
            self._hear(pid, line)  # it may have said, in its last moment, why it cannot start
            self._hang_up(line)
            self._crew.bury(line)
            self._feed(ev.Exited(pid, how))

    def _end_orphans(self) -> None:
        """End the leftovers of dead children; not while a zygote forks, as its workers are orphans for a moment."""
        if self._crew.expects:
            return
        due = self._kernel.end_orphans(self._crew.pids, is_bereaved=self._is_bereaved, heirs=self._heirs)
        self._is_bereaved, self._heirs = False, frozenset()
        self._orphans_due = None if due is None else self._kernel.now() + due

    def _on_request(self, desk: Desk) -> None:
        fd = desk.fileno()
        event = desk.take()
        if desk.fileno() == -1:
            self._kernel.unwatch(fd)
            self._desk = None
        if event is not None:
            self._feed(event)

    def _on_succession(self, fd: int) -> None:
        was_waiting = self._succession.is_waiting
        event = self._succession.hear(fd)
        if was_waiting and not self._succession.is_waiting:
            self._crew.teach_all(self._listeners.all())
            self._feed(ev.SlotsInherited(self._listeners.slots))
            self._steer(self._machine.steering)
        if fd not in self._succession.descriptors:
            self._kernel.unwatch(fd)
        if event is not None:
            self._feed(event)

    # --- looking

    def _next_look(self) -> float | None:
        return self._lookout.next_look if self._machine.serving() else None

    def _look(self, now: float) -> bool:
        """Look whose loop stands still, and have the workers show that theirs turn; False: there is nothing new."""
        self._crew.flush()
        if self._mends_at <= now and self._machine.phase is Phase.SERVING:
            self._mends_at = now + CALM
            event = self._mend()
            if event is not None:
                self._feed(event)
        if self._crew.is_behind(self._listeners.slots):
            self._crew.teach_all(self._listeners.all())
        records = {pid: self._crew[pid].record for pid in self._machine.serving() if pid in self._crew}
        sight = self._lookout.look(now, records)
        if sight.news:
            for item in sight.news:
                self._crew.has_stalled(item.pid, now)
            self._feed(ev.Looked(sight.news))
        for pid in sight.ping:
            self._crew.ping(pid)
        if sight.ping:  # orphans that appear while no child has died are no leftovers
            self._end_orphans()
        return bool(sight.news or sight.ping)

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
            case ev.Fork(slot, generation, zygote):
                return self._forking.fork(slot, generation, zygote)
            case ev.ForkZygote(generation):
                return self._forking.fork_zygote(generation)
            case ev.CallOff(slot):
                self._forking.call_off(slot)
            case ev.StartSuccessor():
                return self._start_successor()
            case ev.EndSuccessor():
                self._end_successor()
            case ev.Steer():
                self._steer(action)
            case ev.MendListeners():
                return self._mend()
            case ev.TellStop(pids, at_a_terminal):
                self._tell_stop(pids, at_a_terminal=at_a_terminal)
            case ev.HoldConnections():
                self._listeners.hold()
            case ev.CheckQueues():
                return self._check_queues()
            case ev.RefuseConnections():
                self._listeners.refuse()
            case ev.Report():
                self._report(action)
            case ev.Finish(code):
                self._code = Exit(code)
            case _ if action.pid in self._crew:  # else it is reaped: its Exited is on the way
                self._perform_on(action)
        return None

    def _perform_on(self, action: ev.Drain | ev.Promote | ev.Dump | ev.Abort | ev.Kill | ev.Adopt) -> None:
        match action:
            case ev.Drain(pid):
                if not self._crew.drain(pid):
                    self._kernel.terminate(pid)
            case ev.Promote(pid, generation):
                self._crew.promote(pid, ZYGOTE, generation)
            case ev.Dump(pid, since):
                self._inquest.open(pid, since, self._kernel.now(), aborts=False)
            case ev.Abort(pid, since):
                self._inquest.open(pid, since, self._kernel.now(), aborts=True)
            case ev.Kill(pid):
                self._kernel.kill(pid)
            case ev.Adopt(pid, slots):
                knows_all = self._crew[pid].knows >= self._listeners.slots
                listeners = () if knows_all else self._listeners.all()
                self._crew.adopt(pid, slots, listeners, self._kernel.now())

    def _tell_stop(self, pids: tuple[int, ...], *, at_a_terminal: bool) -> None:
        slots = {one.slot for one in self._listeners.waiting() if one.slot is not None}
        for pid in pids:
            if pid in self._crew:
                self._crew.tell(pid, Stop(at_a_terminal, tuple(sorted(slots))))

    def _mend(self) -> ev.Event | None:
        """Repair listening sockets; a new one comes to the workers by a reload, from a zygote that has it."""
        mended = self._listeners.mend()
        for text in mended.repaired:
            logger.warning("%s was shut down by a worker; it serves again, and connections that waited are lost", text)
        for text in mended.failures:
            if text not in self._told_failures:
                logger.error("%s", text)
        self._told_failures = set(mended.failures)
        return ev.ReloadAsked() if mended.is_remade else None

    def _check_queues(self) -> ev.Event:
        waiting = any(one.ends for one in self._listeners.waiting())
        if waiting:
            logger.debug("connections wait to be accepted: new ones are not refused yet")
        return ev.QueuesChecked(waiting)

    def _start_successor(self) -> ev.Event:
        self._kernel.adopt_orphans(False)  # the successor is to be no child of ours: a service manager watches it
        event = self._succession.start(Scale(self._configured, self._machine.wanted))
        self._kernel.adopt_orphans(True)
        for fd in self._succession.descriptors:
            self._kernel.watch(fd)
        return event

    def _end_successor(self) -> None:
        before = self._succession.descriptors
        self._succession.withdraw(self._kernel.terminate)
        for fd in before:
            if fd not in self._succession.descriptors:
                self._kernel.unwatch(fd)

    def _steer(self, steer: ev.Steer) -> None:
        if self._succession.is_waiting:
            return  # the sockets are another supervisor's until we serve
        try:
            self._listeners.steer(steer.slots, steer.datagrams)
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
        rows = (
            with_record(row, line.record.snapshot()) if (line := self._crew.get(row.pid)) is not None else row
            for row in self._machine.workers(self._kernel.now())
        )
        return Status(self._settings.service, self._listeners.addresses, tuple(rows))

    def _clear(self) -> None:
        """Leave nothing behind: after a failure of our own there may be workers."""
        if self._desk is not None:
            self._kernel.unwatch(self._desk.fileno())
        for fd in self._succession.descriptors:
            self._kernel.unwatch(fd)
        for pid, line in self._crew:
            self._kernel.kill(pid)
            self._hang_up(line)
        for slot in self._crew.slots_expected():
            self._forking.call_off(slot)
        deadline = self._kernel.now() + _LAST_WAIT
        while self._crew.pids and (remaining := deadline - self._kernel.now()) > 0:
            self._kernel.wait(remaining)
            self._kernel.take_signals()  # or it would wait no more
            for pid, _ in self._kernel.reap(self._crew.pids):
                self._crew.bury(self._crew.remove(pid))
        for pid in self._crew.pids:  # the kernel holds them
            self._crew.bury(self._crew.remove(pid))
        while (due := self._kernel.end_orphans((), is_bereaved=True)) is not None and self._kernel.now() < deadline:
            self._kernel.wait(due)
            self._kernel.take_signals()
            self._kernel.reap(())
        self._kernel.adopt_orphans(False)
        self._succession.close()


def _in_order(names: list[str]) -> list[str]:
    """Put SIGINT before a SIGTERM of the same moment: a process manager passes Ctrl-C on, and it is not the second.

    Of two signals that are pending at once the later one's handler runs first.
    """
    return sorted(names, key=lambda name: name != "SIGINT") if "SIGTERM" in names else names


def _event_of(pid: int, message: Message) -> ev.Event | None:
    match message:
        case Ready():
            return ev.WorkerReady(pid)
        case Draining():
            return ev.WorkerDraining(pid)
        case Broken(why):
            return ev.WorkerBroken(pid, why)
        case BootFailed(code, reason):
            return ev.WorkerFailed(pid, code, reason)
        case Worn(why):
            return ev.WorkerWorn(pid, why)
        case Seasoned():
            return ev.WorkerSeasoned(pid)
        case Warm():
            return ev.ZygoteWarm(pid)
        case Unfit(findings):
            return ev.ZygoteUnfit(pid, findings)
        case _:  # an order: those go to workers only
            return None
