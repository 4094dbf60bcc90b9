"""A handle to each child: its channel, its place on the scoreboard, its dump file.

Also those that a zygote is about to fork: they have a handle, and their first message tells their pid.
"""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
from collections.abc import Iterable, Iterator, Sequence

from hybrid.supervisor.children.call_book import CallBook
from hybrid.supervisor.children.command import Output
from hybrid.supervisor.children.label_book import LabelBook
from hybrid.supervisor.children.metric_files import Seats
from hybrid.supervisor.children.remainders import NOTHING, Remainders
from hybrid.supervisor.core.roles import ZYGOTE, Role, Roster, role_of
from hybrid.supervisor.watch.dump_file import DumpFile
from hybrid.workers.contract.channel import Channel, ChannelClosed
from hybrid.workers.contract.messages import (
    Adopt,
    CallDied,
    Drain,
    GatewayTold,
    Learn,
    LogLevel,
    Message,
    Ping,
    Promote,
)
from hybrid.workers.contract.scoreboard import CALL, CallCounts, Record, Scoreboard, Totals
from hybrid.workers.contract.worker_spec import Listener

STICKS = 0.1
"""Seconds for which siblings keep serving a queue after its own worker serves it again."""
STICKS_AFTER_STALL = 1.0
"""The same after a stall.

Stalls cluster, and with siblings still serving, the next one costs no detection time. Beside a client that opens a new
connection for each request of 100 ms, the p99 of short requests is 4 ms; it was 17 ms with a tenth of this value
(`benchmarks fairness`).
"""

_FORGOTTEN = 10.0  # seconds after a stall until the slot is treated as any other


@dataclasses.dataclass(slots=True)
class ChildHandle:
    """The supervisor's data about a living child, or one that is being forked."""

    slot: int
    generation: int
    channel: Channel
    record: Record
    dump_file: DumpFile
    knows: int
    """It has the listeners of the slots below this number."""
    output: Output | None = None
    """What a program writes that it executes."""
    pools: tuple[str, ...] = ()
    """The pools to which it may offload calls: their numbers in its record are their places here."""
    adopts: frozenset[int] = frozenset()
    """The other slots that it was last told to serve."""
    wants: frozenset[int] = frozenset()
    """The other slots that it should serve; for a moment a subset of `adopts`."""
    shrinks_at: float | None = None
    """When to tell it about the smaller set, monotonic seconds."""
    edition: int = 0
    """The edition of the files of the log that it has: see `LogFiles.edition`."""
    takes_orders: bool = False
    """True if it said that it drains when it reads `Drain`; otherwise it needs SIGTERM."""
    runs_calls: bool = False
    """True if it said that it runs offloaded calls: it shows what it does as a worker does, and has no loop."""
    listens: bool = False
    """True if it runs no loop, and said that it obeys some orders all the same."""
    gateway: GatewayTold | None = None
    """What it has said last as the gateway to a cluster."""
    not_ready: str | None = None
    """Why the application says that the worker is not ready; None: it says nothing against it."""
    has_sent_bad_message: bool = False
    """True if it has sent a bad message, which was logged."""
    knew_at_fork: int = dataclasses.field(init=False)
    """`knows` at its fork."""
    counts_for: int = dataclasses.field(init=False)
    """`slot` at its fork: a worker that becomes a zygote has counted for that slot. Companions count for none."""

    def __post_init__(self) -> None:
        """Remember what it was at the fork."""
        self.knew_at_fork = self.knows
        self.counts_for = self.slot if role_of(self.slot) is Role.WORKER else ZYGOTE

    def calls(self) -> dict[str, CallCounts]:
        """Return the counts of the calls that it has offloaded: pool -> counts."""
        return {pool: self.record.calls_to(number).counts() for number, pool in enumerate(self.pools)}

    def underway(self, pool: str) -> int:
        """Return how many calls wait or run that it has offloaded to a pool."""
        return self.record.calls_to(self.pools.index(pool)).underway if pool in self.pools else 0

    @property
    def has_loop(self) -> bool:
        """True if it is a worker, or a companion that has said that it runs a loop."""
        return self.takes_orders or role_of(self.slot) is not Role.COMPANION

    @property
    def hears(self) -> bool:
        """True if it obeys an order for its stacks or its log level."""
        return self.listens or self.has_loop


