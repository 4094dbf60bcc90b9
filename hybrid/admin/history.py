"""The last 15 minutes of each service and each worker, from statuses. Pure.

A track has one number for each moment and each of `SERIES`, in arrays of four bytes a number: a service or a worker
takes 25 KB. A supervisor with more than `MOST_WORKERS` workers has tracks of its services only.
"""

from __future__ import annotations

import array
import collections
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

Status = Mapping[str, Any]
LENGTH: Final = 900
"""Moments that are kept: 15 minutes at one a second."""
MOST_WORKERS: Final = 64
"""Workers of a supervisor that have tracks of their own."""
WINDOW: Final = 5
"""Moments over which the quantiles are taken: those of one second jump about."""


class Values(NamedTuple):
    """The numbers of one moment; None where a number is not known."""

    busy: float | None = None
    """The share of time in which the loop is busy, 0 to 1; of a service the mean of its workers."""
    rate: float | None = None
    """Requests per second."""
    p50: float | None = None
    """Seconds that half of the requests took at most."""
    p99: float | None = None
    queue: float | None = None
    """Connections that wait to be accepted."""
    memory: float | None = None
    """Bytes."""
    offload: float | None = None
    """Offloaded calls that run or wait; None for a worker, and until the first one."""


SERIES: Final = Values._fields
Key = tuple[str, int | None]
"""A service and a slot; None: the service as a whole."""


class History:
    """Numbers by time. Feed it with statuses, oldest first."""

    def __init__(self, length: int = LENGTH, most_workers: int = MOST_WORKERS, window: int = WINDOW) -> None:
        """`length` and `window` in moments."""
        self._length = length
        self._most_workers = most_workers
        self._window = window
        self._moment = -1  # the number of the newest one
        self._times = array.array("d", [0.0]) * length
        self._tracks: dict[Key, _Track] = {}

    def take(self, status: Status) -> None:
        """Add a moment."""
        self._moment += 1
        place = self._moment % self._length
        self._times[place] = status["at"]
        workers = sum(len(service["workers"]) for service in status["services"])
        for service in status["services"]:
            self._take_service(service, place)
            if workers <= self._most_workers:
                for slot, rows in _slots(service).items():
                    self._track((service["name"], slot)).take(rows, place, self._moment)
        self._clear(place)

    def newest(self, service: str, slot: int | None = None) -> Values:
        """Return the numbers of the newest moment; unknown ones for a service or slot without a track."""
        track = self._tracks.get((service, slot))
        return Values() if track is None or self._moment < 0 else track.at(self._moment % self._length)

    def times(self) -> list[float]:
        """Return the moments, oldest first, in UNIX time."""
        return [round(self._times[place], 1) for place in self._places()]

    def series(self, service: str, slot: int | None = None) -> dict[str, list[float | None]] | None:
        """Return the numbers of a track by series, for each of `times`; None if there is no such track."""
        track = self._tracks.get((service, slot))
        if track is None:
            return None
        places = self._places()
        return {name: track.numbers(name, places) for name in SERIES}

    @property
    def size(self) -> int:
        """The bytes of all numbers."""
        own = self._times.itemsize * self._length
        return own + sum(track.size for track in self._tracks.values())

    def _places(self) -> list[int]:
        first = max(0, self._moment + 1 - self._length)
        return [moment % self._length for moment in range(first, self._moment + 1)]

    def _take_service(self, service: Mapping[str, Any], place: int) -> None:
        # the queue of a shared socket belongs to no slot, so the service's own number comes first
        queue, past, offload = service.get("queue"), service["past"], offloaded(service)
        track = self._track((service["name"], None))
        track.take(service["workers"], place, self._moment, queue=queue, past=past, offload=offload)

    def _track(self, key: Key) -> _Track:
        track = self._tracks.get(key)
        if track is None:
            track = self._tracks[key] = _Track(self._length, self._window)
        return track

    def _clear(self, place: int) -> None:
        """Leave a gap where a track got nothing; drop those that got nothing for the whole time."""
        for key, track in list(self._tracks.items()):
            if track.moment == self._moment:
                continue
            track.skip(place)
            if self._moment - track.moment >= self._length:
                del self._tracks[key]


