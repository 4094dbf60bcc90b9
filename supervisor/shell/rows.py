"""The rows of workers, companions and accept queues in a status, as JSON text.

Text, not dicts: a client may ask a hundred times a second, and with a hundred workers the encoder of `json` took half
of the time of an answer. A template takes a third of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from hybrid.supervisor.children.call_book import summed
from hybrid.supervisor.children.command import resident
from hybrid.supervisor.children.handles import ChildHandle
from hybrid.supervisor.core.status import WorkerStatus
from hybrid.supervisor.settings import Pool
from hybrid.supervisor.shell.branch import Branch
from hybrid.workers.contract.messages import GatewayTold
from hybrid.workers.contract.scoreboard import (
    CALL,
    CLASSES,
    DURATION_BOUNDS,
    LAG_BOUNDS,
    OFFLOAD_OUTCOMES,
    CallCounts,
    Snapshot,
    Totals,
)

_NULL: Final = "null"
_NOTHING: Final = Totals()
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False)

_GAUGES: Final = ("busy", "requests_per_second", "in_flight", "connections", "websockets", "lag_p99", "memory")
_COUNTERS: Final = (
    *(
        "requests",
        "accepted",
        "adopted",
        "responses",
        "bytes_in",
        "bytes_out",
        "busy_seconds",
        "cpu_seconds",
        "durations",
        "log_dropped",
    ),
)
_PLACE: Final = (
    '"slot": %d, "pid": %s, "state": "%s", "generation": %d, "up": %s, "restarts": %d, "stalled": %s, "where": %s, '
    '"not_ready": %s, "queue": %s, '
)


def _template(names: Sequence[str], values: Mapping[str, str]) -> str:
    return ", ".join(f'"{name}": {values.get(name, "%s")}' for name in names)


_RISE_AND_FALL: Final = _template(_GAUGES, {})
_RESPONSES: Final = "{" + ", ".join(f'"{name}": %d' for name in CLASSES) + "}"
_COUNTS: Final = ", ".join(["%d"] * (len(DURATION_BOUNDS) + 1))
_DURATIONS: Final = f'{{"bounds": {json.dumps(DURATION_BOUNDS)}, "counts": [{_COUNTS}], "sum": %s}}'
_QUEUE: Final = '{"address": %s, "slot": %s, "waiting": %d, "limit": %d}'
_COUNTED: Final = _template(_COUNTERS, {"responses": _RESPONSES, "durations": _DURATIONS})
_UNCOUNTED: Final = _template(_COUNTERS, dict.fromkeys(_COUNTERS, _NULL))


class Queue(NamedTuple):
    """An accept queue."""

    address: str
    """As a user types it."""
    slot: int | None
    """The slot that polls it; None: all workers do."""
    waiting: int
    """Connections that no worker has accepted yet."""
    limit: int
    """How many may wait."""


def queues(found: Sequence[Queue]) -> str:
    """Return an array with a row for each accept queue."""
    addresses = {address: _ENCODER.encode(address) for address in {queue.address for queue in found}}
    return _array(
        [
            _QUEUE % (addresses[address], _or_null(slot), waiting, limit)  # 0.7 us, of a status with one for each slot
            for address, slot, waiting, limit in found
        ]
    )


def workers(
    branch: Branch,
    rows: Sequence[WorkerStatus],
    now: float,
    depths: Mapping[int | None, int],
    left: Mapping[int, Totals],
) -> str:
    """Return an array with a row for each worker; the oldest of a slot has what is `left` of its dead workers too.

    `depths`: slot -> connections in its queue. `now`: monotonic seconds.
    """
    if not left:
        return _array([_worker(branch, row, row.slot, now, depths, None) for row in rows])
    ages = {pid: age for age, pid in enumerate(branch.children.pids)}
    oldest = {row.slot: row for row in sorted(rows, key=lambda row: -ages.get(row.pid or 0, -1))}
    return _array(
        [
            _worker(branch, row, row.slot, now, depths, left.get(row.slot) if oldest[row.slot] is row else None)
            for row in rows
        ]
    )


def companions(branch: Branch, now: float) -> str:
    """Return an array with a row for each companion."""
    return _array([_companion(branch, row, now) for row in branch.machine.companions(now)])


def offload(branch: Branch) -> str:
    """Return an object about the offloaded calls of a service; null if it does not offload."""
    pools = branch.settings.pools
    if not pools:
        return _NULL
    children, gateways = branch.children, [one for _, one in branch.children if one.gateway is not None]
    calls = summed((children.call_book.before(), children.calls()))
    cluster = next((pool for pool in pools if pool.to), None)
    return _ENCODER.encode(
        {
            "pools": [_pool(branch, pool, calls.get(pool.name, CallCounts())) for pool in pools],
            "cluster": None if cluster is None else _cluster(cluster, [one.gateway for one in gateways if one.gateway]),
        }
    )


def _pool(branch: Branch, pool: Pool, calls: CallCounts) -> dict[str, object]:
    running = underway = 0
    if pool.name in branch.wanted_pools:
        for _, handle in branch.children:
            underway += handle.underway(pool.name)
            if branch.roster.pool_of(handle.slot) == pool.name:
                running += (handle.record.numbers[CALL] != 0) + (handle.gateway.in_flight if handle.gateway else 0)
    return {
        "pool": pool.name,
        "workers": pool.workers,
        "has_started": pool.name in branch.wanted_pools,
        "running": running,
        "waiting": max(0, underway - running),
        "calls": dict(zip(OFFLOAD_OUTCOMES, calls.outcomes, strict=True)),
        "seconds": _finite(calls.seconds),
        "queue_seconds": _finite(calls.seconds - calls.ran),
    }


def _cluster(pool: Pool, gateways: Sequence[GatewayTold]) -> dict[str, object]:
    """Return what the newest gateway of a pool has said of its cluster."""
    last = gateways[-1] if gateways else None
    return {
        "scheduler": pool.to,
        "connected": None if last is None else not last.trouble,
        "since": None if last is None else last.since,
        "trouble": None if last is None else last.trouble or None,
        "in_flight": sum(one.in_flight for one in gateways),
        "fallback": pool.fallback,
    }


def _finite(seconds: float) -> float:
    """Return seconds; 0 for what is no number: an application can write to its record."""
    return max(0.0, round(seconds, 6)) if math.isfinite(seconds) else 0.0


def past(rows: Sequence[WorkerStatus], left: Mapping[int, Totals]) -> str:
    """Return an array with the counts that are `left` of slots without a row: they are no longer wanted."""
    if not left:
        return "[]"
    shown = {row.slot for row in rows}
    return _array([f'{{"slot": {slot}, {_counted(left[slot])}}}' for slot in sorted(left) if slot not in shown])


def _array(items: Sequence[str]) -> str:
    return f"[{', '.join(items)}]"


def _companion(branch: Branch, row: WorkerStatus, now: float) -> str:
    name, number = branch.roster.companion(row.slot)
    return f'{{"companion": {_ENCODER.encode(name)}, {_worker(branch, row, number, now, {}, None)[1:]}'


def _worker(
    branch: Branch,
    row: WorkerStatus,
    number: int,
    now: float,
    depths: Mapping[int | None, int],
    left: Totals | None,
) -> str:
    """Return a row; `number` is its slot as people read it."""
    handle = branch.children.get(row.pid)
    counts = not branch.settings.command  # other programs count nothing
    seen = handle.record.snapshot() if handle is not None and counts else None
    stalled, why = row.stalled_seconds, None if handle is None else handle.not_ready
    place = _PLACE % (
        number,
        _or_null(row.pid),
        row.state,
        row.generation,
        _NULL if row.ready_seconds is None else round(row.ready_seconds, 3),
        row.restarts,
        _NULL if stalled is None else round(stalled, 3),
        _NULL if stalled is None else _ENCODER.encode(branch.where(row.pid)),
        _NULL if why is None else _ENCODER.encode(why),
        _or_null(depths.get(row.slot)),
    )
    counters = _UNCOUNTED
    if counts:
        totals = _NOTHING if seen is None else seen.totals
        counters = _counted(totals if left is None else totals.plus(left))
    return f"{{{place}{_gauges(branch, row.pid, now, handle, seen)}, {counters}}}"


def _gauges(branch: Branch, pid: int | None, now: float, handle: ChildHandle | None, seen: Snapshot | None) -> str:
    """Return the values of a worker that rise and fall."""
    if pid is None or handle is None or seen is None or not (handle.has_loop or handle.runs_calls):
        memory = None if pid is None else resident(pid)
        return _RISE_AND_FALL % (*[_NULL] * (len(_GAUGES) - 1), _or_null(memory))
    rates = branch.samples.rates(pid, now, handle.record)
    return _RISE_AND_FALL % (
        _rounded(rates.busy, 4),
        _rounded(rates.requests_per_second, 1),
        seen.in_flight,
        seen.active,
        seen.websockets,
        _rounded(p99(seen), 9),
        seen.memory,
    )


def _counted(totals: Totals) -> str:
    """Return the values that only grow."""
    busy, cpu, spent = totals.busy, totals.cpu, totals.duration_sum
    finite = math.isfinite(busy + cpu + spent)
    return _COUNTED % (
        totals.requests,
        totals.accepted,
        totals.adopted,
        *totals.responses,
        totals.bytes_in,
        totals.bytes_out,
        round(busy, 6) if finite else _rounded(busy, 6),
        round(cpu, 6) if finite else _rounded(cpu, 6),
        *totals.durations,
        round(spent, 6) if finite else _rounded(spent, 6),
        totals.log_dropped,
    )


def _or_null(value: int | None) -> int | str:
    return _NULL if value is None else value


def _rounded(value: float | None, digits: int) -> float | str:
    """Return a number; null for none, and for one that is no number: an application can write to its record."""
    return round(value, digits) if value is not None and math.isfinite(value) else _NULL


def p99(record: Snapshot) -> float | None:
    """Return a bound, in seconds, that 99 of 100 turns of the loop do not exceed; None if turns are not counted."""
    if not record.turns:
        return None
    if sum(record.lags) * 100 <= record.turns:  # nearly always
        return LAG_BOUNDS[0]
    longer, bound = 0, record.lag_max
    for lower, count in zip(reversed(LAG_BOUNDS), reversed(record.lags), strict=True):
        longer += count
        if longer * 100 > record.turns:
            break
        bound = lower
    return bound
