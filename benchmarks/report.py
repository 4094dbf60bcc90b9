"""What every suite takes and gives: the plan of a run, the report of it, and a word on stderr meanwhile."""

from __future__ import annotations

import dataclasses
import fnmatch
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from benchmarks.load import LoadFailed
from benchmarks.servers import Command, ServerFailed


@dataclasses.dataclass(frozen=True)
class Plan:
    """How to measure; the same for all suites of a run."""

    runs: int = 5
    """Rounds; in each of them every server is measured once."""
    seconds: float = 3.0
    """How long one measurement takes, after half a second of warm-up."""
    retries: int = 2
    """How often a measurement is repeated that others disturbed."""
    only: tuple[str, ...] = ()
    """Patterns (`hybrid epoll*`) of the servers to measure; empty: all."""

    def wants(self, name: str) -> bool:
        """Whether the server of this name is to be measured."""
        return not self.only or any(fnmatch.fnmatchcase(name, pattern) for pattern in self.only)


@dataclasses.dataclass(frozen=True)
class Report:
    """What a suite found."""

    text: str
    """The table, for a person."""
    data: dict[str, Any]
    """The raw figures of every round, for a program."""
    failures: dict[str, str]
    """Server -> why it could not be measured."""


class Row(Protocol):
    """A line of a table: something that is started by a command."""

    @property
    def command(self) -> Command:
        """How its server is started."""


_R = TypeVar("_R", bound=Row)


def wanted(rows: Iterable[_R], plan: Plan) -> list[_R]:
    """Return the rows whose names the plan wants. Raises `LookupError` if there is none."""
    found = [row for row in rows if plan.wants(row.command.name)]
    if not found:
        raise LookupError(f"no server matches --only {' '.join(plan.only)}")
    return found


@contextmanager
def attempt(name: str, failures: dict[str, str]) -> Iterator[None]:
    """A server or a load that fails inside is noted in `failures`, and the block ends; the other servers go on."""
    try:
        yield
    except (ServerFailed, LoadFailed) as error:
        failures[name] = "; ".join([str(error), *getattr(error, "__notes__", [])])
        say(f"  FAILED: {failures[name]}")


def say(text: str, end: str = "\n") -> None:
    """Show on stderr how far we are."""
    print(text, end=end, file=sys.stderr, flush=True)
