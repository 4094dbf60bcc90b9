"""One service in the shell: its sockets, its children, and the parts that work on them."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterable

from hybrid.supervisor.children.forking import Forking
from hybrid.supervisor.children.handles import ChildHandle, Children
from hybrid.supervisor.children.kernel import Kernel
from hybrid.supervisor.children.log_files import LogFiles
from hybrid.supervisor.children.metric_files import MetricFiles
from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.machine import MAX_WORKERS, Machine
from hybrid.supervisor.core.roles import Roster
from hybrid.supervisor.core.status import Status, with_record
from hybrid.supervisor.deployment import ServiceSpec
from hybrid.supervisor.listeners.sockets import Listeners
from hybrid.supervisor.shell.actions import Actions
from hybrid.supervisor.shell.happenings import Happenings
from hybrid.supervisor.shell.hearing import Hearing
from hybrid.supervisor.shell.looks import Looks
from hybrid.supervisor.watch.inquiries import Inquiries
from hybrid.supervisor.watch.rates import Samples
from hybrid.supervisor.watch.stack_dumps import StackDumps
from hybrid.supervisor.watch.stall_detector import StallDetector
from hybrid.workers.contract.log import LOGGER_NAME

logger = logging.getLogger(LOGGER_NAME)

_PLACES = 5 * MAX_WORKERS + 64  # processes at a time: each worker and companion and its successor, zygotes, and some


def _is_tcp(address: str) -> bool:
    return "://" not in address and not address.startswith("unix:")


Feed = Callable[[ev.Event], None]
"""Gives an event to the machine, and performs the actions."""


class Branch:
    """A service. Its parts share its children; no method blocks."""

    def __init__(
        self,
        spec: ServiceSpec,
        configured: int,
        kernel: Kernel,
        listeners: Listeners,
        feed: Feed,
        foreign: Callable[[], Iterable[Callable[[], None]]],
        is_heir: Callable[[], bool],
        pinged: Callable[[], None],
        happenings: Happenings,
        connect: Callable[[str], socket.socket],
        files: LogFiles,
        metric_files: MetricFiles,
    ) -> None:
        """`configured`: the number of workers in the configuration; the settings may have a predecessor's.

        `foreign` returns functions that close the descriptors of the supervisor and of other services, in a child.
        `is_heir` returns True while a predecessor owns the sockets. `pinged` is called after its workers were pinged.
        `connect` returns a connection to the control line, for a worker whose settings ask for one.
        `files`: those of the log. `metric_files`: for metrics of the application.
        """
        settings = spec.settings
        self.name = settings.service
        self.title = spec.title
        self.settings = settings
        self.configured = configured
        self.listeners = listeners
        self.roster = roster = Roster()
        self.wanted_pools = {pool.name for pool in settings.pools if pool.at_start}
        """The pools whose offload workers, or gateway, are wanted: from the start, or because there was a call."""
        self._falls_back = False  # offload workers stand in for the cluster, in this generation
        self.machine = machine = Machine(
            settings.policy,
            settings.workers,
            preload=settings.preload != "off",
            roster=roster,
            companions=self._companions(),
        )
        self.children = children = Children(_PLACES, self.name, roster, metric_files.open(settings))
        self.forking = forking = Forking(
            settings,
            spec.program,
            kernel,
            listeners,
            children,
            foreign,
            connect,
            files,
            roster,
            metric_files.home_for(settings),
        )
        self.stack_dumps = stack_dumps = StackDumps(kernel, children, self._stalled)
        self._detector = detector = StallDetector(children.board, settings.stall_threshold, settings.slowest)
        self.hearing = Hearing(kernel, children, forking, detector.wake, executes=bool(settings.command))
        self.actions = actions = Actions(kernel, children, forking, listeners, stack_dumps, is_heir, settings)
        self.samples = Samples()
        self.looks = Looks(kernel, children, detector, machine, listeners, actions, feed, pinged, self.samples)
        self._kernel = kernel
        self._happenings = happenings
        self._files = files
        self._handed_out = files.edition  # the edition of the files that all children have
        self._has_more_slots = listeners.slots > settings.workers
        self.inquiries = Inquiries(children, stack_dumps, executes=bool(settings.command))
        self.hearing.told = self.inquiries.hear
        self.hearing.readiness_told = self._readiness_told
        self.hearing.companions_for_calls = self._companions_for_calls
        self.hearing.companions_in_trouble = self._companions_in_trouble

    def refit(self, spec: ServiceSpec, configured: int) -> None:
        """Use another configuration from now on; its sockets are the same."""
        self.title, self.settings, self.configured = spec.title, spec.settings, configured
        self._falls_back = False
        self.wanted_pools |= {pool.name for pool in spec.settings.pools if pool.at_start}
        self.machine.refit(spec.settings.policy, self._companions())
        self.forking.refit(spec.settings, spec.program, self.machine.next_generation)
        self.actions.refit(spec.settings)
        self._detector.refit(spec.settings.slowest)

    def _companions(self) -> tuple[int, ...]:
        """Return the slots of all companions that are wanted."""
        slots = self.roster.slots_of(self.settings.companions)
        for pool in self.settings.pools:
            if pool.name not in self.wanted_pools:
                continue
            if pool.to:
                slots += self.roster.slots_of_gateway(pool.name)
            if not pool.to or self._falls_back:
                slots += self.roster.slots_of_pool(pool.name, pool.workers)
        return slots

    def _companions_for_calls(self, pool: str) -> tuple[int, ...]:
        if pool in self.wanted_pools or self.settings.pool(pool) is None:
            return ()
        self.wanted_pools.add(pool)
        return self._companions()

    def _companions_in_trouble(self) -> tuple[int, ...]:
        if self._falls_back or not any(pool.falls_back for pool in self.settings.pools):
            return ()
        self._falls_back = True
        return self._companions()

    @property
    def inherited(self) -> ev.Event | None:
        """The event for slots of a predecessor beyond those wanted, before the start; None if there are none."""
        return ev.SlotsInherited(self.listeners.slots) if self._has_more_slots else None

    @property
    def due(self) -> float | None:
        """When to call `settle`, in monotonic seconds; None: no need."""
        dues = (self.stack_dumps.due, self.children.due, self.inquiries.due)
        return min((due for due in dues if due is not None), default=None)

    def _stalled(self, pid: int, handle: ChildHandle, seconds: float, where: str) -> None:
        service, slot = self.children.place(handle.slot)
        who = {"slot": slot, "pid": pid, "generation": handle.generation}
        self._happenings.publish("stall", service, **who, seconds=round(seconds, 3), where=where or None)

    def _readiness_told(self, pid: int, handle: ChildHandle, was_ready: bool) -> None:
        who = {"slot": handle.slot, "pid": pid, "generation": handle.generation}
        outcome = "ready" if handle.not_ready is None else "not ready"
        self._happenings.publish("readiness", self.name, **who, outcome=outcome, reason=handle.not_ready)
        labels = self.children.labels(pid, handle)
        if handle.not_ready is None:
            logger.info("ready again", extra=labels)
        elif was_ready:  # further reasons are events only: one may differ at each check
            logger.warning("not ready: %s", " ".join(handle.not_ready.split()), extra=labels)

    def settle(self, now: float) -> None:
        """Do what is due."""
        if self._handed_out < self._files.edition and (self.settings.command or self.forking.hand_out_files()):
            self._handed_out = self._files.edition
        self.children.settle(now)
        self.children.receive(self.machine.serving() if self.settings.balance != "off" else ())
        self.forking.close_unserved_queues(self.machine.generation)
        self.inquiries.advance(now)
        self.stack_dumps.advance(now)

    def listening(self) -> tuple[int, ...]:
        """Return the pids of the ready children whose loops read orders: workers, and some companions."""
        attending = self.machine.attending()
        companions = [pid for pid in attending if pid in self.children and self.children[pid].takes_orders]
        return (*self.machine.serving(), *companions)

    def hearing_orders(self) -> tuple[int, ...]:
        """Return these pids, and those of ready companions without a loop that obey some orders."""
        attending = self.machine.attending()
        return (
            *self.machine.serving(),
            *(pid for pid in attending if pid in self.children and self.children[pid].hears),
        )

    def turning(self) -> tuple[int, ...]:
        """Return those of them whose loops are not known to stand still."""
        if not self.machine.attending():
            return self.machine.turning()
        turning = {*self.machine.turning(), *self.machine.attending(turning=True)}
        return tuple(pid for pid in self.listening() if pid in turning)

    def forget(self, pid: int) -> None:
        """A child is gone: nothing is asked of it any more."""
        self.stack_dumps.close(pid)
        self.inquiries.close(pid)
        self.forking.close_old_queues()

    def status(self) -> Status:
        """Return the status of the service."""
        rows = (
            with_record(row, handle.record.snapshot()) if (handle := self.children.get(row.pid)) is not None else row
            for row in self.machine.workers(self._kernel.now())
        )
        return Status(self.name, self.listeners.addresses, tuple(rows))

    @property
    def urls(self) -> tuple[str, ...]:
        """The addresses, as URLs where clients use HTTP."""
        scheme = self.hearing.scheme
        return tuple(f"{scheme}://{one}" if scheme and _is_tcp(one) else one for one in self.listeners.addresses)

    def where(self, pid: int | None) -> str | None:
        """Return the line in which a stalled worker was last found; None: not known."""
        return None if pid is None else self.stack_dumps.where(pid)

    def close_in_child(self) -> None:
        """Close all its descriptors, in a child of another service."""
        self.inquiries.close_in_child()
        for handle in self.children.all_handles():
            handle.channel.close()
            handle.dump_file.close()
            if handle.output is not None:
                handle.output.close()
        self.listeners.close_in_child()
        self.forking.close_queues()
