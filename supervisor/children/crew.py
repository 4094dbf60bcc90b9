"""The children as the shell knows them: the line to each, its place on the scoreboard, the file of its evidence.

Also those that a zygote is about to fork: their line exists, and their first word is their pid.
"""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
from collections.abc import Iterator, Sequence

from hybrid.supervisor.core.table import ZYGOTE
from hybrid.supervisor.watch.evidence import Evidence
from hybrid.workers.contract.channel import Channel, ChannelClosed
from hybrid.workers.contract.messages import Adopt, Drain, Learn, Message, Ping, Promote
from hybrid.workers.contract.scoreboard import Record, Scoreboard
from hybrid.workers.contract.seat import Listener

STICKS = 0.1
"""Seconds for which a queue is served on by siblings after its own worker does so: it boots, or is back."""
STICKS_AFTER_STALL = 1.0
"""The same after a stall.

Stalls come in flocks, and the next one then costs no threshold. Where a client with requests of 100 ms connects
anew each time, the p99 of short requests beside it is 4 ms, and was 17 ms with a tenth of this (`benchmarks fairness`).
"""

_FORGOTTEN = 10.0  # seconds after a stall: the slot is nothing special then


@dataclasses.dataclass(slots=True)
class Line:
    """What is kept of a living child, or of one that is being forked."""

    slot: int
    generation: int
    channel: Channel
    record: Record
    evidence: Evidence
    knows: int
    """It has the listeners of the slots below this."""
    adopts: frozenset[int] = frozenset()
    """The foreign slots that it was last told to serve."""
    wants: frozenset[int] = frozenset()
    """Those that it should serve; a part of the former for a moment."""
    shrinks_at: float | None = None
    """When it is told so, seconds."""
    takes_orders: bool = False
    """It drains when it reads `Drain`, by its own word; otherwise SIGTERM tells it."""
    has_babbled: bool = False
    """It has sent something that is no message, and that was logged."""
    born_with: int = dataclasses.field(init=False)
    """It has had the listeners of the slots below this since its fork."""

    def __post_init__(self) -> None:
        """It begins with what it knows."""
        self.born_with = self.knows