class Children:
    """The handles to all children. No method blocks."""

    def __init__(
        self, places: int, service: str = "web", roster: Roster | None = None, seats: Seats | None = None
    ) -> None:
        """`roster` has the names of companions; `seats`: for metrics of the application. Raises `OSError` (ENOMEM)."""
        self.seats = seats
        self._roster = Roster() if roster is None else roster
        self.board = Scoreboard(places)
        self._receivers: list[int] = []  # as last stored on the board
        self._service = service
        self._free = list(range(places))  # free places; a heap
        self._handles: dict[int, ChildHandle] = {}  # pid -> handle of a child that is not yet reaped
        self._pids: dict[int, int] = {}  # descriptor of a channel -> pid
        self._outputs: dict[int, int] = {}  # descriptor of an output that is read -> pid
        self._pending_forks: dict[int, ChildHandle] = {}  # slot -> handle of the worker that a zygote was asked to fork
        self._pending_slots: dict[int, int] = {}  # descriptor of a channel -> slot of such a worker
        self.remainders = Remainders()
        """What the dead workers of each slot had counted."""
        self.call_book = CallBook()
        """How the calls have ended that were offloaded to each pool."""
        self.label_book = LabelBook()
        """What the requests of each label have cost."""
        self._stalled: dict[int, float] = {}  # slot -> when a stall of its worker last began or ended, seconds

    def receive(self, pids: Iterable[int]) -> None:
        """Let these workers, and no others, get connections that siblings pass on."""
        handles = [handle for pid in pids if (handle := self._handles.get(pid)) is not None]
        receivers = [handle.slot << 32 | handle.record.place for handle in handles]
        if receivers != self._receivers:
            self._receivers = receivers
            self.board.receivers = receivers

    # --- questions

    @property
    def pids(self) -> tuple[int, ...]:
        """The pids of all children."""
        return tuple(self._handles)

    def __getitem__(self, pid: int) -> ChildHandle:
        return self._handles[pid]

    def get(self, pid: int | None) -> ChildHandle | None:
        """Return the handle of a child; None if the pid is not a child's."""
        return None if pid is None else self._handles.get(pid)

    def __contains__(self, pid: object) -> bool:
        return pid in self._handles

    def __iter__(self) -> Iterator[tuple[int, ChildHandle]]:
        return iter(tuple(self._handles.items()))

    def pid_at(self, fd: int) -> int | None:
        """Return the pid of the child with this channel; None if there is none."""
        return self._pids.get(fd)

    def output_at(self, fd: int) -> int | None:
        """Return the pid of the child whose output this is; None if there is none."""
        return self._outputs.get(fd)

    def pending_slot_at(self, fd: int) -> int | None:
        """Return the slot of the pending fork with this channel; None if there is none."""
        return self._pending_slots.get(fd)

    def pending_fork(self, slot: int) -> ChildHandle | None:
        """Return the handle of the worker that is being forked into a slot; None if there is none."""
        return self._pending_forks.get(slot)

    @property
    def has_pending_forks(self) -> bool:
        """True if a zygote was asked for a worker that has not sent its pid yet."""
        return bool(self._pending_forks)

    def pid_of_call(self, key: int) -> int | None:
        """Return the pid of the offload worker that runs a call; None if none does."""
        found = (pid for pid, handle in self._handles.items() if key and handle.record.numbers[CALL] == key)
        return next(found, None)

    def place(self, slot: int) -> tuple[str, int | str]:
        """Return service and slot as people read them; see `Roster.place`."""
        return self._roster.place(self._service, slot)

    def labels(self, pid: int, handle: ChildHandle) -> dict[str, object]:
        """Return the labels of a log line about a child."""
        service, slot = self.place(handle.slot)
        return {"service": service, "slot": slot, "generation": handle.generation, "subject_pid": pid}

    def workers_of(self, generation: int) -> frozenset[int]:
        """Return the pids of a generation's workers and companions."""
        return frozenset(pid for pid, handle in self if handle.slot != ZYGOTE and handle.generation == generation)

    def pending_slots(self) -> tuple[int, ...]:
        """Return the slots of pending forks."""
        return tuple(self._pending_forks)

    def all_handles(self) -> list[ChildHandle]:
        """Return the handles of all children and pending forks."""
        return [*self._handles.values(), *self._pending_forks.values()]

    def left_over(self) -> dict[int, Totals]:
        """Return what the processes had counted that were workers of a slot, and are none any more: slot -> counts."""
        left = {slot: self.remainders[slot] for slot in self.remainders.slots}
        for handle in self._handles.values():
            if handle.slot == ZYGOTE and handle.counts_for != ZYGOTE:
                left[handle.counts_for] = left.get(handle.counts_for, NOTHING).plus(handle.record.totals())
        return left

    def totals(self) -> dict[int, Totals]:
        """Return what our workers have counted for each slot, those that are dead included."""
        totals = dict(self.remainders.own)
        for handle in self._handles.values():
            slot = handle.counts_for
            if slot != ZYGOTE:
                totals[slot] = totals.get(slot, NOTHING).plus(handle.record.totals())
        return totals

    def calls(self) -> dict[str, CallCounts]:
        """Return what our children have counted of the calls to each pool, those that are dead included."""
        return self.call_book.own(handle.calls() for handle in self._handles.values())

    # --- coming and going

    def take_place(self) -> Record:
        """Return an empty record for a new child. Raises `LookupError` if none is free."""
        if not self._free:
            raise LookupError("no place is left on the scoreboard")
        record = self.board.record(heapq.heappop(self._free))
        record.clear()
        return record

    def give_back(self, record: Record) -> None:
        """Free the record of a process that is gone, and its seat."""
        self.vacate(record)
        heapq.heappush(self._free, record.place)

    def vacate(self, record: Record) -> None:
        """Remove the gauges of the application that count while the process with this record works."""
        if self.seats is not None:
            self.seats.vacate(record.place)

    def add(self, pid: int, handle: ChildHandle) -> None:
        """Add a child."""
        self._handles[pid] = handle
        self._pids[handle.channel.fileno()] = pid
        if handle.output is not None:
            self._outputs[handle.output.fileno()] = pid

    def add_pending(self, handle: ChildHandle) -> None:
        """Add a worker that a zygote was asked to fork."""
        self._pending_forks[handle.slot] = handle
        self._pending_slots[handle.channel.fileno()] = handle.slot

    def confirm(self, slot: int, pid: int) -> ChildHandle:
        """The worker of `slot` has sent its pid: make it a child."""
        handle = self._pending_forks.pop(slot)
        del self._pending_slots[handle.channel.fileno()]
        self.add(pid, handle)
        return handle

    def cancel(self, slot: int) -> int:
        """Drop a pending fork and close its channel; return the descriptor it had, to unwatch it."""
        handle = self._pending_forks.pop(slot)
        fd = handle.channel.fileno()
        del self._pending_slots[fd]
        self._close(handle)
        return fd

    def close_channel(self, handle: ChildHandle) -> int | None:
        """Close our end of a channel; return the descriptor it had, None if it was closed already."""
        fd = handle.channel.fileno()
        handle.channel.close()
        return fd if self._pids.pop(fd, None) is not None else None

    def close_output(self, handle: ChildHandle) -> int | None:
        """Close the output of a child; return the descriptor it had, None if there was none."""
        if handle.output is None or (fd := handle.output.fileno()) < 0:
            return None
        self._outputs.pop(fd, None)
        handle.output.close()
        return fd

    def remove(self, pid: int) -> ChildHandle:
        """Remove a reaped child; its channel and output stay open, as its last messages may be in them."""
        handle = self._handles.pop(pid)
        if handle.output is not None:
            self._outputs.pop(handle.output.fileno(), None)
        return handle

    def forget(self, handle: ChildHandle) -> None:
        """Free the record and the dump file of a removed child; its slot and its service keep its counts."""
        if handle.counts_for != ZYGOTE:
            self.remainders.keep(handle.counts_for, handle.record.totals())
        self.call_book.keep(handle.calls())
        self.label_book.forget(handle.record.place)
        handle.dump_file.close()
        self.close_output(handle)
        self.give_back(handle.record)

    def _close(self, handle: ChildHandle) -> None:
        handle.channel.close()
        self.forget(handle)

    # --- talking

    def tell(self, pid: int, message: Message) -> None:
        """Send a message to a child, unless it is gone."""
        handle = self._handles.get(pid)
        if handle is not None:
            with contextlib.suppress(ChannelClosed):  # reap reports its death
                handle.channel.send_nowait(message)

    def tell_of_death(self, dead: ChildHandle, how: str) -> None:
        """Tell the worker whose offloaded call a dead child ran how that died."""
        key = dead.record.numbers[CALL]
        if key:
            self.tell(key >> 32, CallDied(key, how))

    def drain(self, pid: int) -> bool:
        """Order a worker to drain. Return False if it takes no orders or its channel is full: then use SIGTERM."""
        handle = self._handles[pid]
        if handle.takes_orders:
            with contextlib.suppress(ChannelClosed):
                return handle.channel.send_nowait(Drain())
        return False

    def ping(self, pid: int) -> None:
        """Ask a worker to show that its loop turns."""
        self.tell(pid, Ping())

    def set_log_level(self, pid: int, level: int) -> None:
        """Have a worker log records of `level` and above."""
        self.tell(pid, LogLevel(level))

    def adopt(self, pid: int, slots: Sequence[int], listeners: Sequence[Listener], now: float = 0.0) -> None:
        """Have a worker serve the queues of `slots` too; `listeners` are those it may not know yet.

        It starts once it has their sockets. It stops serving a queue a moment later, see `STICKS`: otherwise it would
        get a message at each request that blocks for some milliseconds.
        """
        handle = self._handles[pid]
        teach(handle, listeners)
        handle.wants = frozenset(slots)
        if not handle.wants <= handle.adopts:
            self._tell_adopted(pid, handle, handle.adopts | handle.wants)
        if handle.wants == handle.adopts:
            handle.shrinks_at = None
        elif handle.shrinks_at is None:
            handle.shrinks_at = now + self._sticks(handle.adopts - handle.wants, now)

    def has_stalled(self, pid: int, now: float) -> None:
        """A stall of a worker began or ended: siblings serve its queue for a while longer."""
        handle = self._handles.get(pid)
        if handle is not None:
            self._stalled[handle.slot] = now

    def _sticks(self, slots: frozenset[int], now: float) -> float:
        """Return for how many seconds siblings keep serving these queues."""
        recent = now - _FORGOTTEN
        return STICKS_AFTER_STALL if any(self._stalled.get(slot, recent) > recent for slot in slots) else STICKS

    def settle(self, now: float) -> None:
        """Tell workers that serve too many queues to stop, once it is time."""
        for pid, handle in self._handles.items():
            if handle.shrinks_at is not None and handle.shrinks_at <= now:
                handle.shrinks_at = None
                self._tell_adopted(pid, handle, handle.wants)

    @property
    def due(self) -> float | None:
        """When to call `settle`; None: no need."""
        return min(
            (handle.shrinks_at for handle in self._handles.values() if handle.shrinks_at is not None), default=None
        )

    def _tell_adopted(self, pid: int, handle: ChildHandle, slots: frozenset[int]) -> None:
        handle.adopts = slots
        self.tell(pid, Adopt(tuple(sorted(slots))))

    def promote(self, pid: int, slot: int, generation: int) -> None:
        """Have a worker become the zygote of a generation, in the place `slot`.

        It drops the listeners that it learned, so they are sent again.
        """
        handle = self._handles[pid]
        self.tell(pid, Promote(generation))
        handle.slot, handle.generation, handle.knows = slot, generation, handle.knew_at_fork
        handle.adopts = handle.wants = frozenset()
        handle.shrinks_at = None
        handle.takes_orders, handle.not_ready = False, None

    def is_behind(self, slots: int) -> bool:
        """Return True if a child lacks listeners of some of `slots` slots: call `teach_all` again."""
        return any(handle.knows < slots for handle in self._handles.values())

    def teach_all(self, listeners: Sequence[Listener]) -> None:
        """Send all children the listeners made after their fork; a full channel delays its own child only."""
        for handle in self._handles.values():
            teach(handle, listeners)

    def flush(self) -> None:
        """Send messages that had no room."""
        for handle in self._handles.values():
            if handle.channel.pending:
                with contextlib.suppress(ChannelClosed):
                    handle.channel.flush()


def teach(handle: ChildHandle, listeners: Sequence[Listener]) -> bool:
    """Send the listeners that a child does not know; return False if the channel has no room for all of them now."""
    slots = max((item.slot + 1 for item in listeners if item.slot is not None), default=0)
    while handle.knows < slots:
        ours = [item for item in listeners if item.slot == handle.knows]
        message = Learn(handle.knows, tuple(item.address for item in ours), tuple(item.kind.value for item in ours))
        try:
            if not handle.channel.hand_over_nowait(message, [item.sock.fileno() for item in ours]):
                return False
        except ChannelClosed:
            return False
        handle.knows += 1
    return True
