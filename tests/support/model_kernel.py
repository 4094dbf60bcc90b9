"""A kernel in the mind, for random tests of the machine: it performs the actions and knows which of them are wrong.

Processes are rows, time is a number. What is asserted here is about single actions; what holds between the steps is
asserted by the test that drives it.
"""

from __future__ import annotations

import dataclasses

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.attendance import MOST_IN_A_SLOT
from hybrid.supervisor.core.policy import KILL_PATIENCE
from hybrid.supervisor.core.roles import ZYGOTE, Role, role_of


@dataclasses.dataclass
class Process:
    """A living child."""

    pid: int
    slot: int
    generation: int
    is_up: bool = False
    """A worker that serves, a companion that runs, or a zygote that is warm, as far as it has said."""
    has_failed: bool = False
    """It said that it cannot start."""
    is_leaving: bool = False
    says_ready: bool = False
    """It says that it serves although it was told to leave, and was not told again."""
    """It was asked to end, or said that it does."""
    is_unconfirmed: bool = False
    """It only said so: a signal is to follow."""
    stalled_since: float | None = None
    is_dumped: bool = False
    """It was looked into during this stall."""
    is_aborted: bool = False
    killed_at: float | None = None
    adopted: tuple[int, ...] = ()
    heir_of: int | None = None
    """The generation of which it becomes the zygote, once it has drained."""

    def becomes_zygote(self) -> None:
        """Follow its orders."""
        assert self.heir_of is not None
        self.slot, self.generation, self.heir_of = ZYGOTE, self.heir_of, None
        self.is_up, self.is_leaving, self.stalled_since, self.adopted = True, False, None, ()

    @property
    def is_zygote(self) -> bool:
        return self.slot == ZYGOTE

    @property
    def is_companion(self) -> bool:
        return role_of(self.slot) is Role.COMPANION

    @property
    def serves(self) -> bool:
        """True if it is a worker that accepts connections, or a companion that runs, and is not leaving."""
        return self.is_up and not self.is_leaving and not self.is_zygote

    @property
    def boots(self) -> bool:
        """True if it is a worker or a companion that boots, or failed to boot and still exists."""
        return not self.is_up and not self.is_leaving and not self.is_zygote


@dataclasses.dataclass(frozen=True)
class PendingFork:
    """A fork that was asked for and is not answered."""

    generation: int
    zygote: int | None = None


