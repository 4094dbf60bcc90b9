"""Knows when a measurement was disturbed: how much of the machine others used meanwhile, and whether to repeat it.

Repeating is fair because it looks at what *others* did and never at the result.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from benchmarks import machine

CROWDED = 0.1  # of one core used by others: more than that and a figure is worth little


@dataclasses.dataclass
class Usage:
    """Who used the processors while the block ran; all known after it."""

    server_seconds: float = 0.0
    """Processor seconds of the server that is measured, its children included."""
    all_cores: float = 0.0
    """Cores that were busy, with whatever: 0 to the number of cores."""
    server_cores: float = 0.0
    """Cores that the server kept busy."""

    def others(self, load_cores: float) -> float:
        """Return the cores used by neither the server nor a load generator that used `load_cores`."""
        return max(0.0, self.all_cores - self.server_cores - load_cores)


@contextmanager
def watched(pgid: int) -> Iterator[Usage]:
    """Measure who uses the processors inside the block; `pgid` is the server's process group."""
    usage = Usage()
    started, busy, server = time.perf_counter(), machine.busy_seconds(), machine.group_seconds(pgid)
    yield usage
    seconds = time.perf_counter() - started
    usage.server_seconds = machine.group_seconds(pgid) - server
    usage.all_cores = (machine.busy_seconds() - busy) / seconds
    usage.server_cores = usage.server_seconds / seconds


def notes(others: float) -> list[str]:
    """Return what to say under a table, if `others` (cores, at worst) makes its figures doubtful."""
    if others <= CROWDED:
        return []
    return [f"! other processes used up to {others:.0%} of a core meanwhile: measure again on a quiet machine"]


class Sample(Protocol):
    """What a measurement gives."""

    @property
    def others(self) -> float:
        """Cores that others used meanwhile."""


_S = TypeVar("_S", bound=Sample)


def quietest(measure: Callable[[], _S], retries: int) -> _S:
    """Call `measure` until nobody disturbed it, at most 1 + `retries` times; return the least disturbed sample."""
    best = measure()
    for _ in range(retries):
        if best.others <= CROWDED:
            break
        again = measure()
        best = min(best, again, key=lambda sample: sample.others)
    return best
