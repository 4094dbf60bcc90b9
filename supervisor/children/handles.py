"""A handle to each child: its channel, its place on the scoreboard, its dump file.

Also those that a zygote is about to fork: they have a handle, and their first message tells their pid.
"""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
from collections.abc import Iterator, Sequence

from hybrid.supervisor.core.table import ZYGOTE
from hybrid.supervisor.watch.dump_file import DumpFile
from hybrid.workers.contract.channel import Channel, ChannelClosed
from hybrid.workers.contract.messages import Adopt, Drain, Learn, Message, Ping, Promote
from hybrid.workers.contract.scoreboard import Record, Scoreboard
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
    adopts: frozenset[int] = frozenset()
    """The other slots that it was last told to serve."""
    wants: frozenset[int] = frozenset()
    """The other slots that it should serve; for a moment a subset of `adopts`."""
    shrinks_at: float | None = None
    """When to tell it about the smaller set, monotonic seconds."""
    takes_orders: bool = False
    """True if it said that it drains when it reads `Drain`; otherwise it needs SIGTERM."""
    has_sent_bad_message: bool = False
    """True if it has sent a bad message, which was logged."""
    knew_at_fork: int = dataclasses.field(init=False)
    """`knows` at its fork."""

    def __post_init__(self) -> None:
        """Remember `knows` at the fork."""
        self.knew_at_fork = self.knows


class Children:
    """The handles to all children. No method blocks."""

    def __init__(self, places: int) -> None:
        """Raises `OSError` (ENOMEM)."""
        self.board = Scoreboard(places)
        self._free = list(range(places))  # free places; a heap
        self._handles: dict[int, ChildHandle] = {}  # pid -> handle of a child that is not yet reaped
        self._pids: dict[int, int] = {}  # descriptor of a channel -> pid
        self._pending_forks: dict[int, ChildHandle] = {}  # slot -> handle of the worker that a zygote was asked to fork
        self._pending_slots: dict[int, int] = {}  # descriptor of a channel -> slot of such a worker
        self._stalled: dict[int, float] = {}  # slot -> when a stall of its worker last began or ended, seconds

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

    def workers_of(self, generation: int) -> frozenset[int]:
        """Return the pids of a generation's workers."""
        return frozenset(pid for pid, handle in self if handle.slot != ZYGOTE and handle.generation == generation)

    def pending_slots(self) -> tuple[int, ...]:
        """Return the slots of pending forks."""
        return tuple(self._pending_forks)

    def all_handles(self) -> list[ChildHandle]:
        """Return the handles of all children and pending forks."""
        return [*self._handles.values(), *self._pending_forks.values()]

    # --- coming and going

    def take_place(self) -> Record:
        """Return an empty record for a new child. Raises `LookupError` if none is free."""
        if not self._free:
            raise LookupError("no place is left on the scoreboard")
        record = self.board.record(heapq.heappop(self._free))
        record.clear()
        return record

    def give_back(self, record: Record) -> None:
        """Free the record of a process that is gone."""
        heapq.heappush(self._free, record.place)

    def add(self, pid: int, handle: ChildHandle) -> None:
        """Add a child."""
        self._handles[pid] = handle
        self._pids[handle.channel.fileno()] = pid

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

    def remove(self, pid: int) -> ChildHandle:
        """Remove a reaped child; its channel stays open, as its last messages may be in it."""
        return self._handles.pop(pid)

    def forget(self, handle: ChildHandle) -> None:
        """Free the record and the dump file of a removed child."""
        handle.dump_file.close()
        self.give_back(handle.record)

    def _close(self, handle: ChildHandle) -> None:
        handle.channel.close()
        self.forget(handle)

    # --- talking

    def tell(self, pid: int, message: Message) -> None:
        """Send a message to a child, unless it is gone."""
        with contextlib.suppress(ChannelClosed):  # reap reports its death
            self._handles[pid].channel.send_nowait(message)

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
        handle.takes_orders = False

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