class Crew:
    """All lines. No method blocks."""

    def __init__(self, places: int) -> None:
        """Raises `OSError` (ENOMEM)."""
        self.board = Scoreboard(places)
        self._free = list(range(places))  # free places; a heap
        self._lines: dict[int, Line] = {}  # pid -> line of a child that is not yet reaped
        self._pids: dict[int, int] = {}  # descriptor of a channel -> pid
        self._births: dict[int, Line] = {}  # slot -> line of the worker that a zygote was asked to fork
        self._slots: dict[int, int] = {}  # descriptor of a channel -> slot of such a worker
        self._stalled: dict[int, float] = {}  # slot -> when a stall of its worker began or ended last, seconds

    # --- questions

    @property
    def pids(self) -> tuple[int, ...]:
        """The pids of all children."""
        return tuple(self._lines)

    def __getitem__(self, pid: int) -> Line:
        return self._lines[pid]

    def get(self, pid: int | None) -> Line | None:
        """Return the line of a child; None: it is none."""
        return None if pid is None else self._lines.get(pid)

    def __contains__(self, pid: object) -> bool:
        return pid in self._lines

    def __iter__(self) -> Iterator[tuple[int, Line]]:
        return iter(tuple(self._lines.items()))

    def pid_at(self, fd: int) -> int | None:
        """Return whose channel a descriptor is; None: no child's."""
        return self._pids.get(fd)

    def slot_at(self, fd: int) -> int | None:
        """Return for which slot a worker is being forked whose channel a descriptor is; None: for none."""
        return self._slots.get(fd)

    def birth(self, slot: int) -> Line | None:
        """Return the line of the worker that is being forked into a slot."""
        return self._births.get(slot)

    @property
    def expects(self) -> bool:
        """Whether a zygote was asked for a worker that has not said its pid yet."""
        return bool(self._births)

    def workers_of(self, generation: int) -> frozenset[int]:
        """Return the pids of a generation's workers."""
        return frozenset(pid for pid, line in self if line.slot != ZYGOTE and line.generation == generation)

    def slots_expected(self) -> tuple[int, ...]:
        """Return the slots of such workers."""
        return tuple(self._births)

    def all_lines(self) -> list[Line]:
        """Return the lines of all children, and of those that are being forked."""
        return [*self._lines.values(), *self._births.values()]

    # --- coming and going

    def take_place(self) -> Record:
        """Return an empty record for a new child. Raises `LookupError` if there is none."""
        if not self._free:
            raise LookupError("no place is left on the scoreboard")
        record = self.board.record(heapq.heappop(self._free))
        record.clear()
        return record

    def give_back(self, record: Record) -> None:
        """Take a record back: its process is gone."""
        heapq.heappush(self._free, record.place)

    def add(self, pid: int, line: Line) -> None:
        """Enter a child."""
        self._lines[pid] = line
        self._pids[line.channel.fileno()] = pid

    def expect(self, line: Line) -> None:
        """Enter a worker that a zygote was asked to fork."""
        self._births[line.slot] = line
        self._slots[line.channel.fileno()] = line.slot

    def born(self, slot: int, pid: int) -> Line:
        """The worker of `slot` has said its pid: it is a child now."""
        line = self._births.pop(slot)
        del self._slots[line.channel.fileno()]
        self.add(pid, line)
        return line

    def miscarry(self, slot: int) -> int:
        """No worker comes of this: close its line; return its descriptor as it was, to be watched no longer."""
        line = self._births.pop(slot)
        fd = line.channel.fileno()
        del self._slots[fd]
        self._close(line)
        return fd

    def hang_up(self, line: Line) -> int | None:
        """Close the line of a child that is gone or has closed it; return its descriptor as it was, if it was open."""
        fd = line.channel.fileno()
        line.channel.close()
        return fd if self._pids.pop(fd, None) is not None else None

    def remove(self, pid: int) -> Line:
        """Take out a child that is reaped; its line is still to be closed, its last words may be in it."""
        return self._lines.pop(pid)

    def bury(self, line: Line) -> None:
        """Give back what is left of a child that was removed."""
        line.evidence.close()
        self.give_back(line.record)

    def _close(self, line: Line) -> None:
        line.channel.close()
        self.bury(line)

    # --- talking

    def tell(self, pid: int, message: Message) -> None:
        """Send to a child, if it is there to hear it."""
        with contextlib.suppress(ChannelClosed):  # its death is on the way
            self._lines[pid].channel.send_nowait(message)

    def drain(self, pid: int) -> bool:
        """Order a worker to drain. Return False if it takes no orders, or its line is full: then use SIGTERM."""
        line = self._lines[pid]
        if line.takes_orders:
            with contextlib.suppress(ChannelClosed):
                return line.channel.send_nowait(Drain())
        return False

    def ping(self, pid: int) -> None:
        """Have a worker show that its loop turns."""
        self.tell(pid, Ping())

    def adopt(self, pid: int, slots: Sequence[int], listeners: Sequence[Listener], now: float = 0.0) -> None:
        """Have a worker serve the queues of `slots` too; `listeners` are those it may not know yet.

        It begins with those when it has learned of them. What is no longer to be served is so for another moment, see
        `STICKS`: also, where requests block for some milliseconds each, workers would be told at each of them.
        """
        line = self._lines[pid]
        teach(line, listeners)
        line.wants = frozenset(slots)
        if not line.wants <= line.adopts:
            self._tell_adopted(pid, line, line.adopts | line.wants)
        if line.wants == line.adopts:
            line.shrinks_at = None
        elif line.shrinks_at is None:
            line.shrinks_at = now + self._sticks(line.adopts - line.wants, now)

    def has_stalled(self, pid: int, now: float) -> None:
        """A worker stalls, or does no more: its queue is left to siblings for longer than that."""
        line = self._lines.get(pid)
        if line is not None:
            self._stalled[line.slot] = now

    def _sticks(self, slots: frozenset[int], now: float) -> float:
        """Return for how many seconds queues are served on."""
        recent = now - _FORGOTTEN
        return STICKS_AFTER_STALL if any(self._stalled.get(slot, recent) > recent for slot in slots) else STICKS

    def settle(self, now: float) -> None:
        """Tell those that serve more than they should."""
        for pid, line in self._lines.items():
            if line.shrinks_at is not None and line.shrinks_at <= now:
                line.shrinks_at = None
                self._tell_adopted(pid, line, line.wants)

    @property
    def due(self) -> float | None:
        """When `settle` has something to do; None: nothing."""
        return min((line.shrinks_at for line in self._lines.values() if line.shrinks_at is not None), default=None)

    def _tell_adopted(self, pid: int, line: Line, slots: frozenset[int]) -> None:
        line.adopts = slots
        self.tell(pid, Adopt(tuple(sorted(slots))))

    def promote(self, pid: int, slot: int, generation: int) -> None:
        """Have a worker become the zygote of a generation, in the place `slot`.

        It forgets the listeners that it has learned, and is taught them anew.
        """
        line = self._lines[pid]
        self.tell(pid, Promote(generation))
        line.slot, line.generation, line.knows = slot, generation, line.born_with
        line.adopts = line.wants = frozenset()
        line.shrinks_at = None
        line.takes_orders = False

    def is_behind(self, slots: int) -> bool:
        """Whether some child does not know the listeners of all `slots` slots: `teach_all` once more."""
        return any(line.knows < slots for line in self._lines.values())

    def teach_all(self, listeners: Sequence[Listener]) -> None:
        """Tell all children of listeners that were made after their fork; those with a full line learn it later."""
        for line in self._lines.values():
            teach(line, listeners)

    def flush(self) -> None:
        """Send what had no room."""
        for line in self._lines.values():
            if line.channel.pending:
                with contextlib.suppress(ChannelClosed):
                    line.channel.flush()


def teach(line: Line, listeners: Sequence[Listener]) -> bool:
    """Hand over the listeners of the slots that a child does not know; False if there is no room for all of it now."""
    slots = max((item.slot + 1 for item in listeners if item.slot is not None), default=0)
    while line.knows < slots:
        ours = [item for item in listeners if item.slot == line.knows]
        message = Learn(line.knows, tuple(item.address for item in ours), tuple(item.kind.value for item in ours))
        try:
            if not line.channel.hand_over_nowait(message, [item.sock.fileno() for item in ours]):
                return False
        except ChannelClosed:
            return False
        line.knows += 1
    return True
