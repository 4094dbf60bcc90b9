"""Forking of children: resources taken and freed, orders to a zygote, descriptors of a child."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fake_kernel import FakeKernel
from support.fake_zygote import FakeZygote
from support.limits import open_descriptors, scarce_descriptors
from support.shell import NoProgram, settings

from hybrid.supervisor.children.forking import Forking
from hybrid.supervisor.children.handles import Children
from hybrid.supervisor.children.kernel import LinuxKernel
from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.events import How
from hybrid.supervisor.core.roles import ZYGOTE, Roster
from hybrid.supervisor.listeners.sockets import Listeners, open_listeners
from hybrid.workers.contract.messages import Ping, Spawn
from hybrid.workers.contract.worker_spec import WorkerSpec

KILLED = How(signal="SIGKILL")
_FDS = Path("/proc/self/fd")


class Ward:
    """The forking of a supervisor with two slots, over a fake kernel."""

    def __init__(self, kernel: FakeKernel, listeners: Listeners, children: Children) -> None:
        self.kernel = kernel
        self.listeners = listeners
        self.children = children
        self.roster = Roster()
        self.forking = Forking(settings(), NoProgram(), kernel, listeners, children, roster=self.roster)

    def zygote(self) -> FakeZygote:
        """Fork a zygote."""
        answer = self.forking.fork_zygote(1)
        assert isinstance(answer, ev.Spawned)
        assert answer.slot == ZYGOTE
        return FakeZygote(self.kernel, answer.pid)

    def places_left(self) -> int:
        """How many children there is a place for."""
        taken = []
        try:
            while True:
                taken.append(self.children.take_place())
        except LookupError:
            for record in taken:
                self.children.give_back(record)
        return len(taken)


@pytest.fixture
def ward() -> Iterator[Ward]:
    """Four children at most."""
    kernel = FakeKernel()
    with open_listeners(settings()) as listeners:
        made = Ward(kernel, listeners, Children(4))
        yield made
        for handle in made.children.all_handles():
            handle.channel.close()
            handle.dump_file.close()
        made.forking.close_queues()
    kernel.close()


# --- queues of offloaded calls


def is_served(ward: Ward, generation: int) -> bool:
    """Return True if the queue of a generation is open."""
    return any(place[0] == generation for place in ward.forking._queues._open)


def test_a_queue_is_closed_when_an_old_generation_has_lost_its_last_offload_worker(ward: Ward) -> None:
    """Also if it was never ready. Its workers may drain for a while yet."""
    (slot,) = ward.roster.slots_of_pool("cpu", 1)
    ward.forking.fork(0, 1, None)
    spawned = ward.forking.fork(slot, 1, None)
    assert isinstance(spawned, ev.Spawned)
    ward.forking.close_unserved_queues(2)
    assert is_served(ward, 1)
    dead = ward.children.remove(spawned.pid)
    dead.channel.close()
    ward.children.forget(dead)
    ward.forking.close_unserved_queues(1)
    assert is_served(ward, 1), "it is the one that serves, and gets another offload worker"
    ward.forking.close_unserved_queues(2)
    assert not is_served(ward, 1)


def test_a_queue_is_closed_when_the_last_offload_worker_of_an_old_generation_is_called_off(ward: Ward) -> None:
    (slot,) = ward.roster.slots_of_pool("cpu", 1)
    zygote = ward.zygote()
    assert ward.forking.fork(slot, 1, zygote.pid) is None
    ward.forking.close_unserved_queues(2)
    assert is_served(ward, 1), "its fork is on its way"
    ward.forking.call_off(slot)
    ward.forking.close_unserved_queues(2)
    assert not is_served(ward, 1)


# --- one fork


def test_a_fork_of_our_own_is_answered_at_once(ward: Ward) -> None:
    assert ward.forking.fork(1, 3, None) == ev.Spawned(1, 4711)
    handle = ward.children[4711]
    assert (handle.slot, handle.generation, handle.knows) == (1, 3, 2)
    assert ward.kernel.adopts_orphans is False


def test_a_zygote_gets_the_slot_the_generation_and_the_place(ward: Ward) -> None:
    zygote = ward.zygote()
    assert ward.forking.fork(1, 3, zygote.pid) is None
    zygote.takes_orders()
    handle = ward.children.pending_fork(1)
    assert handle is not None
    assert zygote.orders[0].spawn == Spawn(1, 3, handle.record.place)
    assert os.fstat(zygote.orders[0].dump_fd).st_ino == os.fstat(handle.dump_file.fileno()).st_ino
    zygote.drops_orders()


def test_orphans_are_adopted_from_the_order_on(ward: Ward) -> None:
    ward.forking.fork(0, 1, ward.zygote().pid)
    assert ward.kernel.adopts_orphans
    ward.forking.call_off(0)
    assert ward.kernel.adopts_orphans


def test_a_fork_that_is_called_off_twice_is_called_off(ward: Ward) -> None:
    zygote = ward.zygote()
    ward.forking.fork(0, 1, zygote.pid)
    for _ in range(2):
        ward.forking.call_off(0)
    assert ward.places_left() == 3


def test_a_zygote_that_is_gone_is_not_waited_for(ward: Ward) -> None:
    """Its death is reaped, and the machine does not know it yet."""
    assert ward.forking.fork(0, 1, 4242) == ev.Spawned(0, 4711)


def test_a_zygote_that_has_hung_up_is_a_failure_and_leaves_nothing(ward: Ward) -> None:
    zygote = ward.zygote()
    ward.kernel.hangs_up(zygote.pid)
    before = open_descriptors()
    assert ward.forking.fork(0, 1, zygote.pid) == ev.ForkFailed(0, "the zygote does not read its channel")
    assert (open_descriptors(), ward.places_left()) == (before, 3)


def test_a_zygote_that_takes_no_orders_is_a_failure_and_leaves_nothing(ward: Ward) -> None:
    zygote = ward.zygote()
    while ward.children[zygote.pid].channel.send_nowait(Ping()):
        pass
    before = open_descriptors()
    assert ward.forking.fork(0, 1, zygote.pid) == ev.ForkFailed(0, "the zygote does not read its channel")
    assert (open_descriptors(), ward.places_left()) == (before, 3)


@pytest.mark.parametrize("slot", [0, ZYGOTE])
def test_a_fork_that_fails_leaves_nothing(ward: Ward, slot: int) -> None:
    ward.kernel.fail_next_fork(errno.EAGAIN)
    before = open_descriptors()
    answer = ward.forking.fork_zygote(1) if slot == ZYGOTE else ward.forking.fork(slot, 1, None)
    assert answer == ev.ForkFailed(slot, "Resource temporarily unavailable")
    assert (open_descriptors(), ward.places_left()) == (before, 4)


@pytest.mark.parametrize("spare", [0, 1, 2])
def test_without_descriptors_for_an_order_nothing_is_left(ward: Ward, spare: int) -> None:
    """The dump file takes one, the channel two."""
    zygote = ward.zygote()
    before = open_descriptors()
    with scarce_descriptors(spare):
        answer = ward.forking.fork(0, 1, zygote.pid)
    assert answer == ev.ForkFailed(0, "Too many open files")
    assert (open_descriptors(), ward.places_left()) == (before, 3)


def test_without_descriptors_there_is_no_child_of_our_own_either(ward: Ward) -> None:
    with scarce_descriptors(0):
        answers = [ward.forking.fork(0, 1, None), ward.forking.fork_zygote(1)]
    assert answers == [ev.ForkFailed(slot, "Too many open files") for slot in (0, ZYGOTE)]
    assert ward.places_left() == 4


def test_without_a_place_there_is_no_child(ward: Ward) -> None:
    for slot in range(4):
        ward.forking.fork(slot % 2, 1, None)
    before = open_descriptors()
    assert ward.forking.fork(0, 1, None) == ev.ForkFailed(0, "no place is left on the scoreboard")
    assert open_descriptors() == before


def test_a_new_slot_gets_sockets_that_older_children_learn(ward: Ward) -> None:
    zygote = ward.zygote()
    assert ward.forking.fork(2, 1, zygote.pid) is None
    zygote.takes_orders()
    assert zygote.learnt == {2: list(ward.listeners.addresses)}
    handle = ward.children.pending_fork(2)
    assert handle is not None
    assert handle.knows == 3
    zygote.drops_orders()


# --- descriptors


class _Look:
    """A program that tells which descriptors it has, and ends."""

    def __init__(self, out: int) -> None:
        self._out = out

    def body(self, spec: WorkerSpec) -> int:
        links = {}
        for entry in _FDS.iterdir():
            try:
                links[int(entry.name)] = str(entry.readlink())
            except OSError:  # that of this listing
                continue
        own = {"channel": links[spec.channel.fileno()], "dump": links[spec.dump_fd]}
        os.write(self._out, json.dumps({"all": sorted(links.values()), **own}).encode())
        return 0

    def warm(self, *, audit: bool, dump_fd: int) -> None:
        raise AssertionError


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_worker_has_only_its_own_channel_and_dump_file() -> None:
    kernel, news = LinuxKernel(), os.pipe()
    children = Children(4)
    with open_listeners(settings()) as listeners:
        forking = Forking(settings(), _Look(news[1]), kernel, listeners, children)
        seen = []
        for slot in (0, 1):
            answer = forking.fork(slot, 1, None)
            assert isinstance(answer, ev.Spawned)
            seen.append(json.loads(os.read(news[0], 65536)))
        ours = [str((_FDS / str(handle.channel.fileno())).readlink()) for _, handle in children]
        memories = [name for name in seen[1]["all"] if "hybrid-dump" in name]
        assert memories == [seen[1]["dump"]]
        assert seen[1]["channel"] in seen[1]["all"]
        assert not set(ours) & set(seen[1]["all"])
        while children.pids:
            kernel.wait(10)
            for pid, how in kernel.reap(children.pids):
                assert how == How(code=0)
                handle = children.remove(pid)
                children.close_channel(handle)
                children.forget(handle)
    kernel.close()
    for fd in news:
        os.close(fd)
