"""The request `stacks`: which children are asked, which share of the answer each has, and when it is complete."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, cast

import pytest

from hybrid.supervisor.children.handles import ChildHandle, Children
from hybrid.supervisor.control.requests import BUSY, UNKNOWN_SLOT
from hybrid.supervisor.core.roles import ZYGOTE, Roster, companion_slot
from hybrid.supervisor.shell.inspecting import MOST_AT_ONCE, Inspecting
from hybrid.supervisor.shell.tasks import Refused
from hybrid.supervisor.watch.dump_file import DumpFile
from hybrid.supervisor.watch.inquiries import Inquiry
from hybrid.workers.contract.channel import Channel

MIB = 1024 * 1024


@dataclasses.dataclass
class FakeMachine:
    """A machine that wants some workers."""

    wanted: int
    generation: int = 5
    companions: tuple[int, ...] = ()

    @property
    def slots(self) -> tuple[int, ...]:
        return (*range(self.wanted), *self.companions)


class FakeInquiries:
    """Notes who is asked; children answer when the test says so."""

    def __init__(self, children: Children) -> None:
        self._children = children
        self.asked: list[Inquiry] = []

    def open(self, pid: int, most: int, now: float) -> Inquiry:
        handle = self._children[pid]
        self.asked.append(Inquiry(pid, handle, self._children.place(handle.slot)[1], most, now))
        return self.asked[-1]


class FakeBranch:
    """A service with children that are numbers."""

    def __init__(self, name: str, wanted: int, mailers: int = 0) -> None:
        self.name = name
        self.roster = Roster()
        self.machine = FakeMachine(wanted, companions=self.roster.slots_of([("mailer", mailers)]))
        self.children = Children(64, name, self.roster)
        self.inquiries = FakeInquiries(self.children)

    def bears(self, pid: int, slot: int) -> None:
        """Add a child."""
        ours, theirs = Channel.pair()
        theirs.close()
        self.children.add(pid, ChildHandle(slot, 5, ours, self.children.take_place(), DumpFile(), 1))

    def close(self) -> None:
        for pid in self.children.pids:
            handle = self.children.remove(pid)
            self.children.close_channel(handle)
            self.children.forget(handle)


@pytest.fixture
def branches() -> Iterator[dict[str, FakeBranch]]:
    """Two services: `web` with three slots, of which one is vacant, and a zygote; `chat` with one worker."""
    web, chat = FakeBranch("web", 3), FakeBranch("chat", 1)
    web.bears(101, 1)
    web.bears(100, 0)
    web.bears(99, ZYGOTE)
    chat.bears(200, 0)
    yield {"web": web, "chat": chat}
    web.close()
    chat.close()


@pytest.fixture
def inspecting(branches: dict[str, FakeBranch]) -> Inspecting:
    return Inspecting(cast(Any, branches))


def asked(branches: dict[str, FakeBranch]) -> set[int]:
    return {inquiry.pid for branch in branches.values() for inquiry in branch.inquiries.asked}


@pytest.mark.parametrize(
    ("service", "slot", "expected"),
    [
        (None, None, {99, 100, 101, 200}),
        ("web", None, {99, 100, 101}),
        ("web", 1, {101}),
        (None, 0, {100, 200}),
        ("web", 2, set()),
    ],
)
def test_exactly_the_children_meant_are_asked(
    service: str | None, slot: int | None, expected: set[int], branches: dict[str, FakeBranch], inspecting: Inspecting
) -> None:
    inspecting.begin(service, slot, 0.0)
    assert asked(branches) == expected


def test_the_answer_comes_once_all_have_answered_in_the_order_of_slots(
    branches: dict[str, FakeBranch], inspecting: Inspecting
) -> None:
    task = inspecting.begin("web", None, 0.0)
    for inquiry in branches["web"].inquiries.asked:
        assert task.look(0.1) is None
        inquiry.end(tasks=[{"name": str(inquiry.pid)}])
    answer = task.look(0.1)
    assert answer is not None
    rows = cast(list[dict[str, Any]], answer["workers"])
    assert [(row["service"], row["slot"], row["pid"]) for row in rows] == [
        ("web", 0, 100),
        ("web", 1, 101),
        ("web", 2, None),
        ("web", "zygote", 99),
    ]
    assert rows[2]["error"] == "no process runs in this slot now"
    assert rows[0].keys() == rows[2].keys()


def test_an_inquiry_that_never_ends_does_not_delay_the_answer_forever(
    branches: dict[str, FakeBranch], inspecting: Inspecting
) -> None:
    task = inspecting.begin("chat", None, 10.0)
    assert task.due is not None
    assert task.look(task.due - 0.01) is None
    answer = task.look(task.due)
    assert answer is not None
    assert cast(list[dict[str, Any]], answer["workers"])[0]["error"]


def test_the_children_share_one_answer(branches: dict[str, FakeBranch], inspecting: Inspecting) -> None:
    inspecting.begin(None, None, 0.0)
    assert sum(one.most for branch in branches.values() for one in branch.inquiries.asked) < MIB
    branches["chat"].inquiries.asked.clear()
    inspecting.begin("chat", 0, 0.0)
    assert branches["chat"].inquiries.asked[0].most > MIB * 3 / 4


def test_too_many_requests_at_once_are_refused_until_one_ends(
    branches: dict[str, FakeBranch], inspecting: Inspecting
) -> None:
    for _ in range(MOST_AT_ONCE):
        inspecting.begin("chat", None, 0.0)
    with pytest.raises(Refused) as refused:
        inspecting.begin("chat", None, 0.1)
    assert refused.value.code == BUSY
    branches["chat"].inquiries.asked[0].end()
    inspecting.begin("chat", None, 0.1)
    with pytest.raises(Refused):
        inspecting.begin("chat", None, 0.1)
    inspecting.begin("chat", None, 60.0)


@pytest.mark.parametrize(("service", "slot"), [("web", 3), ("chat", 1), (None, 3)])
def test_a_slot_that_is_not_there_is_refused(service: str | None, slot: int, inspecting: Inspecting) -> None:
    with pytest.raises(Refused) as refused:
        inspecting.begin(service, slot, 0.0)
    assert refused.value.code == UNKNOWN_SLOT


@pytest.fixture
def mailers() -> Iterator[FakeBranch]:
    """A service with one worker and two companions, of which one is vacant."""
    branch = FakeBranch("web", 1, mailers=2)
    branch.bears(100, 0)
    branch.bears(300, companion_slot(1))
    yield branch
    branch.close()


@pytest.mark.parametrize(
    ("slot", "companion", "expected"),
    [(None, "", {100, 300}), (0, "", {100}), (None, "mailer", {300}), (1, "mailer", {300}), (0, "mailer", set())],
)
def test_companions_are_asked_by_their_name(
    mailers: FakeBranch, slot: int | None, companion: str, expected: set[int]
) -> None:
    Inspecting(cast(Any, {"web": mailers})).begin("web", slot, 0.0, companion)
    assert {inquiry.pid for inquiry in mailers.inquiries.asked} == expected


def test_companions_and_their_vacant_slots_have_rows_behind_the_workers(mailers: FakeBranch) -> None:
    result = Inspecting(cast(Any, {"web": mailers})).begin("web", None, 0.0).look(10.0)
    assert result is not None
    rows = [(row["service"], row["slot"], row["pid"]) for row in cast(Any, result["workers"])]
    assert rows == [("web", 0, 100), ("web.mailer", 0, None), ("web.mailer", 1, 300)]


@pytest.mark.parametrize(("slot", "companion"), [(2, "mailer"), (companion_slot(1), "")])
def test_a_companion_that_there_is_not_is_refused(mailers: FakeBranch, slot: int, companion: str) -> None:
    with pytest.raises(Refused) as caught:
        Inspecting(cast(Any, {"web": mailers})).begin("web", slot, 0.0, companion)
    assert caught.value.code == UNKNOWN_SLOT
