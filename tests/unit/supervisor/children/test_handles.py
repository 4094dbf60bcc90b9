"""Handles to children: channels, places that come back, messages to children that listen, do not, or are gone."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.leaks import Census

from hybrid.supervisor.children.command import Output
from hybrid.supervisor.children.handles import STICKS, STICKS_AFTER_STALL, ChildHandle, Children
from hybrid.supervisor.core.roles import MAX_WORKERS, ZYGOTE, Roster, companion_slot
from hybrid.supervisor.watch.dump_file import DumpFile
from hybrid.workers.contract.channel import Channel
from hybrid.workers.contract.messages import Adopt, Learn, Message, Ping, Promote
from hybrid.workers.contract.scoreboard import RECORD, REQUESTS
from hybrid.workers.contract.worker_spec import Listener, ListenerKind

PLACES = 3


class Company:
    """Children with `places`, the other ends of its channels, and listeners of `slots` slots."""

    def __init__(self, places: int = PLACES) -> None:
        self.roster = Roster()
        self.children = Children(places, roster=self.roster)
        self.theirs: dict[int, Channel] = {}  # pid, or slot of one that is expected -> its end
        self.listeners: list[Listener] = []

    def handle(self, key: int, slot: int, knows: int = 9) -> ChildHandle:
        record = self.children.take_place()
        ours, self.theirs[key] = Channel.pair()
        return ChildHandle(slot, 1, ours, record, DumpFile(), knows)

    def employ(self, pid: int, slot: int = 0, knows: int = 9) -> ChildHandle:
        """Enter a child."""
        handle = self.handle(pid, slot, knows)
        self.children.add(pid, handle)
        return handle

    def expect(self, slot: int) -> ChildHandle:
        """Enter a worker that a zygote was asked for."""
        handle = self.handle(slot, slot)
        self.children.add_pending(handle)
        return handle

    def dies(self, pid: int) -> None:
        """Let a child die, and take it out as the shell does."""
        self.theirs.pop(pid).close()
        handle = self.children.remove(pid)
        self.children.close_channel(handle)
        self.children.forget(handle)

    def heard(self, pid: int) -> list[Message]:
        """The messages to a child."""
        found = []
        while (taken := self.theirs[pid].take_over_nowait()) is not None:
            message, descriptors = taken
            found.append(message)
            for fd in descriptors:
                socket.close(fd)
        return found

    def fill(self, pid: int) -> None:
        """Leave no room in the channel of a child."""
        handle = self.children[pid]
        while handle.channel.send_nowait(Ping()):
            pass

    def open(self, slots: int, per_slot: int = 1) -> list[Listener]:
        """Have listeners of so many slots."""
        for slot in range(len(self.listeners) // per_slot, slots):
            for number in range(per_slot):
                sock = socket.socket()
                self.listeners.append(Listener(f"tcp {number}", ListenerKind.STREAM, sock, slot))
        return self.listeners

    def close(self) -> None:
        for _, handle in self.children:
            handle.channel.close()
            handle.dump_file.close()
        for slot in self.children.pending_slots():
            self.children.cancel(slot)
        for channel in self.theirs.values():
            channel.close()
        for listener in self.listeners:
            listener.sock.close()


@pytest.fixture
def company() -> Iterator[Company]:
    made = Company()
    yield made
    made.close()


# --- places


def test_a_place_comes_back_empty(company: Company) -> None:
    handle = company.employ(7)
    handle.record.numbers[REQUESTS] = 5
    place = handle.record.place
    company.dies(7)
    again = company.employ(8).record
    assert (again.place, list(again.numbers)) == (place, [0] * (RECORD // 8))


def test_without_a_place_there_is_no_child(company: Company) -> None:
    for pid in range(PLACES):
        company.employ(pid)
    with pytest.raises(LookupError, match="no place is left"):
        company.children.take_place()
    company.dies(1)
    assert company.employ(9).record.place == 1


def test_old_and_new_worker_of_a_slot_have_two_records(company: Company) -> None:
    assert company.employ(1, slot=0).record.place != company.employ(2, slot=0).record.place


_happening = st.sampled_from(["fork", "order", "confirm", "cancel", "die", "hang up"])


@given(st.lists(st.tuples(_happening, st.integers(0, 100)), max_size=40))
def test_no_place_or_descriptor_leaks_however_children_end(
    happenings: list[tuple[str, int]],
) -> None:
    census, company, pids = Census(), Company(), iter(range(1000, 9999))
    children = company.children
    for what, choice in happenings:
        living, expected = sorted(children.pids), sorted(children.pending_slots())
        is_full = len(living) + len(expected) == PLACES
        match what:
            case "fork" if not is_full:
                company.employ(next(pids))
            case "order" if not is_full:
                company.expect(max(expected, default=0) + 1)
            case "confirm" if expected:
                pid, slot = next(pids), expected[choice % len(expected)]
                company.theirs[pid] = company.theirs.pop(slot)
                assert children.confirm(slot, pid) is children[pid]
            case "cancel" if expected:
                slot = expected[choice % len(expected)]
                company.theirs.pop(slot).close()
                assert children.pending_slot_at(children.cancel(slot)) is None
            case "die" if living:
                company.dies(living[choice % len(living)])
            case "hang up" if living:
                children.close_channel(children[living[choice % len(living)]])
        handles = children.all_handles()
        assert len({handle.record.place for handle in handles}) == len(handles)
        assert all(
            children.pid_at(handle.channel.fileno()) == pid for pid, handle in children if handle.channel.fileno() != -1
        )
        assert children.has_pending_forks == bool(children.pending_slots())
    for pid in children.pids:
        company.dies(pid)
    for slot in children.pending_slots():
        children.cancel(slot)
    assert sorted(children.take_place().place for _ in range(PLACES)) == list(range(PLACES))
    company.close()
    assert census.newcomers() == []


# --- descriptors and their owners


def test_a_descriptor_belongs_to_a_child_a_pending_fork_or_neither(company: Company) -> None:
    children = company.children
    child, expected = company.employ(7), company.expect(4)
    assert (children.pid_at(child.channel.fileno()), children.pending_slot_at(child.channel.fileno())) == (7, None)
    assert (children.pid_at(expected.channel.fileno()), children.pending_slot_at(expected.channel.fileno())) == (
        None,
        4,
    )
    assert (children.pid_at(0), children.pending_slot_at(0)) == (None, None)
    assert (children.pending_fork(4), children.pending_fork(5)) == (expected, None)


def test_a_confirmed_fork_becomes_a_child(company: Company) -> None:
    handle = company.expect(4)
    assert company.children.has_pending_forks
    company.children.confirm(4, 77)
    assert (company.children.has_pending_forks, 77 in company.children, company.children[77]) == (False, True, handle)
    assert company.children.pid_at(handle.channel.fileno()) == 77


def test_a_channel_is_closed_once(company: Company) -> None:
    handle = company.employ(7)
    fd = handle.channel.fileno()
    assert [company.children.close_channel(handle), company.children.close_channel(handle)] == [fd, None]
    assert company.children.pid_at(fd) is None


# --- words


def test_nothing_is_sent_to_a_dead_child(company: Company) -> None:
    company.open(2)
    company.employ(7, knows=1)
    company.theirs[7].close()
    company.children.ping(7)
    company.children.adopt(7, (1,), company.listeners)
    company.children.teach_all(company.listeners)
    company.children.flush()


def test_nothing_is_sent_to_a_child_whose_channel_is_closed(company: Company) -> None:
    company.open(2)
    company.children.close_channel(company.employ(7, knows=1))
    company.children.ping(7)
    company.children.adopt(7, (1,), company.listeners)
    company.children.flush()


def test_messages_without_room_are_sent_later_in_order(company: Company) -> None:
    company.employ(7)
    company.fill(7)
    company.children.tell(7, Adopt((1,)))
    company.children.tell(7, Adopt((2,)))
    heard = company.heard(7)
    assert Adopt((1,)) not in heard
    company.children.flush()
    assert company.heard(7)[-2:] == [Adopt((1,)), Adopt((2,))]


def test_a_child_that_never_reads_makes_nothing_grow(company: Company) -> None:
    handle = company.employ(7)
    company.fill(7)
    for _ in range(1000):
        company.children.ping(7)
    assert handle.channel.pending == 64


# --- listeners made later


def test_a_child_learns_each_new_slot_once_with_its_listeners(company: Company) -> None:
    company.employ(7, knows=1)
    company.open(3, per_slot=2)
    company.children.teach_all(company.listeners)
    company.children.teach_all(company.listeners)
    addresses, kinds = ("tcp 0", "tcp 1"), ("stream", "stream")
    assert company.heard(7) == [Learn(1, addresses, kinds), Learn(2, addresses, kinds)]


def test_the_sockets_arrive_as_they_are(company: Company) -> None:
    company.open(1)
    company.listeners[0].sock.bind(("127.0.0.1", 0))
    company.employ(7, knows=0)
    company.children.teach_all(company.listeners)
    taken = company.theirs[7].take_over_nowait()
    assert taken is not None
    with socket.socket(fileno=taken[1][0]) as sock:
        assert sock.getsockname() == company.listeners[0].sock.getsockname()


def test_it_learns_before_it_adopts(company: Company) -> None:
    company.employ(7, knows=1)
    company.children.adopt(7, (1, 2), company.open(3))
    assert [type(item) for item in company.heard(7)] == [Learn, Learn, Adopt]


def test_a_child_with_a_full_channel_learns_its_adopted_slots_later(company: Company) -> None:
    company.employ(7, knows=1)
    company.open(3)
    company.fill(7)
    company.children.adopt(7, (0, 1, 2), company.listeners)
    company.heard(7)
    company.children.flush()
    assert company.heard(7)[-1] == Adopt((0, 1, 2))
    assert company.children.is_behind(3)
    company.children.teach_all(company.listeners)
    assert [type(item) for item in company.heard(7)] == [Learn, Learn]
    assert not company.children.is_behind(3)


def test_a_promoted_worker_is_sent_its_learned_listeners_again(company: Company) -> None:
    handle = company.employ(7, slot=0, knows=1)
    company.open(3)
    company.children.teach_all(company.listeners)
    company.children.promote(7, ZYGOTE, 5)
    assert (handle.slot, handle.generation) == (ZYGOTE, 5)
    company.children.teach_all(company.listeners)
    assert [type(item) for item in company.heard(7)] == [Learn, Learn, Promote, Learn, Learn]


def test_all_slots_that_can_be_fit_one_adoption(company: Company) -> None:
    company.employ(7, knows=1024)
    company.children.adopt(7, range(1024), [])
    assert company.heard(7) == [Adopt(tuple(range(1024)))]


def test_shared_sockets_are_not_sent(company: Company) -> None:
    company.employ(7, knows=0)
    with socket.socket() as sock:
        company.children.teach_all([Listener("unix:x", ListenerKind.STREAM, sock, None)])
    assert company.heard(7) == []


def test_a_full_channel_delays_only_its_own_child(company: Company) -> None:
    for pid in (7, 8):
        company.employ(pid, knows=1)
    company.fill(7)
    company.children.teach_all(company.open(2))
    assert (company.children[7].knows, company.children[8].knows) == (1, 2)
    assert [type(item) for item in company.heard(8)] == [Learn]


def test_siblings_serve_the_queue_of_a_stalled_worker_for_longer(company: Company) -> None:
    """Stalls come in flocks; a worker that has just started, or recovered, has its own queue soon."""
    company.employ(7, slot=0)
    company.employ(8, slot=1)
    company.children.adopt(7, (1,), company.listeners, 5.0)
    company.children.adopt(7, (), company.listeners, 6.0)
    assert company.children.due == 6.0 + STICKS
    company.children.settle(6.0 + STICKS)
    company.children.adopt(7, (1,), company.listeners, 7.0)
    company.children.has_stalled(8, 7.0)
    company.children.adopt(7, (), company.listeners, 7.1)
    assert company.children.due == 7.1 + STICKS_AFTER_STALL


def test_a_slot_keeps_what_its_dead_workers_had_counted(company: Company) -> None:
    for pid, requests in ((42, 5), (43, 7)):
        company.employ(pid, slot=1).record.numbers[REQUESTS] = requests
        company.dies(pid)
    company.employ(44, slot=1).record.numbers[REQUESTS] = 1
    assert {slot: totals.requests for slot, totals in company.children.left_over().items()} == {1: 12}
    assert {slot: totals.requests for slot, totals in company.children.totals().items()} == {1: 13}


def test_a_worker_that_becomes_the_zygote_has_counted_for_its_slot(company: Company) -> None:
    company.employ(42, slot=1).record.numbers[REQUESTS] = 5
    company.children.promote(42, ZYGOTE, 2)
    assert company.children.left_over()[1].requests == 5
    company.dies(42)
    assert company.children.left_over()[1].requests == 5


def test_a_companion_gets_no_listeners_and_counts_for_no_slot(company: Company) -> None:
    (slot,) = company.roster.slots_of([("mailer", 1)])
    assert slot == companion_slot(0)
    handle = company.employ(1, slot=slot, knows=MAX_WORKERS)
    handle.record.numbers[REQUESTS] = 5
    company.children.teach_all(company.open(2))
    assert not company.children.is_behind(2)
    assert company.heard(1) == []
    company.dies(1)
    assert company.children.totals() == {}


def test_the_log_names_a_companion_as_a_slot_of_a_service_of_its_own(company: Company) -> None:
    _, second = company.roster.slots_of([("mailer", 2)])
    labels = company.children.labels(1, company.employ(1, slot=second))
    assert labels == {"service": "web.mailer", "slot": 1, "generation": 1, "subject_pid": 1}


def test_a_companion_has_a_loop_once_it_says_that_it_takes_orders(company: Company) -> None:
    (slot,) = company.roster.slots_of([("mailer", 1)])
    handle = company.employ(1, slot=slot)
    assert not handle.has_loop
    handle.takes_orders = True
    assert handle.has_loop
    assert company.employ(2, slot=0).has_loop


def test_the_owner_of_an_output_is_known_until_it_is_closed_or_the_child_is_gone(company: Company) -> None:
    first, second = company.handle(1, 0), company.handle(2, 1)
    first.output, second.output = Output(), Output()
    for pid, handle in ((1, first), (2, second)):
        company.children.add(pid, handle)
    fds = [first.output.fileno(), second.output.fileno()]
    assert [company.children.output_at(fd) for fd in fds] == [1, 2]
    assert company.children.close_output(first) == fds[0]
    assert company.children.close_output(first) is None
    company.children.remove(2)
    assert [company.children.output_at(fd) for fd in fds] == [None, None]
    company.children.add(2, second)
    for pid, handle in ((1, first), (2, second)):
        assert handle.output is not None
        handle.output.close_theirs()
        company.dies(pid)
