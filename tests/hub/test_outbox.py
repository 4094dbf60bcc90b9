"""The outbox: held responses are sent in order at the end of the turn, and none are held if turns are long."""

from __future__ import annotations

import pytest

from hybrid.workers.hub import outbox as module
from hybrid.workers.hub.outbox import LONGEST, MOST_HELD, PATIENCE, REST, Outbox

SLOW = 2 * PATIENCE  # seconds


class Box(Outbox):
    """An outbox with a clock that the test moves, and verbs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.now = 1000.0
        self.sent: list[str] = []
        monkeypatch.setattr(module, "monotonic", lambda: self.now)

    def holds(self, *names: str) -> None:
        """Hold responses with these names."""
        for name in names:
            self.hold(_Answer(name, self.sent))

    def has_a_slow_turn(self) -> None:
        """Begin a turn, hold a response for too long, end the turn."""
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


def test_it_is_open_during_a_turn(box: Box) -> None:
    states = [box.open]
    for method in (box.begin, box.end):
        method()
        states.append(box.open)
    assert states == [False, True, False]


def test_held_responses_are_sent_in_order_at_the_end_of_the_turn(box: Box) -> None:
    box.begin()
    box.holds("a", "b", "c")
    assert box.sent == []
    box.end()
    assert box.sent == ["a", "b", "c"]


def test_each_response_is_sent_once(box: Box) -> None:
    box.begin()
    box.holds("a")
    box.end()
    box.end()
    box.flush()
    assert box.sent == ["a"]


def test_it_is_closed_while_responses_are_sent(box: Box) -> None:
    """A response caused by the flush must not be held: the end of the turn has passed."""
    seen = []

    class Looking:
        def flush(self) -> None:
            seen.append(box.open)

    box.begin()
    box.hold(Looking())
    box.end()
    assert seen == [False]


def test_too_many_held_responses_are_sent_before_the_end_of_the_turn(box: Box) -> None:
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


def test_a_held_response_is_sent_by_the_next_one_after_a_millisecond(box: Box) -> None:
    """The clock is not read for each of them, but often enough."""
    box.begin()
    box.holds("first")
    box.now += 2 * LONGEST
    count = 1
    while not box.sent:
        count += 1
        assert count < MOST_HELD
        box.holds(str(count))
    assert len(box.sent) == count <= MOST_HELD // 2


def test_a_longer_wait_is_followed_by_a_longer_rest(box: Box) -> None:
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


def test_nothing_is_held_for_a_while_after_a_response_had_to_wait(box: Box) -> None:
    box.has_a_slow_turn()
    assert box.sent == ["late"]
    box.begin()
    assert not box.open
    box.now += 0.9 * REST * SLOW
    box.begin()
    assert not box.open


def test_responses_are_held_again_after_the_rest(box: Box) -> None:
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


def test_a_short_wait_causes_no_rest(box: Box) -> None:
    box.begin()
    box.holds("a")
    box.now += PATIENCE / 2
    assert box.sent == []
    box.end()
    box.begin()
    assert box.open


def test_a_long_turn_without_held_responses_causes_no_rest(box: Box) -> None:
    box.begin()
    box.now += 60
    box.holds("a")
    box.end()
    box.begin()
    box.now += 60
    box.end()
    box.begin()
    assert box.open


def test_the_wait_of_a_batch_starts_with_its_first_response(box: Box) -> None:
    box.begin()
    for _ in range(4):
        box.holds(*"x" * MOST_HELD)
        box.now += 10 * PATIENCE  # nothing is held meanwhile
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
