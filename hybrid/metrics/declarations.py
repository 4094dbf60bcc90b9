"""The metrics, each declared once: `/metrics`, `hybrid metrics` and docs/metrics.md follow from here. Pure.

A metric reads the status of a supervisor (docs/control.md), to which the answer to `labels` may have been added. A slot
may have two workers while one replaces the other; its metrics are of both.
"""

from __future__ import annotations

import collections
import enum
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

Status = Mapping[str, Any]
"""The answer to the request `status`."""
Row = Mapping[str, Any]
"""A service of it, or a worker."""


class Kind(enum.Enum):
    """The kind of a metric, as Prometheus names it."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Sample:
    """A value of a metric."""

    labels: tuple[str, ...]
    """In the order of the metric's labels."""
    value: float


@dataclass(frozen=True, slots=True)
class Distribution:
    """A value of a histogram."""

    labels: tuple[str, ...]
    bounds: tuple[float, ...]
    """The upper bounds of the counts but the last."""
    counts: tuple[int, ...]
    """How many values each bucket has, not cumulative; the last one has those above all bounds."""
    sum: float


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric."""

    name: str
    """With its unit, and `_total` for a counter."""
    kind: Kind
    help: str
    labels: tuple[str, ...]
    read: Callable[[Status], Iterable[Sample | Distribution]]

    @property
    def unit(self) -> str:
        """The unit of its values, `seconds` or `bytes`; empty: it has none."""
        last = self.name.removesuffix("_total").rpartition("_")[2]
        return last if last in _UNITS else ""


_UNITS: Final = frozenset(("seconds", "bytes"))
STATES: Final = ("booting", "ready", "stalled", "draining", "failed", "aborted", "killed", "waiting", "done")
"""The states of workers; `stalled` is ready with a loop that does not turn."""
_OF_SERVICE: Final = ("service",)
_OF_SLOT: Final = ("service", "slot")
_OF_POOL: Final = ("service", "pool")
_OF_LABEL: Final = ("service", "label")


# --- ways to read


def _services(status: Status) -> Iterator[tuple[str, Row]]:
    return ((service["name"], service) for service in status["services"])


def _slots(service: Row) -> Iterator[tuple[str, list[Row]]]:
    """Yield each slot and its workers; slots without a process have their counts too."""
    slots: dict[int, list[Row]] = collections.defaultdict(list)
    for worker in (*service["workers"], *service["past"]):
        slots[worker["slot"]].append(worker)
    return ((str(slot), rows) for slot, rows in sorted(slots.items()))


def _of_service(read: Callable[[Row], float | None]) -> Callable[[Status], Iterator[Sample]]:
    def samples(status: Status) -> Iterator[Sample]:
        for name, service in _services(status):
            if (value := read(service)) is not None:
                yield Sample((name,), value)

    return samples


def _of_slot(key: str, join: Callable[[Iterable[float]], float] = sum) -> Callable[[Status], Iterator[Sample]]:
    """Read a field of the workers of each slot; slots where it is not known have no sample."""

    def samples(status: Status) -> Iterator[Sample]:
        for name, service in _services(status):
            for slot, rows in _slots(service):
                known = [row[key] for row in rows if row.get(key) is not None]
                if known:
                    yield Sample((name, slot), join(known))

    return samples


def _counted(group: str) -> Callable[[Status], Iterator[Sample]]:
    """Read counts by name of each service; a supervisor of an older version may not have them."""

    def samples(status: Status) -> Iterator[Sample]:
        for name, service in _services(status):
            for what, count in sorted(service["counts"].get(group, {}).items()):
                yield Sample((name, what), count)

    return samples


def _offload(key: str) -> Callable[[Status], Iterator[Sample]]:
    """Read a value of the calls to each pool of offload workers."""

    def samples(status: Status) -> Iterator[Sample]:
        for name, pool in _pools(status):
            yield Sample((name, pool["pool"]), pool[key])

    return samples


def _connected(status: Status) -> Iterator[Sample]:
    for name, service in _services(status):
        cluster = None if service["offload"] is None else service["offload"].get("cluster")
        if cluster is not None and cluster["connected"] is not None:
            yield Sample((name,), int(cluster["connected"]))


def _offloaded(status: Status) -> Iterator[Sample]:
    for name, pool in _pools(status):
        for outcome, count in pool["calls"].items():
            yield Sample((name, pool["pool"], outcome), count)


def _pools(status: Status) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the pools of offload workers, each with the name of its service."""
    for name, service in _services(status):
        for pool in (service["offload"] or {}).get("pools", ()):
            yield name, pool


def _workers(status: Status) -> Iterator[Sample]:
    for name, service in _services(status):
        states = collections.Counter(
            "stalled" if worker["stalled"] is not None else worker["state"] for worker in service["workers"]
        )
        for state in STATES:
            yield Sample((name, state), states[state])


