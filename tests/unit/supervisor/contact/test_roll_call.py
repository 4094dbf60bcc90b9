"""The roll call: workers are asked for the numbers of this moment, and waited for a little."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hybrid.supervisor.children.handles import ChildHandle, Children
from hybrid.supervisor.contact.roll_call import PATIENCE, RollCall
from hybrid.supervisor.watch.dump_file import DumpFile
from hybrid.workers.contract.channel import Channel
from hybrid.workers.contract.messages import Ping
from hybrid.workers.contract.scoreboard import ANSWERED, ASKED

NOW = 1000.0


class Workers:
    """The workers 1 and 2, which answer when they are told to."""

    def __init__(self) -> None:
        self.children = Children(4)
        self.channels: dict[int, Channel] = {}
        for pid in (1, 2):
            ours, self.channels[pid] = Channel.pair()
            self.children.add(pid, ChildHandle(pid - 1, 1, ours, self.children.take_place(), DumpFile(), 1))

    def named(self, *pids: int) -> list[tuple[Children, int]]:
        return [(self.children, pid) for pid in pids]

    def answers(self, *pids: int) -> None:
        for pid in pids:
            times = self.children[pid].record.times
            times[ANSWERED] = times[ASKED]

    def dies(self, pid: int) -> None:
        handle = self.children.remove(pid)
        self.children.close_channel(handle)
        self.children.forget(handle)

    def close(self) -> None:
        for pid in list(self.children.pids):
            self.dies(pid)
        for channel in self.channels.values():
            channel.close()


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers()
    yield made
    made.close()


def test_it_is_over_when_all_have_answered(workers: Workers) -> None:
    call = RollCall()
    call.begin(workers.named(1, 2), NOW)
    assert [channel.receive_nowait() for channel in workers.channels.values()] == [Ping(), Ping()]
    assert not call.is_over(NOW)
    workers.answers(1)
    assert not call.is_over(NOW)
    workers.answers(2)
    assert call.is_over(NOW)


def test_it_does_not_wait_for_a_worker_that_has_died(workers: Workers) -> None:
    call = RollCall()
    call.begin(workers.named(1, 2), NOW)
    workers.answers(1)
    workers.dies(2)
    assert call.is_over(NOW)


def test_it_does_not_wait_for_long(workers: Workers) -> None:
    call = RollCall()
    call.begin(workers.named(1, 2), NOW)
    assert NOW < call.due(NOW) < NOW + PATIENCE
    assert not call.is_over(NOW + PATIENCE / 2)
    assert call.is_over(NOW + PATIENCE)


def test_a_worker_that_was_asked_just_now_is_not_asked_again(workers: Workers) -> None:
    workers.children[1].record.times[ASKED] = NOW - 0.01
    call = RollCall()
    call.begin(workers.named(1), NOW)
    assert workers.channels[1].receive_nowait() is None
    assert not call.is_over(NOW)
    workers.answers(1)
    assert call.is_over(NOW)


def test_without_workers_it_is_over_at_once(workers: Workers) -> None:
    call = RollCall()
    call.begin((), NOW)
    assert call.is_over(NOW)
