"""Forks children, directly or through a zygote, and chooses the descriptors they inherit."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import socket
from collections.abc import Callable, Iterable

from hybrid.supervisor.children.command import CONTINUES, Output
from hybrid.supervisor.children.handles import ChildHandle, Children, teach
from hybrid.supervisor.children.kernel import CannotFork, Kernel
from hybrid.supervisor.children.log_files import LogFiles
from hybrid.supervisor.children.offload_queues import OffloadQueues
from hybrid.supervisor.children.spawn import Program, be_worker
from hybrid.supervisor.children.zygote import be_zygote, continue_as
from hybrid.supervisor.children.zygote_spec import ZygoteSpec
from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.roles import MAX_WORKERS, ZYGOTE, Role, Roster, role_of
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


_MOST_EDITIONS = 8  # more generations than that do not live at a time


class Forking:
    """Forks children and keeps a handle to each. No method blocks longer than fork(2)."""

    def __init__(
        self,
        settings: Settings,
        program: Program,
        kernel: Kernel,
        listeners: Listeners,
        children: Children,
        foreign: Callable[[], Iterable[Callable[[], None]]] = tuple,
        connect: Callable[[str], socket.socket] | None = None,
        files: LogFiles | None = None,
        roster: Roster | None = None,
        metrics_home: str = "",
    ) -> None:
        """`foreign` returns functions that close descriptors of the supervisor and of other services, in a child.

        `connect` returns a connection to the control line, for a worker whose settings ask for one. `files`: those of
        the log; None: there are none. `roster` has the names of the companions. `metrics_home`: see `WorkerSpec`.
        """
        self._files = files or LogFiles()
        self._outputs = self._files.open(settings)
        # what children of a generation run: the first generation of each edition, its settings, its program
        self._editions: list[tuple[int, Settings, Program]] = [(0, settings, program)]
        self._kernel = kernel
        self._listeners = listeners
        self._children = children
        self._supervisor_pid = os.getpid()
        self._foreign = foreign
        self._connect = connect
        self._metrics_home = metrics_home
        self._roster = Roster() if roster is None else roster
        self._queues = OffloadQueues()

    def refit(self, settings: Settings, program: Program, generation: int) -> None:
        """Fork children of `generation` and of later ones with other settings and another program.

        Older generations keep theirs: they go on if the new one cannot start.
        """
        self._editions = [*self._editions[1 - _MOST_EDITIONS :], (generation, settings, program)]

    def _edition(self, generation: int) -> tuple[Settings, Program]:
        """Return the settings and the program of a generation."""
        fitting = [(settings, program) for since, settings, program in self._editions if since <= generation]
        return fitting[-1] if fitting else self._editions[0][1:]

    def fork(self, slot: int, generation: int, zygote: int | None) -> ev.Event | None:
        """Start a worker or a companion; return the outcome, or None if a zygote will answer later."""
        try:
            if role_of(slot) is Role.WORKER and slot >= self._listeners.slots:
                self._listeners.grow(slot + 1)
                self._children.teach_all(self._listeners.all())
            # a gateway executes a fresh interpreter: that needs no fork of the application
            if zygote is not None and zygote in self._children and not self._roster.is_gateway(slot):
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

    def hand_out_files(self) -> bool:
        """Give reopened files to the children that lack them; return True if all have them."""
        return self._files.hand_out(self._children.all_handles(), self._outputs)

    def call_off(self, slot: int) -> None:
        """Cancel the fork that a zygote was asked for; closing the channel ends the worker."""
        if self._children.pending_fork(slot) is not None:
            self._kernel.unwatch(self._children.cancel(slot))

    def confirm(self, slot: int, pid: int) -> None:
        """A worker forked by a zygote is our child now."""
        handle = self._children.confirm(slot, pid)
        if handle.output is not None:
            self._kernel.watch(handle.output.fileno())

    def _fork_here(self, slot: int, generation: int) -> int:
        record, dump_file = self._allocate()
        knows = self._known(slot)
        queue = self._queue(slot, generation, record, dump_file)
        with contextlib.ExitStack() as unless_forked, contextlib.ExitStack() as theirs:
            unless_forked.callback(self._free, record, dump_file)
            try:
                output = self._output(generation)
                if output is not None:
                    unless_forked.callback(output.close)
                line = self._line(generation)
            except OSError as error:
                raise CannotFork(os.strerror(error.errno or 0)) from error
            if line is not None:
                theirs.callback(line.close)

            def be(channel: Channel) -> int:
                output_fd = None if output is None else output.theirs
                if output is not None:
                    output.close_ours()
                if slot == ZYGOTE:
                    return self._be_zygote(generation, channel, record.place, dump_file, output_fd)
                spec = self._worker_spec(slot, generation, channel, record, dump_file, queue)
                return self._be_worker(dataclasses.replace(spec, output_fd=output_fd, line=line))

            pid, channel = self._kernel.fork(be)
            unless_forked.pop_all()
        handle = ChildHandle(slot, generation, channel, record, dump_file, knows, output, self._pools(generation))
        handle.edition = self._files.edition
        self._children.add(pid, handle)
        self._kernel.watch(channel.fileno())
        if output is not None:
            output.close_theirs()
            self._kernel.watch(output.fileno())
        return pid

    def _known(self, slot: int) -> int:
        """Return of how many slots a new child needs no listeners any more; a companion never needs any."""
        return MAX_WORKERS if role_of(slot) is Role.COMPANION else self._listeners.slots

    def _pools(self, generation: int) -> tuple[str, ...]:
        """Return the names of the pools of a generation, in the order in which its children count their calls."""
        return tuple(pool.name for pool in self._edition(generation)[0].pools)

    def _output(self, generation: int) -> Output | None:
        """Return a pipe for what a child writes; None if that is not captured. Raises `OSError`."""
        settings = self._edition(generation)[0]
        if not (settings.command or settings.captures):
            return None
        return Output(CONTINUES if settings.captures else "")

    def _line(self, generation: int) -> socket.socket | None:
        """Return a connection to the control line; None if the worker needs none. Raises `OSError`."""
        rights = self._edition(generation)[0].line
        return None if rights == "none" or self._connect is None else self._connect(rights)

    def _free(self, record: Record, dump_file: DumpFile) -> None:
        dump_file.close()
        self._children.give_back(record)

    def _order(self, slot: int, generation: int, zygote: ChildHandle) -> None:
        """Order a zygote to fork the worker of `slot`. Raises `CannotFork`."""
        if not teach(zygote, self._listeners.all()):
            raise CannotFork("the zygote does not read its channel")
        record, dump_file = self._allocate()
        queue = self._queue(slot, generation, record, dump_file)
        output: Output | None = None
        try:
            output = self._output(generation)
            ours, theirs = Channel.pair()
        except OSError as error:
            self._free(record, dump_file)
            if output is not None:
                output.close()
            raise CannotFork(os.strerror(error.errno or 0)) from error
        order = Spawn(slot, generation, record.place, *self._roster.companion(slot), has_queue=queue is not None)
        more = [*(() if output is None else (output.theirs,)), *(() if queue is None else (queue.fileno(),))]
        sent = False
        with contextlib.suppress(ChannelClosed):
            self._kernel.adopt_orphans(True)
            sent = zygote.channel.hand_over_nowait(order, (theirs.fileno(), dump_file.fileno(), *more))
        theirs.close()
        if output is not None:
            output.close_theirs()
        knows, pools = self._known(slot), self._pools(generation)
        handle = ChildHandle(slot, generation, ours, record, dump_file, knows, output, pools)
        handle.edition = zygote.edition  # if that has to be told of reopened files, so has its fork
        self._children.add_pending(handle)
        if not sent:
            self._children.cancel(slot)
            raise CannotFork("the zygote does not read its channel")
        self._kernel.watch(ours.fileno())

    def _queue(self, slot: int, generation: int, record: Record, dump_file: DumpFile) -> socket.socket | None:
        """Return the queue that the child of a slot serves; None if it serves no calls. Raises `CannotFork`."""
        pool = self._roster.pool_of(slot)
        if not pool:
            return None
        try:
            return self._queues.of(generation, pool)
        except OSError as error:
            self._free(record, dump_file)
            raise CannotFork(f"no queue for offloaded calls: {os.strerror(error.errno or 0)}") from error

    def close_unserved_queues(self, serving: int) -> None:
        """Close the queues of generations before `serving` whose pool has no offload workers: it gets no others.

        Not only when one dies: the last one of an old generation may have been ordered, and called off.
        """
        served = {(one.generation, self._roster.pool_of(one.slot)) for one in self._children.all_handles()}
        self._queues.close_unserved(served, before=serving)

    def close_old_queues(self) -> None:
        """Close the queues of offloaded calls of generations that have no children any more."""
        self._queues.close_old({handle.generation for handle in self._children.all_handles()})

    def close_queues(self) -> None:
        """Close the queues of offloaded calls: the service has ended, or this is a child of another one."""
        self._queues.close()

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
        settings, program = self._edition(spec.generation)
        if spec.companion:
            self._listeners.close_in_child()
        outcome = be_worker(spec, settings, program.body, self._not_theirs(spec.dump_fd, spec.queue))
        return continue_as(outcome, spec, settings, program)

    def _be_zygote(
        self, generation: int, channel: Channel, place: int, dump_file: DumpFile, output_fd: int | None
    ) -> int:
        settings, program = self._edition(generation)
        spec = ZygoteSpec(
            service=settings.service,
            generation=generation,
            supervisor_pid=self._supervisor_pid,
            listeners=self._listeners.all(),
            channel=channel,
            graceful_timeout=settings.graceful_timeout,
            scoreboard=self._children.board,
            audit=settings.preload == "auto",
            dump_fd=dump_file.fileno(),
            outputs=self._outputs,
            output_fd=output_fd,
            seat=None if self._children.seats is None else self._children.seats.at(place),
            offload_key=self._queues.key if settings.pools else "",
        )
        return be_zygote(spec, settings, program, self._not_theirs(dump_file.fileno()))

    def _worker_spec(
        self,
        slot: int,
        generation: int,
        channel: Channel,
        record: Record,
        dump_file: DumpFile,
        queue: socket.socket | None,
    ) -> WorkerSpec:
        settings, _ = self._edition(generation)
        companion, number = self._roster.companion(slot)
        return WorkerSpec(
            service=settings.service,
            slot=number if companion else slot,
            companion=companion,
            generation=generation,
            supervisor_pid=self._supervisor_pid,
            listeners=() if companion else self._listeners.all(),
            channel=channel,
            graceful_timeout=settings.graceful_timeout,
            record=record,
            dump_fd=dump_file.fileno(),
            log_fd=self._outputs.log_fd,
            access_fd=self._outputs.access_fd,
            seat=None if self._children.seats is None else self._children.seats.at(record.place),
            metrics_home=self._metrics_home,
            offload_key=self._queues.key if settings.pools else "",
            queue=queue,
        )

    def _not_theirs(self, dump_fd: int, queue: socket.socket | None = None) -> list[Callable[[], None]]:
        """Return functions that close the descriptors of other children, of other services and of the supervisor."""
        close: list[Callable[[], None]] = [*self._foreign(), lambda: self._files.close_in_child(self._outputs)]
        close.append(lambda: self._queues.close(besides=queue))
        for handle in self._children.all_handles():
            close.append(handle.channel.close)
            if handle.dump_file.fileno() != dump_fd:
                close.append(handle.dump_file.close)
            if handle.output is not None:
                close.append(handle.output.close)
        return close