def _accepted(status: Status) -> Iterator[Sample]:
    for name, service in _services(status):
        for slot, rows in _slots(service):
            known = [row for row in rows if row.get("accepted") is not None]
            if known:
                adopted = sum(row.get("adopted") or 0 for row in known)  # an older version does not tell
                yield Sample((name, slot, "own"), sum(row["accepted"] for row in known) - adopted)
                yield Sample((name, slot, "adopted"), adopted)


def _responses(status: Status) -> Iterator[Sample]:
    for name, service in _services(status):
        for slot, rows in _slots(service):
            known = [row["responses"] for row in rows if row["responses"] is not None]
            for code in known[0] if known else ():
                yield Sample((name, slot, code), sum(one[code] for one in known))


def _durations(status: Status) -> Iterator[Distribution]:
    for name, service in _services(status):
        for slot, rows in _slots(service):
            known = [row["durations"] for row in rows if row["durations"] is not None]
            if known:
                counts = tuple(map(sum, zip(*(one["counts"] for one in known), strict=True)))
                total = sum(one["sum"] for one in known)
                yield Distribution((name, slot), tuple(known[0]["bounds"]), counts, total)


def saturation(service: Row, worker: Row) -> float | None:
    """Return how much of a worker is used, 0 to 1; None if it does not serve.

    The largest of: the share of time in which its loop is busy, its connections of those it may have, and 1 if
    connections wait in its queue.
    """
    if worker["state"] != "ready":
        return None
    shares = [0.0 if worker["busy"] is None else worker["busy"], 1.0 if worker["queue"] else 0.0]
    if worker["stalled"] is not None:
        shares.append(1.0)
    if service["max_connections"]:
        shares.append((worker["connections"] or 0) / service["max_connections"])
    return float(max(shares))


def _queues(status: Status) -> Iterator[Sample]:
    for name, service in _services(status):
        for queue in service.get("queues", ()):  # an older version does not tell
            slot = "" if queue["slot"] is None else str(queue["slot"])  # empty: of all slots
            yield Sample((name, queue["address"], slot), queue["waiting"])


def _queue_limits(status: Status) -> Iterator[Sample]:
    for name, service in _services(status):
        limits = {queue["address"]: queue["limit"] for queue in service.get("queues", ())}
        for address, limit in limits.items():
            yield Sample((name, address), limit)


def _dropped(status: Status) -> Iterator[Sample]:
    if "log_dropped" in status:  # an older version does not tell
        yield Sample(("", ""), status["log_dropped"])  # of the supervisor
    yield from _of_slot("log_dropped")(status)


def _saturations(status: Status) -> Iterator[Sample]:
    for name, service in _services(status):
        for slot, rows in _slots(service):
            known = [found for row in rows if "state" in row and (found := saturation(service, row)) is not None]
            if known and service["kind"] == "application":
                yield Sample((name, slot), max(known))


def _of_label(key: str) -> Callable[[Status], Iterator[Sample]]:
    """Read a count of each label; none without accounting."""

    def samples(status: Status) -> Iterator[Sample]:
        for row in status.get("labels", ()):
            yield Sample((row["service"], row["label"]), row[key])

    return samples


# --- the table


