"""The crew: whose channel is whose, places that come back, words to children that listen, do not, or are gone."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.leaks import Census

from hybrid.supervisor.children.crew import STICKS, STICKS_AFTER_STALL, Crew, Line
from hybrid.supervisor.core.table import ZYGOTE
from hybrid.supervisor.watch.evidence import Evidence
from hybrid.workers.contract.channel import Channel
from hybrid.workers.contract.messages import Adopt, Learn, Message, Ping, Promote
from hybrid.workers.contract.scoreboard import REQUESTS
from hybrid.workers.contract.seat import Listener, ListenerKind

PLACES = 3


class Company:
    """A crew of `places`, the other ends of its channels, and listeners of `slots` slots."""

    def __init__(self, places: int = PLACES) -> None:
        self.crew = Crew(places)
        self.theirs: dict[int, Channel] = {}  # pid, or slot of one that is expected -> its end
        self.listeners: list[Listener] = []

    def line(self, key: int, slot: int, knows: int = 9) -> Line:
        record = self.crew.take_place()
        ours, self.theirs[key] = Channel.pair()
        return Line(slot, 1, ours, record, Evidence(), knows)

    def employ(self, pid: int, slot: int = 0, knows: int = 9) -> Line:
        """Enter a child."""
        line = self.line(pid, slot, knows)
        self.crew.add(pid, line)
        return line

    def expect(self, slot: int) -> Line:
        """Enter a worker that a zygote was asked for."""
        line = self.line(slot, slot)
        self.crew.expect(line)
        return line

    def dies(self, pid: int) -> None:
        """Let a child die, and take it out as the shell does."""
        self.theirs.pop(pid).close()
        line = self.crew.remove(pid)
        self.crew.hang_up(line)
        self.crew.bury(line)

    def heard(self, pid: int) -> list[Message]:
        """What a child has been told."""
        found = []
        while (taken := self.theirs[pid].take_over_nowait()) is not None:
            message, descriptors = taken
            found.append(message)
            for fd in descriptors:
                socket.close(fd)
        return found

    def fill(self, pid: int) -> None:
        """Leave no room in the channel of a child."""
        line = self.crew[pid]
        while line.channel.send_nowait(Ping()):
            pass

    def open(self, slots: int, per_slot: int = 1) -> list[Listener]:
        """Have listeners of so many slots."""
        for slot in range(len(self.listeners) // per_slot, slots):
            for number in range(per_slot):
                sock = socket.socket()
                self.listeners.append(Listener(f"tcp {number}", ListenerKind.STREAM, sock, slot))
        return self.listeners

    def close(self) -> None:
        for _, line in self.crew:
            line.channel.close()
            line.evidence.close()
        for slot in self.crew.slots_expected():
            self.crew.miscarry(slot)
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
    line = company.employ(7)
    line.record.numbers[REQUESTS] = 5
    place = line.record.place
    company.dies(7)
    again = company.employ(8).record
    assert (again.place, list(again.numbers)) == (place, [0] * 64)


def test_without_a_place_there_is_no_child(company: Company) -> None:
    for pid in range(PLACES):
        company.employ(pid)
    with pytest.raises(LookupError, match="no place is left"):
        company.crew.take_place()
    company.dies(1)
    assert company.employ(9).record.place == 1


def test_old_and_new_worker_of_a_slot_have_two_records(company: Company) -> None:
    assert company.employ(1, slot=0).record.place != company.employ(2, slot=0).record.place


_happening = st.sampled_from(["fork", "order", "born", "miscarry", "die", "hang up"])


@given(st.lists(st.tuples(_happening, st.integers(0, 100)), max_size=40))
def test_no_place_and_no_descriptor_is_lost_whatever_becomes_of_children(
    happenings: list[tuple[str, int]],
) -> None:
    census, company, pids = Census(), Company(), iter(range(1000, 9999))
    crew = company.crew
    for what, choice in happenings:
        living, expected = sorted(crew.pids), sorted(crew.slots_expected())
        is_full = len(living) + len(expected) == PLACES
        match what:
            case "fork" if not is_full:
                company.employ(next(pids))
            case "order" if not is_full:
                company.expect(max(expected, default=0) + 1)
            case "born" if expected:
                pid, slot = next(pids), expected[choice % len(expected)]
                company.theirs[pid] = company.theirs.pop(slot)
                assert crew.born(slot, pid) is crew[pid]
            case "miscarry" if expected:
                slot = expected[choice % len(expected)]
                company.theirs.pop(slot).close()
                assert crew.slot_at(crew.miscarry(slot)) is None
            case "die" if living:
                company.dies(living[choice % len(living)])
            case "hang up" if living:
                crew.hang_up(crew[living[choice % len(living)]])
        lines = crew.all_lines()
        assert len({line.record.place for line in lines}) == len(lines)
        assert all(crew.pid_at(line.channel.fileno()) == pid for pid, line in crew if line.channel.fileno() != -1)
        assert crew.expects == bool(crew.slots_expected())
    for pid in crew.pids:
        company.dies(pid)
    for slot in crew.slots_expected():
        crew.miscarry(slot)
    assert sorted(crew.take_place().place for _ in range(PLACES)) == list(range(PLACES))
    company.close()
    assert census.newcomers() == []


# --- whose is whose


def test_a_descriptor_is_a_childs_an_expected_workers_or_nobodys(company: Company) -> None:
    crew = company.crew
    child, expected = company.employ(7), company.expect(4)
    assert (crew.pid_at(child.channel.fileno()), crew.slot_at(child.channel.fileno())) == (7, None)
    assert (crew.pid_at(expected.channel.fileno()), crew.slot_at(expected.channel.fileno())) == (None, 4)
    assert (crew.pid_at(0), crew.slot_at(0)) == (None, None)
    assert (crew.birth(4), crew.birth(5)) == (expected, None)


def test_an_expected_worker_becomes_a_child(company: Company) -> None:
    line = company.expect(4)
    assert company.crew.expects
    company.crew.born(4, 77)
    assert (company.crew.expects, 77 in company.crew, company.crew[77]) == (False, True, line)
    assert company.crew.pid_at(line.channel.fileno()) == 77


def test_a_line_is_hung_up_once(company: Company) -> None:
    line = company.employ(7)
    fd = line.channel.fileno()
    assert [company.crew.hang_up(line), company.crew.hang_up(line)] == [fd, None]
    assert company.crew.pid_at(fd) is None


# --- words


def test_a_child_that_is_gone_is_told_nothing(company: Company) -> None:
    company.open(2)
    company.employ(7, knows=1)
    company.theirs[7].close()
    company.crew.ping(7)
    company.crew.adopt(7, (1,), company.listeners)
    company.crew.teach_all(company.listeners)
    company.crew.flush()


def test_a_child_whose_line_was_hung_up_is_told_nothing(company: Company) -> None:
    company.open(2)
    company.crew.hang_up(company.employ(7, knows=1))
    company.crew.ping(7)
    company.crew.adopt(7, (1,), company.listeners)
    company.crew.flush()


def test_what_had_no_room_is_sent_later_in_order(company: Company) -> None:
    company.employ(7)
    company.fill(7)
    company.crew.tell(7, Adopt((1,)))
    company.crew.tell(7, Adopt((2,)))
    heard = company.heard(7)
    assert Adopt((1,)) not in heard
    company.crew.flush()
    assert company.heard(7)[-2:] == [Adopt((1,)), Adopt((2,))]


def test_a_child_that_never_listens_makes_nothing_grow(company: Company) -> None:
    line = company.employ(7)
    company.fill(7)
    for _ in range(1000):
        company.crew.ping(7)
    assert line.channel.pending == 64


# --- listeners made later


def test_a_child_learns_each_new_slot_once_with_its_listeners(company: Company) -> None:
    company.employ(7, knows=1)
    company.open(3, per_slot=2)
    company.crew.teach_all(company.listeners)
    company.crew.teach_all(company.listeners)
    addresses, kinds = ("tcp 0", "tcp 1"), ("stream", "stream")
    assert company.heard(7) == [Learn(1, addresses, kinds), Learn(2, addresses, kinds)]


def test_the_sockets_arrive_as_they_are(company: Company) -> None:
    company.open(1)
    company.listeners[0].sock.bind(("127.0.0.1", 0))
    company.employ(7, knows=0)
    company.crew.teach_all(company.listeners)
    taken = company.theirs[7].take_over_nowait()
    assert taken is not None
    with socket.socket(fileno=taken[1][0]) as sock:
        assert sock.getsockname() == company.listeners[0].sock.getsockname()


def test_it_learns_before_it_adopts(company: Company) -> None:
    company.employ(7, knows=1)
    company.crew.adopt(7, (1, 2), company.open(3))
    assert [type(item) for item in company.heard(7)] == [Learn, Learn, Adopt]


def test_a_child_without_room_learns_later_what_it_was_told_to_adopt(company: Company) -> None:
    company.employ(7, knows=1)
    company.open(3)
    company.fill(7)
    company.crew.adopt(7, (0, 1, 2), company.listeners)
    company.heard(7)
    company.crew.flush()
    assert company.heard(7)[-1] == Adopt((0, 1, 2))
    assert company.crew.is_behind(3)
    company.crew.teach_all(company.listeners)
    assert [type(item) for item in company.heard(7)] == [Learn, Learn]
    assert not company.crew.is_behind(3)


def test_a_worker_that_becomes_a_zygote_is_taught_anew_what_it_has_learned(company: Company) -> None:
    line = company.employ(7, slot=0, knows=1)
    company.open(3)
    company.crew.teach_all(company.listeners)
    company.crew.promote(7, ZYGOTE, 5)
    assert (line.slot, line.generation) == (ZYGOTE, 5)
    company.crew.teach_all(company.listeners)
    assert [type(item) for item in company.heard(7)] == [Learn, Learn, Promote, Learn, Learn]


def test_all_slots_that_can_be_fit_one_adoption(company: Company) -> None:
    company.employ(7, knows=1024)
    company.crew.adopt(7, range(1024), [])
    assert company.heard(7) == [Adopt(tuple(range(1024)))]


def test_shared_sockets_are_taught_to_nobody(company: Company) -> None:
    company.employ(7, knows=0)
    with socket.socket() as sock:
        company.crew.teach_all([Listener("unix:x", ListenerKind.STREAM, sock, None)])
    assert company.heard(7) == []


def test_a_full_line_of_one_child_keeps_no_other_from_learning(company: Company) -> None:
    for pid in (7, 8):
        company.employ(pid, knows=1)
    company.fill(7)
    company.crew.teach_all(company.open(2))
    assert (company.crew[7].knows, company.crew[8].knows) == (1, 2)
    assert [type(item) for item in company.heard(8)] == [Learn]


def test_the_queue_of_a_worker_that_has_stalled_is_left_to_its_siblings_for_longer(company: Company) -> None:
    """Stalls come in flocks; a worker that was only born, or is back, has its own queue soon."""
    company.employ(7, slot=0)
    company.employ(8, slot=1)
    company.crew.adopt(7, (1,), company.listeners, 5.0)
    company.crew.adopt(7, (), company.listeners, 6.0)
    assert company.crew.due == 6.0 + STICKS
    company.crew.settle(6.0 + STICKS)
    company.crew.adopt(7, (1,), company.listeners, 7.0)
    company.crew.has_stalled(8, 7.0)
    company.crew.adopt(7, (), company.listeners, 7.1)
    assert company.crew.due == 7.1 + STICKS_AFTER_STALL
