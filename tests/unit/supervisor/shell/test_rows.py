"""The rows of a status: what they say, that nothing is stale, and that a hundred workers cost ten times ten."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import FrameType

import pytest
from support.fake_kernel import FakeKernel
from support.operators import Operator
from support.rows import for_each
from support.shell import Log, settings, tree

from hybrid.supervisor.core.events import How
from hybrid.supervisor.shell import rows
from hybrid.workers.contract.scoreboard import CLASSES, DURATION_BOUNDS, LAG_BOUNDS, Scoreboard, Snapshot, Totals

_COUNTS = tuple(range(len(DURATION_BOUNDS) + 1))
_RESPONSES = tuple(range(10, 10 + len(CLASSES)))


def turned(lags: dict[float, int], turns: int = 1000, longest: float = 20.0) -> Snapshot:
    """Return a record of a loop with so many turns, of which these were longer than the bounds."""
    counts = tuple(lags.get(bound, 0) for bound in LAG_BOUNDS)
    return Snapshot(0.0, 0, 0, 0, turns, longest, counts, 0, 0, 0, 0, Totals())


def test_the_counts_of_a_slot_are_json() -> None:
    totals = Totals(7, 8, _RESPONSES, 20, 21, 1.2345678, _COUNTS, 2.5, 3.25, adopted=2, log_dropped=3)
    (found,) = json.loads(rows.past([], {3: totals}))
    assert found == {
        "slot": 3,
        "requests": 8,
        "accepted": 7,
        "adopted": 2,
        "responses": dict(zip(CLASSES, _RESPONSES, strict=True)),
        "bytes_in": 20,
        "bytes_out": 21,
        "busy_seconds": 1.234568,
        "cpu_seconds": 3.25,
        "durations": {"bounds": list(DURATION_BOUNDS), "counts": list(_COUNTS), "sum": 2.5},
        "log_dropped": 3,
    }


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_cannot_express_is_null(value: float) -> None:
    """An application can write to its record, by mistake."""
    (found,) = json.loads(rows.past([], {0: Totals(busy=value, cpu=1.0)}))
    assert (found["busy_seconds"], found["cpu_seconds"]) == (None, 1.0)


@for_each(
    ("lags", "expected"),
    [
        ({}, 0.001),
        ({0.001: 10}, 0.001),
        ({0.001: 11}, 0.005),
        ({0.001: 500, 0.1: 10}, 0.005),
        ({0.001: 500, 0.1: 11}, 1.0),
        ({10.0: 11}, 20.0),
        ({1.0: 6, 10.0: 5}, 10.0),
    ],
)
def test_the_bound_of_99_of_100_turns(lags: dict[float, int], expected: float) -> None:
    assert rows.p99(turned(lags)) == expected


def test_without_turns_there_is_no_bound() -> None:
    assert rows.p99(turned({}, turns=0)) is None


def test_a_record_is_read_as_it_was_written() -> None:
    record = Scoreboard(2).record(1)
    for index in range(len(record.numbers)):
        record.numbers[index] = index
    assert record.requests == record.totals().requests == record.snapshot().requests


def test_a_status_after_the_answer_to_a_command_shows_its_effect(
    kernel: FakeKernel, log: Log, operator: Operator, path: Path
) -> None:
    kernel.on_fork(kernel.says_ready)
    operator.asks(1, 1, "status", fresh=False)
    operator.asks(1, 2, "scale", service="web", workers=3)
    operator.asks(1.01, 3, "status", fresh=False)
    operator.asks(1.02, 4, "status", fresh=False)
    operator.asks(2, 5, "stop", now=True)
    tree(kernel, settings(workers=2, control=str(path)))
    assert [operator.result(number)["services"][0]["wanted"] for number in (1, 3, 4)] == [2, 3, 3]
    assert [len(operator.result(number)["services"][0]["workers"]) for number in (1, 3, 4)] == [2, 3, 3]


def test_a_status_after_a_death_shows_it(kernel: FakeKernel, log: Log, operator: Operator, path: Path) -> None:
    kernel.on_fork(kernel.says_ready)
    operator.asks(1, 1, "status", fresh=False)
    kernel.at(1.1, lambda: kernel.dies(min(kernel.alive), How(signal="SIGKILL")))
    operator.asks(1.2, 2, "status", fresh=False)
    operator.asks(2, 3, "stop", now=True)
    tree(kernel, settings(workers=2, control=str(path)))
    deaths = [operator.result(number)["services"][0]["counts"]["deaths"] for number in (1, 2)]
    assert deaths == [{}, {"SIGKILL": 1}]


def calls_of_a_status(kernel: FakeKernel, operator: Operator, path: Path, workers: int) -> int:
    """Return how many functions the supervisor calls for a status of so many workers."""
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    kernel.on_fork(kernel.says_ready)
    operator.asks(5, 1, "status", fresh=False)
    kernel.at(6, lambda: sys.setprofile(count))
    operator.asks(6, 2, "status", fresh=False)
    kernel.at(6.001, lambda: sys.setprofile(None))
    operator.asks(7, 3, "stop", now=True)
    try:
        tree(kernel, settings(workers=workers, control=str(path)))
    finally:
        sys.setprofile(None)
    assert len(operator.result(2)["services"][0]["workers"]) == workers
    return calls


@pytest.mark.parametrize(("workers", "most"), [(2, 600), (100, 10_000)])
def test_the_work_for_a_status_is_bounded(
    kernel: FakeKernel, log: Log, operator: Operator, path: Path, workers: int, most: int
) -> None:
    """It grows with the number of workers, and no faster: a service with 100 may be asked as often as a small one."""
    assert 0 < calls_of_a_status(kernel, operator, path, workers) < most
