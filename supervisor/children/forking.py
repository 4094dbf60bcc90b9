"""Forks children, directly or through a zygote, and chooses the descriptors they inherit."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable

from hybrid.supervisor.children.handles import ChildHandle, Children, teach
from hybrid.supervisor.children.kernel import CannotFork, Kernel
from hybrid.supervisor.children.spawn import Program, be_worker
from hybrid.supervisor.children.zygote import be_zygote, continue_as
from hybrid.supervisor.children.zygote_spec import ZygoteSpec
from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.table import ZYGOTE
from hybrid.supervisor.listeners.binding import BindError
from hybrid.supervisor.listeners.sockets import Listeners
from hybrid.supervisor.settings import Settings
from hybrid.supervisor.watch.dump_file import DumpFile
from hybrid.workers.contract import log
from hybrid.workers.contract.channel import Channel, ChannelClosed
from hybrid.workers.contract.messages import Spawn
from hybrid.workers.contract.scoreboard import Record
from hybrid.workers.contract.worker_spec import WorkerSpec

logger = logging.getLogger(log.LOGGER_NAME)


class Forking:
    """Forks children and keeps a handle to each. No method blocks longer than fork(2)."""

    def __init__(
        self, settings: Settings, program: Program, kernel: Kernel, listeners: Listeners, children: Children
    ) -> None:
        self._settings = settings
        self._program = program
        self._kernel = kernel
        self._listeners = listeners
        self._children = children
        self._supervisor_pid = os.getpid()
        self.foreign: list[Callable[[], None]] = []
        """Further functions that a child must call to close descriptors of the supervisor."""

    def fork(self, slot: int, generation: int, zygote: int | None) -> ev.Event | None:
        """Start a worker; return the outcome, or None if a zygote will answer later."""
        try:
            if slot >= self._listeners.slots:
                self._listeners.grow(slot + 1)
                self._children.teach_all(self._listeners.all())
            if zygote is not None and zygote in self._children:
                self._order(slot, generation, self._children[zygote])
                return None
            return ev.Spawned(slot, self._fork_here(slot, generation))
        except (BindError, CannotFork) as error:
            return ev.ForkFailed(slot, str(error))

    def fork_zygote(self, generation: int) -> ev.Event:
        """Start a zygote; return the outcome."""
        try:
            return ev.Spawned(ZYGOTE, self._fork_here(ZYGOTE, generation))
        except CannotFork as error:
            return ev.ForkFailed(ZYGOTE, str(error))

    def call_off(self, slot: int) -> None:
        """Cancel the fork that a zygote was asked for; closing the channel ends the worker."""
        if self._children.pending_fork(slot) is not None:
            self._kernel.unwatch(self._children.cancel(slot))

    def confirm(self, slot: int, pid: int) -> None:
        """A worker forked by a zygote is our child now."""
        self._children.confirm(slot, pid)

    def _fork_here(self, slot: int, generation: int) -> int:
        record, dump_file = self._allocate()
        knows = self._listeners.slots

        def be(channel: Channel) -> int:
            if slot == ZYGOTE:
                return self._be_zygote(generation, channel, dump_file)
            return self._be_worker(self._worker_spec(slot, generation, channel, record, dump_file))

        try:
            pid, channel = self._kernel.fork(be)
        except BaseException:
            dump_file.close()
            self._children.give_back(record)
            raise
        self._children.add(pid, ChildHandle(slot, generation, channel, record, dump_file, knows))
        self._kernel.watch(channel.fileno())
        return pid

    def _order(self, slot: int, generation: int, zygote: ChildHandle) -> None:
        """Order a zygote to fork the worker of `slot`. Raises `CannotFork`."""
        if not teach(zygote, self._listeners.all()):
            raise CannotFork("the zygote does not read its channel")
        record, dump_file = self._allocate()
        try:
            ours, theirs = Channel.pair()
        except OSError as error:
            dump_file.close()
            self._children.give_back(record)
            raise CannotFork(os.strerror(error.errno or 0)) from error
        order = Spawn(slot, generation, record.place)
        sent = False
        with contextlib.suppress(ChannelClosed):
            self._kernel.adopt_orphans(True)
            sent = zygote.channel.hand_over_nowait(order, (theirs.fileno(), dump_file.fileno()))
        theirs.close()
        self._children.add_pending(ChildHandle(slot, generation, ours, record, dump_file, self._listeners.slots))
        if not sent:
            self._children.cancel(slot)
            raise CannotFork("the zygote does not read its channel")
        self._kernel.watch(ours.fileno())

    def _allocate(self) -> tuple[Record, DumpFile]:
        try:
            dump_file = DumpFile()
        except OSError as error:
            raise CannotFork(os.strerror(error.errno or 0)) from error
        try:
            return self._children.take_place(), dump_file
        except LookupError as error:
            dump_file.close()
            raise CannotFork(str(error)) from error

    # --- in the child

    def _be_worker(self, spec: WorkerSpec) -> int:
        outcome = be_worker(spec, self._settings, self._program.body, self._not_theirs(spec.dump_fd))
        return continue_as(outcome, spec, self._settings, self._program)

    def _be_zygote(self, generation: int, channel: Channel, dump_file: DumpFile) -> int:
        spec = ZygoteSpec(
            service=self._settings.service,
            generation=generation,
            supervisor_pid=self._supervisor_pid,
            listeners=self._listeners.all(),
            channel=channel,
            graceful_timeout=self._settings.graceful_timeout,
            scoreboard=self._children.board,
            audit=self._settings.preload == "auto",
            dump_fd=dump_file.fileno(),
        )
        return be_zygote(spec, self._settings, self._program, self._not_theirs(dump_file.fileno()))

    def _worker_spec(
        self, slot: int, generation: int, channel: Channel, record: Record, dump_file: DumpFile
    ) -> WorkerSpec:
        return WorkerSpec(
            service=self._settings.service,
            slot=slot,
            generation=generation,
            supervisor_pid=self._supervisor_pid,
            listeners=self._listeners.all(),
            channel=channel,
            graceful_timeout=self._settings.graceful_timeout,
            record=record,
            dump_fd=dump_file.fileno(),
        )

    def _not_theirs(self, dump_fd: int) -> list[Callable[[], None]]:
        """Return functions that close the descriptors of other children and of the supervisor."""
        close: list[Callable[[], None]] = list(self.foreign)
        for handle in self._children.all_handles():
            close.append(handle.channel.close)
            if handle.dump_file.fileno() != dump_fd:
                close.append(handle.dump_file.close)
        return close