METRICS: Final = (
    Metric(
        "hybrid_start_time_seconds",
        Kind.GAUGE,
        "When the supervisor started, in UNIX time.",
        (),
        lambda status: [Sample((), round(status["at"] - status["up"], 3))],
    ),
    Metric("hybrid_workers", Kind.GAUGE, "Workers by state.", ("service", "state"), _workers),
    Metric(
        "hybrid_workers_wanted",
        Kind.GAUGE,
        "Workers that should serve.",
        _OF_SERVICE,
        _of_service(lambda service: service["wanted"]),
    ),
    Metric(
        "hybrid_generation",
        Kind.GAUGE,
        "The generation that serves; each reload counts.",
        _OF_SERVICE,
        _of_service(lambda service: service["generation"]),
    ),
    Metric(
        "hybrid_worker_starts_total",
        Kind.COUNTER,
        "Workers that began to serve, by the reason for their start.",
        ("service", "reason"),
        _counted("starts_by"),
    ),
    Metric(
        "hybrid_worker_deaths_total",
        Kind.COUNTER,
        "Workers that died, by the signal; exit: they ended by themselves; start: they could not start.",
        ("service", "cause"),
        _counted("deaths"),
    ),
    Metric("hybrid_reloads_total", Kind.COUNTER, "Reloads by result.", ("service", "result"), _counted("reloads")),
    Metric(
        "hybrid_stalls_total",
        Kind.COUNTER,
        "Stalls of loops that lasted longer than --stall-report.",
        _OF_SERVICE,
        _of_service(lambda service: service["counts"]["stalls"]),
    ),
    Metric("hybrid_connections", Kind.GAUGE, "Open connections.", _OF_SLOT, _of_slot("connections")),
    Metric(
        "hybrid_connections_accepted_total",
        Kind.COUNTER,
        "Connections accepted: from the slot's own queue, or adopted from a slot whose worker could not, or had more.",
        ("service", "slot", "by"),
        _accepted,
    ),
    Metric(
        "hybrid_requests_total",
        Kind.COUNTER,
        "Requests begun; connections and datagrams of handlers without requests.",
        _OF_SLOT,
        _of_slot("requests"),
    ),
    Metric("hybrid_requests_in_progress", Kind.GAUGE, "Requests in progress.", _OF_SLOT, _of_slot("in_flight")),
    Metric("hybrid_responses_total", Kind.COUNTER, "Responses by class.", ("service", "slot", "class"), _responses),
    Metric(
        "hybrid_request_seconds",
        Kind.HISTOGRAM,
        "From the first bytes of a request to the last of its response.",
        _OF_SLOT,
        _durations,
    ),
    Metric("hybrid_received_bytes_total", Kind.COUNTER, "Bytes received from clients.", _OF_SLOT, _of_slot("bytes_in")),
    Metric("hybrid_sent_bytes_total", Kind.COUNTER, "Bytes sent to clients.", _OF_SLOT, _of_slot("bytes_out")),
    Metric("hybrid_websockets", Kind.GAUGE, "Open WebSockets.", _OF_SLOT, _of_slot("websockets")),
    Metric(
        "hybrid_loop_busy_seconds_total",
        Kind.COUNTER,
        "Seconds in which the loop was busy; its rate is the share of time. On uvloop: processor time of the loop.",
        _OF_SLOT,
        _of_slot("busy_seconds"),
    ),
    Metric(
        "hybrid_cpu_seconds_total",
        Kind.COUNTER,
        "Processor time of the workers.",
        _OF_SLOT,
        _of_slot("cpu_seconds"),
    ),
    Metric(
        "hybrid_loop_lag_seconds",
        Kind.GAUGE,
        "How late the loop is in the worst of 100 turns.",
        _OF_SLOT,
        _of_slot("lag_p99", max),
    ),
    Metric("hybrid_memory_bytes", Kind.GAUGE, "Resident memory.", _OF_SLOT, _of_slot("memory")),
    Metric(
        "hybrid_accept_queue",
        Kind.GAUGE,
        "Connections that wait to be accepted; those of a queue that all slots share have an empty slot.",
        ("service", "address", "slot"),
        _queues,
    ),
    Metric(
        "hybrid_accept_queue_limit",
        Kind.GAUGE,
        "How many may wait in each queue of an address: --backlog, or net.core.somaxconn if that is less.",
        ("service", "address"),
        _queue_limits,
    ),
    Metric(
        "hybrid_saturation",
        Kind.GAUGE,
        "How much of a worker is used, 0 to 1: the largest of its busy share, its share of --max-connections, and 1 if "
        "connections wait.",
        _OF_SLOT,
        _saturations,
    ),
    Metric(
        "hybrid_log_dropped_total",
        Kind.COUNTER,
        "Lines of both logs that were lost: nobody read them, or the disk was full. Those of the supervisor have an "
        "empty service and slot.",
        _OF_SLOT,
        _dropped,
    ),
    Metric(
        "hybrid_offload_calls_total",
        Kind.COUNTER,
        "Offloaded calls that have ended, by pool and result.",
        ("service", "pool", "result"),
        _offloaded,
    ),
    Metric(
        "hybrid_offload_seconds_total",
        Kind.COUNTER,
        "Time that these calls took, from hybrid.offload to the end.",
        _OF_POOL,
        _offload("seconds"),
    ),
    Metric(
        "hybrid_offload_queue_seconds_total",
        Kind.COUNTER,
        "How much of it they did not run: they waited, or were on their way.",
        _OF_POOL,
        _offload("queue_seconds"),
    ),
    Metric("hybrid_offload_running", Kind.GAUGE, "Offloaded calls that run.", _OF_POOL, _offload("running")),
    Metric("hybrid_offload_waiting", Kind.GAUGE, "Offloaded calls that wait.", _OF_POOL, _offload("waiting")),
    Metric(
        "hybrid_label_requests_total",
        Kind.COUNTER,
        "Requests that have ended, by the label that the application gave them, with --accounting.",
        _OF_LABEL,
        _of_label("requests"),
    ),
    Metric(
        "hybrid_label_seconds_total",
        Kind.COUNTER,
        "Seconds from the call of the application to its return, added up over the requests of a label.",
        _OF_LABEL,
        _of_label("seconds"),
    ),
    Metric(
        "hybrid_label_loop_seconds_total",
        Kind.COUNTER,
        "Seconds in which the requests of a label held the loop.",
        _OF_LABEL,
        _of_label("loop_seconds"),
    ),
    Metric(
        "hybrid_label_cpu_seconds_total",
        Kind.COUNTER,
        "Processor time of the requests of a label.",
        _OF_LABEL,
        _of_label("cpu_seconds"),
    ),
    Metric(
        "hybrid_offload_cluster_connected",
        Kind.GAUGE,
        "1 while the Dask scheduler of --offload-to is connected, otherwise 0; from the first call on.",
        _OF_SERVICE,
        _connected,
    ),
)
"""All metrics, in the order in which they are shown."""
