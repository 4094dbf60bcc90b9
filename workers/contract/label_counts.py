"""Counts by label: which part of an application the requests of a service belong to, and what each part costs.

A worker adds up by label, and reports the totals since its start. The supervisor adds up the workers of a service. Both
bound the number of labels: the further ones are counted together, as `OTHER`.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from typing import Final

from hybrid.workers.contract.records import record
from hybrid.workers.contract.scoreboard import CLASSES

MOST_LABELS: Final = 64
"""Labels of a service, besides `SHARED`."""
MOST_CHARACTERS: Final = 64
"""Characters of a label."""
OTHER: Final = "other"
"""The label of requests whose own label is one too many."""
UNLABELLED: Final = "unlabelled"
"""The label of requests without one."""
SHARED: Final = frozenset({OTHER, UNLABELLED})
_LABEL: Final = re.compile(rf"[!-~](?:[ -~]{{0,{MOST_CHARACTERS - 2}}}[!-~])?")
_MICROSECONDS: Final = 1_000_000
_LARGEST: Final = 2**63 - 1
"""The largest number of a report: as microseconds, 292,000 years. A forged one might not fit into a float."""
_NUMBERS: Final = 1 + len(CLASSES) + 3
"""How many numbers of a report belong to one label."""


def why_no_label(label: object) -> str | None:
    """Return why a value cannot be a label; None if it can."""
    if isinstance(label, str) and _LABEL.fullmatch(label):
        return None
    return (
        f"{label!r:.80} is no label: use 1 to {MOST_CHARACTERS} visible ASCII characters, with spaces between them only"
    )


@record(frozen=True, slots=True)
class LabelCounts:
    """What the requests of one label have cost. Only grows. Times are microseconds."""

    requests: int = 0
    """Requests that have ended."""
    responses: tuple[int, ...] = (0,) * len(CLASSES)
    """Their responses by class; a request whose client left before has none."""
    wall: int = 0
    """From the start of a request to the return of the application, added up."""
    loop: int = 0
    """The time in which their code held the loop."""
    cpu: int = 0
    """The processor time of their code."""

    def plus(self, other: LabelCounts) -> LabelCounts:
        """Return the sum of two."""
        return LabelCounts(
            self.requests + other.requests,
            tuple(map(operator.add, self.responses, other.responses)),
            self.wall + other.wall,
            self.loop + other.loop,
            self.cpu + other.cpu,
        )

    @property
    def numbers(self) -> tuple[int, ...]:
        """All values in a row, for a report."""
        return (self.requests, *self.responses, self.wall, self.loop, self.cpu)


def microseconds(seconds: float) -> int:
    """Return seconds as whole microseconds."""
    return int(seconds * _MICROSECONDS)


def seconds(number: int) -> float:
    """Return microseconds as seconds."""
    return number / _MICROSECONDS


def read_report(labels: Sequence[object], numbers: Sequence[object]) -> Mapping[str, LabelCounts]:
    """Return the counts of a report, which has the `numbers` of each label in a row. Raises `ValueError`."""
    if len(numbers) != len(labels) * _NUMBERS:
        raise ValueError(f"{len(labels)} labels and {len(numbers)} numbers")
    found: dict[str, LabelCounts] = {}
    for place, label in enumerate(labels):
        if (reason := why_no_label(label)) is not None:
            raise ValueError(reason)
        several = numbers[place * _NUMBERS : (place + 1) * _NUMBERS]
        own = [one for one in several if isinstance(one, int) and 0 <= one <= _LARGEST]
        if len(own) != _NUMBERS:
            raise ValueError(f"the counts of {label} are not all numbers from 0 to {_LARGEST}")
        responses = tuple(own[1 : 1 + len(CLASSES)])
        found[str(label)] = LabelCounts(own[0], responses, *own[1 + len(CLASSES) :])
    return found
