"""Starts a caller, asks it to measure, and goes through the rounds of a part.

The caller is pinned to the first core with all its threads, a single pool process to the second: the two work at the
same time, and neither takes the other's core. Two pool processes have one core each.
"""

from __future__ import annotations

import dataclasses
import functools
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from benchmarks import figures, machine, quiet, report
from benchmarks.load import LoadFailed
from benchmarks.offload.task import Answer, Task, answer_of, line
from benchmarks.servers import Server

_PATIENCE = 60.0  # seconds, beyond the time that a task is meant to take


def pinned(task: Task, processes: int) -> Task:
    """Return a task that also pins the caller, and a pool of one or two processes."""
    caller, other = machine.server_core(), machine.load_core()
    if caller is None or other is None:
        return task
    return dataclasses.replace(task, caller=caller, pool=(other, caller)[:processes])


def ask(server: Server, task: Task) -> Answer:
    """Let the caller measure. Blocks; raises `LoadFailed`."""
    seconds = task.warm_up + task.seconds + _PATIENCE
    try:
        with socket.create_connection(("127.0.0.1", server.port), seconds) as sock, sock.makefile("rb") as lines:
            sock.sendall(line(task))
            text = lines.readline()
    except OSError as error:
        raise LoadFailed(f"the caller has not answered: {error}") from error
    if not text:
        raise LoadFailed("the caller has ended without an answer")
    found = answer_of(text)
    if found.error:
        raise LoadFailed(found.error)
    return found


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a caller has answered."""

    answers: dict[str, Answer]
    cpu_us: dict[str, float]
    """Processor time of the caller and its pool for each call."""
    others: float
    """Cores that others used meanwhile."""


def asked(server: Server, tasks: Mapping[str, Task]) -> Asked:
    """Let the caller do one task after another."""
    answers: dict[str, Answer] = {}
    cpu_us: dict[str, float] = {}
    with quiet.watched(server.pid) as usage:
        for name, task in tasks.items():
            before = machine.group_seconds(server.pid)
            answers[name] = found = ask(server, task)
            cpu_us[name] = (machine.group_seconds(server.pid) - before) / (found.calls + found.warm_up_calls) * 1e6
    return Asked(answers, cpu_us, usage.others(0.0))


class Named(Protocol):
    """A line of a table."""

    @property
    def name(self) -> str:
        """As the table shows it."""


_N = TypeVar("_N", bound=Named)
_S = TypeVar("_S", bound=quiet.Sample)


def rounds(
    part: str, rows: Sequence[_N], one: Callable[[_N], _S], plan: report.Plan, failures: dict[str, str]
) -> dict[str, dict[int, _S]]:
    """Measure each row once in each round; return row -> round -> sample."""
    found: dict[str, dict[int, _S]] = {row.name: {} for row in rows}
    for number in range(plan.runs):
        for row in figures.rotated(rows, number * 2):
            report.say(f"offload, round {number + 1} of {plan.runs}: {part} {row.name}")
            with report.attempt(f"{part} {row.name}", failures):
                found[row.name][number] = quiet.quietest(functools.partial(one, row), plan.retries)
    return found


def median_of(samples: Mapping[int, _S], value: Callable[[_S], float]) -> float | None:
    """Return the median of a figure over the rounds."""
    return figures.median([value(one) for one in samples.values()])


def ratio(ours: Mapping[int, _S], theirs: Mapping[int, _S], value: Callable[[_S], float]) -> float | None:
    """Return the median over the rounds of ours / theirs."""
    mine, others = ({n: value(one) for n, one in samples.items()} for samples in (ours, theirs))
    return figures.paired_ratio(mine, others)


def notes(found: Mapping[str, Mapping[int, quiet.Sample]]) -> list[str]:
    """Return what to say under a table about other processes."""
    return quiet.notes(max((one.others for samples in found.values() for one in samples.values()), default=0.0))


def plain(part: str, found: Mapping[str, Mapping[int, Any]]) -> dict[str, Any]:
    """Return the raw figures."""
    return {
        f"{part} {name}": {"rounds": {n: dataclasses.asdict(one) for n, one in samples.items()}}
        for name, samples in found.items()
    }
