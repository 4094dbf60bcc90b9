"""The outbox: what is held goes out at the end of the turn, in order, and nothing is held where that takes long."""

from __future__ import annotations

import pytest

from hybrid.workers.hub import outbox as module
from hybrid.workers.hub.outbox import LONGEST, MOST_HELD, PATIENCE, REST, Outbox

SLOW = 2 * PATIENCE  # seconds


class Box(Outbox):
    """An outbox with a clock that stands still, and verbs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.now = 1000.0
        self.sent: list[str] = []
        monkeypatch.setattr(module, "monotonic", lambda: self.now)

    def holds(self, *names: str) -> None:
        """Hold answers of these names."""
        for name in names:
            self.hold(_Answer(name, self.sent))

    def has_a_slow_turn(self) -> None:
        """Begin a turn, hold an answer longer than is allowed, end it."""
        self.begin()
        self.holds("late")
        self.now += SLOW
        self.end()


class _Answer:
    def __init__(self, name: str, sent: list[str]) -> None:
        self._name = name
        self._sent = sent

    def flush(self) -> None:
        self._sent.append(self._name)


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch) -> Box:
    return Box(monkeypatch)


def test_it_is_open_from_the_beginning_of_a_turn_to_its_end(box: Box) -> None:
    states = [box.open]
    for method in (box.begin, box.end):
        method()
        states.append(box.open)
    assert states == [False, True, False]


def test_what_is_held_goes_out_at_the_end_in_its_order(box: Box) -> None:
    box.begin()
    box.holds("a", "b", "c")
    assert box.sent == []
    box.end()
    assert box.sent == ["a", "b", "c"]


def test_each_answer_goes_out_once(box: Box) -> None:
    box.begin()
    box.holds("a")
    box.end()
    box.end()
    box.flush()
    assert box.sent == ["a"]


def test_it_is_closed_when_answers_go_out(box: Box) -> None:
    """What a flush brings about must not be held: the end of the turn has passed."""
    seen = []

    class Looking:
        def flush(self) -> None:
            seen.append(box.open)

    box.begin()
    box.hold(Looking())
    box.end()
    assert seen == [False]


def test_more_than_so_many_do_not_wait_for_the_end(box: Box) -> None:
    box.begin()
    names = [str(number) for number in range(MOST_HELD)]
    box.holds(*names[:-1])
    assert box.sent == []
    box.holds(names[-1])
    assert (box.sent, box.open) == (names, True)
    box.holds("next")
    assert box.sent == names
    box.end()
    assert box.sent == [*names, "next"]


def test_many_do_not_wait_long_for_the_end(box: Box) -> None:
    """The clock is not asked for each of them, but often enough."""
    box.begin()
    box.holds("first")
    box.now += 2 * LONGEST
    count = 1
    while not box.sent:
        count += 1
        assert count < MOST_HELD
        box.holds(str(count))
    assert len(box.sent) == count <= MOST_HELD // 2


def test_the_longer_an_answer_had_to_wait_the_longer_nothing_is_held(box: Box) -> None:
    rests = []
    for seconds in (0.1, 0.2):
        box.begin()
        box.holds("late")
        box.now += seconds
        box.end()
        before = box.now
        while not box.open:
            box.now += 1.0
            box.begin()
        box.end()
        rests.append(box.now - before)
    assert rests[1] > rests[0] > 0


def test_nothing_is_held_for_a_while_after_an_answer_had_to_wait(box: Box) -> None:
    box.has_a_slow_turn()
    assert box.sent == ["late"]
    box.begin()
    assert not box.open
    box.now += 0.9 * REST * SLOW
    box.begin()
    assert not box.open


def test_answers_are_held_again_after_the_rest(box: Box) -> None:
    box.has_a_slow_turn()
    box.now += 1.1 * REST * SLOW
    box.begin()
    assert box.open
    box.holds("a")
    box.end()
    box.begin()
    assert box.open, "the rest is over for good"
    assert box.sent == ["late", "a"]


def test_one_slow_turn_after_the_rest_is_followed_by_another_rest(box: Box) -> None:
    box.has_a_slow_turn()
    box.now += 1.1 * REST * SLOW
    box.has_a_slow_turn()
    box.begin()
    assert not box.open


def test_a_short_wait_is_no_reason_to_rest(box: Box) -> None:
    box.begin()
    box.holds("a")
    box.now += PATIENCE / 2
    assert box.sent == []
    box.end()
    box.begin()
    assert box.open


def test_a_long_turn_in_which_nothing_waited_is_no_reason_to_rest(box: Box) -> None:
    box.begin()
    box.now += 60
    box.holds("a")
    box.end()
    box.begin()
    box.now += 60
    box.end()
    box.begin()
    assert box.open


def test_the_wait_of_a_batch_begins_with_its_first_answer(box: Box) -> None:
    box.begin()
    for _ in range(4):
        box.holds(*"x" * MOST_HELD)
        box.now += 10 * PATIENCE  # nobody waits meanwhile
    assert box.open
    box.end()
    assert len(box.sent) == 4 * MOST_HELD


def test_a_long_wait_ends_the_holding_within_the_turn_too(box: Box) -> None:
    box.begin()
    box.holds(*"x" * (MOST_HELD - 1))
    box.now += SLOW
    box.holds("last")
    assert len(box.sent) == MOST_HELD
    assert not box.open