class ModelKernel:
    """See above."""

    def __init__(self, wanted: int, *, overlaps: bool = True, companions: tuple[int, ...] = ()) -> None:
        """`overlaps`: two processes may be in one slot, while one replaces the other. `companions`: their slots."""
        self.companions = companions
        self.has_served = False
        """A worker has served at some time."""
        self.is_in_haste = False
        """All were told to end at once."""
        self.overlaps = overlaps
        self.now = 0.0
        self.wanted = wanted
        self.existing = wanted
        """Slots that were ever wanted."""
        self.is_stopping = False
        self.forks: dict[int, PendingFork] = {}  # slot -> the fork under way there
        self.processes: dict[int, Process] = {}  # pid -> living child
        self.pids = 0
        self.steered = ev.Steer(tuple(range(wanted)), tuple(range(wanted)))
        self.has_successor_starting = False
        self.has_held = False
        self.is_asked_for_queues = False
        self.queues_are_empty = False  # as last said
        self.has_killed_worker_while_stopping = False
        self.reloads = 0  # begun
        self.failed_reloads = 0
        self.code: int | None = None  # of `Finish`

    # --- questions

    def workers(self) -> list[Process]:
        return [one for one in self.processes.values() if not one.is_zygote and not one.is_companion]

    def attendants(self) -> list[Process]:
        return [one for one in self.processes.values() if one.is_companion]

    def attending(self, slot: int, generation: int) -> list[Process]:
        """Return the companions of a generation that run in a slot."""
        return [one for one in self.attendants() if (one.slot, one.generation) == (slot, generation) and one.serves]

    def serving(self, slot: int) -> list[Process]:
        return [one for one in self.workers() if one.slot == slot and one.serves]

    def booting(self, slot: int) -> int:
        """Return how many are on their way into a slot, forks included."""
        return sum(one.slot == slot and one.boots for one in self.workers()) + (slot in self.forks)

    def ready_slots(self) -> tuple[int, ...]:
        return tuple(sorted({one.slot for one in self.workers() if one.serves}))

    def healthy(self, *, avoids_stalled: bool) -> list[Process]:
        return [one for one in self.workers() if one.serves and not (avoids_stalled and one.stalled_since is not None)]

    # --- what happens without being asked

    def answer(self, slot: int, *, succeeds: bool) -> ev.Event:
        """Bring the fork in a slot to its end."""
        fork = self.forks.pop(slot)
        if not succeeds:
            return ev.ForkFailed(slot, "no room")
        self.pids += 1
        self.processes[self.pids] = Process(self.pids, slot, fork.generation)
        return ev.Spawned(slot, self.pids)

    # --- actions

    def perform(self, action: ev.Action) -> None:
        """Perform an action of the machine; `AssertionError` if it is absurd."""
        assert self.code is None, "an action after the end"
        match action:
            case ev.Fork(slot, generation, zygote):
                self._fork(slot, PendingFork(generation, zygote))
            case ev.ForkZygote(generation):
                self._fork(ZYGOTE, PendingFork(generation))
            case ev.CallOff(slot):
                del self.forks[slot]
            case ev.Drain(pid):
                self._drain(self.processes[pid])
            case ev.Promote(pid, generation):
                self._promote(self.processes[pid], generation)
            case ev.Dump(pid, since):
                self._dump(self.processes[pid], since)
            case ev.Abort(pid):
                self._abort(self.processes[pid])
            case ev.Kill(pid):
                self._kill(self.processes[pid])
            case ev.Steer():
                self._steer(action)
            case ev.Adopt(pid, slots):
                self._adopt(self.processes[pid], slots)
            case ev.Report(_, text):
                self.reloads += text.startswith("reloading:")
                self.failed_reloads += text.startswith("reload failed")
            case _:
                self._do_to_all(action)

    def _do_to_all(self, action: ev.Action) -> None:
        match action:
            case ev.StartSuccessor():
                assert not self.has_successor_starting, "two successors"
                self.has_successor_starting = True
            case ev.EndSuccessor():
                assert self.has_successor_starting, "there is none to end"
                self.has_successor_starting = False
            case ev.HoldConnections():
                self.has_held = True
            case ev.MendListeners():
                assert not self.is_stopping, "what is to end was mended"
            case ev.TellStop(pids):
                assert self.is_stopping
                for pid in pids:
                    assert self.processes[pid].is_up or self.processes[pid].is_leaving, "told before it serves"
            case ev.CheckQueues():
                assert self.has_held, "others are let in meanwhile"
                self.is_asked_for_queues = True
            case ev.RefuseConnections():
                assert self.queues_are_empty, "connections that wait were reset"
            case ev.Finish(code):
                self.code = code
            case _:
                raise AssertionError(f"an action unknown here: {action}")

    def _fork(self, slot: int, fork: PendingFork) -> None:
        assert slot not in self.forks, "two forks under way for one slot"
        assert not self.is_stopping, "a fork while stopping"
        if role_of(slot) is Role.COMPANION:
            self._check_companion(slot)
        else:
            assert slot == ZYGOTE or slot < self.wanted, "a fork into a slot that is not wanted"
        alone = self.overlaps or not any(one.slot == slot for one in self.processes.values())
        assert alone, "a program was started beside another one in its slot"
        if fork.zygote is not None:
            zygote = self.processes[fork.zygote]
            assert zygote.is_zygote
            assert zygote.is_up, "a zygote that is not warm was asked to fork"
            assert not zygote.is_leaving, "a zygote that leaves was asked to fork"
            assert zygote.generation == fork.generation
        self.forks[slot] = fork

    def _check_companion(self, slot: int) -> None:
        assert slot in self.companions, "a companion that is not wanted"
        assert self.has_served, "a companion before any worker has served"
        here = [one for one in self.attendants() if one.slot == slot]
        assert len(here) < MOST_IN_A_SLOT, "companions pile up in a slot"

    def _promote(self, process: Process, generation: int) -> None:
        assert not self.is_stopping, "promoted while stopping"
        assert process.serves, "promoted, but does not serve"
        assert not process.is_companion, "a companion became a zygote"
        assert all(generation > one.generation for one in self.processes.values()), "a number that is taken"
        assert all(one.heir_of is None for one in self.processes.values()), "two heirs"
        self._drain(process)
        process.heir_of = generation

    def _drain(self, process: Process) -> None:
        if process.heir_of is not None:
            process.heir_of = None  # it is to end after all
            return
        if process.is_unconfirmed:
            process.is_unconfirmed = False
            return
        if process.is_leaving and process.says_ready:
            process.says_ready = False  # it had not heard, so it is told once more
            return
        assert not process.is_leaving, "told to leave twice"
        process.is_leaving = True
        if process.is_companion:
            self._check_parting(process)
            return
        if process.is_zygote or not process.is_up or self.is_stopping or not self.overlaps:
            return
        if process.slot < self.wanted:
            assert self.serving(process.slot), "a worker that serves was retired without a successor that does"
        elif not self.serving(process.slot):
            assert process.slot not in self.steered.slots, "drained before connections went elsewhere"

    def _check_parting(self, process: Process) -> None:
        """Check that a companion that ends is needed by no worker, or has a successor."""
        others = [one for one in self.attendants() if one.slot == process.slot and one.serves]
        alive = [one for one in self.workers() if one.killed_at is None or self.now < one.killed_at + KILL_PATIENCE]
        needed = any(one.generation == process.generation for one in alive) and not self.is_in_haste
        assert not needed or others, "a companion was retired before the workers of its generation"

    def _dump(self, process: Process, since: float) -> None:
        assert process.stalled_since == since
        assert process.serves
        assert not process.is_dumped, "one stall was looked into twice"
        process.is_dumped = True

    def _abort(self, process: Process) -> None:
        assert not process.is_aborted, "aborted twice"
        assert process.killed_at is None, "aborted after it was killed"
        process.is_aborted = process.is_leaving = True
        process.heir_of = None

    def _kill(self, process: Process) -> None:
        patient = process.killed_at is None or self.now >= process.killed_at + KILL_PATIENCE
        assert patient, "killed again without patience"
        process.killed_at = self.now
        process.is_leaving = True
        process.heir_of = None
        if self.is_stopping and not process.is_zygote:
            self.has_killed_worker_while_stopping = True

    def _steer(self, steer: ev.Steer) -> None:
        assert steer.slots, "connections sent nowhere"
        assert steer != self.steered, "steered to where they go already"
        assert set(steer.slots) <= set(steer.datagrams) <= set(range(self.wanted))
        self.steered = steer

    def _adopt(self, process: Process, slots: tuple[int, ...]) -> None:
        assert not process.is_companion, "a companion was given a queue"
        assert process.serves, "a worker that does not serve was given the queues of others"
        assert process.slot not in slots, "its own queue is no other's"
        assert set(slots) <= set(range(self.existing))
        assert slots != process.adopted, "told what it knows"
        process.adopted = slots
