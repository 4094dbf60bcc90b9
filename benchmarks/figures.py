"""Medians and paired ratios. Pure: numbers in, numbers out.

The machine's speed drifts (other tenants, frequency, caches), and it drifts for all servers alike. So the servers are
measured in rounds, each round gives one ratio between two servers that were measured within the same minute, and the
median of those ratios is what is reported. The ratio of two medians would compare different minutes.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TypeVar

_T = TypeVar("_T")


def median(values: Sequence[float]) -> float | None:
    """Return the median, or None of nothing."""
    return statistics.median(values) if values else None


def paired_ratio(ours: Mapping[int, float], theirs: Mapping[int, float]) -> float | None:
    """Return the median of ours / theirs over the rounds (round number -> figure) that both have, or None."""
    return median([ours[number] / theirs[number] for number in ours.keys() & theirs.keys() if theirs[number]])


def spread(values: Sequence[float]) -> float | None:
    """Return (largest - smallest) / median: 0.1 means that the rounds lie within 10 %."""
    middle = median(values)
    return (max(values) - min(values)) / middle if middle else None


def rotated(items: Sequence[_T], number: int) -> list[_T]:
    """Return `items` beginning with another one each round, so that nobody is always first or last."""
    start = number % len(items) if items else 0
    return [*items[start:], *items[:start]]
