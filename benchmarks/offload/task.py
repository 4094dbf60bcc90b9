"""What a caller is asked to measure, and its answer. Each travels as a line of JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from benchmarks.offload import work

MOST_BYTES: Final = 1 << 16  # of a line


@dataclasses.dataclass(frozen=True)
class Task:
    """Calls of one function."""

    function: str
    """A name in `FUNCTIONS`."""
    number: int = 0
    """Bytes, for the functions with a payload."""
    outstanding: int = 1
    """Calls at a time; 1: the next call begins when the one before has returned."""
    seconds: float = 1.0
    """How long calls are made, after a warm-up."""
    at_least: int = 1
    """Calls that are made even if they take longer."""
    pool: tuple[int, ...] = ()
    """Pin the pool's processes to these cores, one to each, before; empty: leave them where they are."""
    caller: int | None = None
    """Pin the caller to this core before."""

    @property
    def warm_up(self) -> float:
        """Seconds of calls that are not counted."""
        return min(0.3, self.seconds)

    def call(self) -> tuple[Any, ...]:
        """Return the function and its arguments."""
        return FUNCTIONS[self.function](self.number)


FUNCTIONS: Final[dict[str, Callable[[int], tuple[Any, ...]]]] = {  # name -> number -> function and arguments
    "nothing": lambda number: (work.nothing,),
    "argument": lambda number: (work.size_of, bytes(number)),
    "result": lambda number: (work.content_of, number),
    "compute": lambda number: (work.compute,),
}


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a caller has measured."""

    calls: int = 0
    per_second: float = 0.0
    p50_us: float = 0.0
    p99_us: float = 0.0
    warm_up_calls: int = 0
    """Calls before these, which are in no figure but the processor time."""
    error: str = ""
    """Why there are no figures."""


def answer(durations: Sequence[float], seconds: float) -> Answer:
    """Return the figures of calls that took so long each, and `seconds` in all."""
    ordered = sorted(durations)
    if not ordered:
        return Answer(error="no call has returned")
    p50, p99 = (ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e6 for share in (0.5, 0.99))
    return Answer(len(ordered), len(ordered) / seconds, p50, p99)


def check(task: Task, result: object) -> None:
    """Raise `ValueError` if a function has returned something else than it should."""
    expected = {"nothing": None, "argument": task.number, "compute": work.COMPUTED}
    good = len(result) == task.number if isinstance(result, bytes) else result == expected[task.function]
    if not good:
        raise ValueError(f"{task.function} has returned a wrong result")


def line(record: Task | Answer) -> bytes:
    """Return a task or an answer as a line."""
    return json.dumps(dataclasses.asdict(record)).encode() + b"\n"


def task_of(text: bytes) -> Task:
    """Return the task of a line."""
    content = json.loads(text)
    return Task(**{**content, "pool": tuple(content["pool"])})


def answer_of(text: bytes) -> Answer:
    """Return the answer of a line."""
    return Answer(**json.loads(text))