class _Track:
    """The numbers of one service or slot."""

    def __init__(self, length: int, window: int) -> None:
        self._numbers = {name: array.array("f", [math.nan]) * length for name in SERIES}
        self._counts: collections.deque[array.array[int]] = collections.deque(maxlen=window + 1)
        self.moment = -1
        """The newest one with numbers."""

    @property
    def size(self) -> int:
        return sum(numbers.itemsize * len(numbers) for numbers in self._numbers.values())

    def take(
        self,
        rows: Sequence[Mapping[str, Any]],
        place: int,
        moment: int,
        *,
        queue: float | None = None,
        past: Sequence[Mapping[str, Any]] = (),
        offload: float | None = None,
    ) -> None:
        p50, p99 = self._quantiles((*rows, *past))
        values = Values(
            busy=_mean(row["busy"] for row in rows if row["state"] == "ready"),
            rate=_sum(row["requests_per_second"] for row in rows),
            p50=p50,
            p99=p99,
            queue=_sum(row["queue"] for row in rows) if queue is None else queue,
            # 0: a worker has not measured it yet
            memory=_sum(row["memory"] or None for row in rows),
            offload=offload,
        )
        for name, value in zip(SERIES, values, strict=True):
            self._numbers[name][place] = math.nan if value is None else value
        self.moment = moment

    def skip(self, place: int) -> None:
        self._counts.clear()
        for numbers in self._numbers.values():
            numbers[place] = math.nan

    def at(self, place: int) -> Values:
        return Values(*(_known(self._numbers[name][place]) for name in SERIES))

    def numbers(self, name: str, places: Iterable[int]) -> list[float | None]:
        found = self._numbers[name]
        return [_known(found[place]) for place in places]

    def _quantiles(self, rows: Iterable[Mapping[str, Any]]) -> tuple[float | None, float | None]:
        """Return p50 and p99 of the requests that ended since the oldest counts that are kept."""
        known = [row["durations"] for row in rows if row.get("durations") is not None]
        if not known:
            return None, None
        counts = array.array("q", map(sum, zip(*(one["counts"] for one in known), strict=True)))
        if self._counts and len(self._counts[0]) != len(counts):  # another version of hybrid counts otherwise
            self._counts.clear()
        self._counts.append(counts)
        if len(self._counts) == 1:
            return None, None
        before = self._counts[0]
        ended = [now - then for now, then in zip(counts, before, strict=True)]
        if min(ended) < 0:  # a killed worker took counts with it
            self._counts.clear()
            return None, None
        bounds = known[0]["bounds"]
        return quantile(bounds, ended, 0.5), quantile(bounds, ended, 0.99)


def offloaded(service: Mapping[str, Any]) -> float | None:
    """Return how many offloaded calls of a service run or wait; None if there was none yet."""
    started = [pool for pool in pools_of(service) if pool["has_started"]]
    return float(sum(pool["running"] + pool["waiting"] for pool in started)) if started else None


def pools_of(service: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return what the status of a service says of its pools of offload workers."""
    found: Sequence[Mapping[str, Any]] = (service.get("offload") or {}).get("pools", ())
    return found


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """Return the value that a share (0 to 1) of all values do not exceed, from a histogram; None if it is empty.

    `bounds`: the upper bounds of the counts but the last. Within a bucket the values are taken as spread evenly; of
    those above all bounds the last bound is all that is known.
    """
    total = sum(counts)
    if not total:
        return None
    wanted, below, low = share * total, 0, 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if count and below + count >= wanted:
            return low + (bound - low) * (wanted - below) / count
        below += count
        low = bound
    return low


def _slots(service: Mapping[str, Any]) -> dict[int, list[Mapping[str, Any]]]:
    """Return the workers of each slot: two while one replaces the other."""
    slots: dict[int, list[Mapping[str, Any]]] = collections.defaultdict(list)
    for worker in service["workers"]:
        slots[worker["slot"]].append(worker)
    return slots


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.4g}")


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(sum(known)) if known else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
