"""The lines of `hybrid status`: the supervisor, its workers, and the last reload and death of each service. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from hybrid.console import quantities
from hybrid.console.layout import Column, Line, Span, Style, flow, table
from hybrid.console.views import Cluster, Service, Status, Worker

COLUMNS: Final = (
    Column("SLOT"),
    Column("PID", leaves=3),
    Column("STATE"),
    Column("UP", is_right=True, leaves=2),
    Column("BUSY", is_right=True, leaves=10),
    Column("REQ/S", is_right=True, leaves=9),
    Column("IN-FLIGHT", is_right=True, leaves=4),
    Column("CONNS", is_right=True, leaves=6),
    Column("QUEUE", is_right=True, leaves=7),
    Column("LAG p99", is_right=True, leaves=5),
    Column("RSS", is_right=True, leaves=8),
    Column("RESTARTS", is_right=True, leaves=1),
    Column("", is_rest=True),
)
"""The last one is the line in which a worker is stalled."""

_STATES = {
    "ready": Style.GOOD,
    "booting": Style.WARNING,
    "draining": Style.WARNING,
    "waiting": Style.WARNING,
    "stalled": Style.BAD,
    "failed": Style.BAD,
    "aborted": Style.BAD,
    "killed": Style.BAD,
}  # state -> style; others are plain
_PHASES = {"serving": Style.PLAIN, "failed": Style.BAD, "stopping": Style.WARNING}
_SEPARATOR = " · "


def status_lines(status: Status, width: int | None = None) -> list[Line]:
    """Return all lines; `width` in cells, None: no limit."""
    return [
        *header_lines(status, width),
        *table(COLUMNS, [worker_row(worker) for worker in status.workers], width),
        *_footer(status, width),
    ]


def header_lines(status: Status, width: int | None = None) -> list[Line]:
    """Return the lines above the table: one for the supervisor, and one for each service if there are several."""
    about = [
        Span(status.name, Style.STRONG),
        Span(f"pid {quantities.count(status.pid)}"),
        Span(f"up {quantities.duration(status.up, 2)}"),
    ]
    versions = [Span(f"hybrid {status.version}"), Span(f"python {status.python}")]
    if len(status.services) == 1:
        (service,) = status.services
        generation, *rest = _about(service)
        return flow([*about, generation, *versions, *rest], width)
    lines = flow([*about, _phase(status.phase), *versions], width)
    size = max((len(service.name) for service in status.services), default=0)
    for service in status.services:
        lines += flow([Span(service.name.ljust(size), Style.STRONG), *_about(service)], width)
    return lines


def totals(workers: Sequence[Worker]) -> list[Span]:
    """Return the sums over all workers; only the memory is that of companions too."""
    serving = [worker for worker in workers if not worker.is_companion]
    ready = sum(worker.state == "ready" for worker in serving)
    return [
        Span(f"{ready} of {len(serving)} ready"),
        Span(f"{quantities.rate(_sum(worker.rate for worker in workers))} req/s"),
        Span(f"{quantities.count(_sum(worker.in_flight for worker in workers))} in flight"),
        Span(f"{quantities.count(_sum(worker.connections for worker in workers))} connections"),
        Span(quantities.size(_sum(worker.memory for worker in workers))),
    ]


def worker_row(worker: Worker) -> list[Span]:
    """Return the cells of a worker, in the order of `COLUMNS`."""
    style = _STATES.get(worker.state, Style.PLAIN)
    return [
        Span(worker.label, Style.STRONG),
        Span(quantities.count(worker.pid)),
        Span(worker.state or quantities.UNKNOWN, style),
        Span(quantities.duration(worker.up)),
        Span(quantities.share(worker.busy), Style.WARNING if (worker.busy or 0) >= 0.9 else Style.PLAIN),
        Span(quantities.rate(worker.rate)),
        Span(quantities.count(worker.in_flight)),
        Span(quantities.count(worker.connections)),
        Span(quantities.count(worker.queue), Style.WARNING if worker.queue else Style.PLAIN),
        Span(quantities.lag(worker.lag)),
        Span(quantities.size(worker.memory)),
        Span(quantities.count(worker.restarts)),
        Span(worker.where, style),
    ]


def _sum(values: Iterator[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _phase(phase: str) -> Span:
    return Span("" if phase == "serving" else phase, _PHASES.get(phase, Style.WARNING))


def _about(service: Service) -> list[Span]:
    """Return what a header says of a service, the generation first."""
    is_short = service.wanted is not None and service.ready is not None and service.ready < service.wanted
    ready = f"{quantities.count(service.ready)} of {quantities.count(service.wanted)} ready" if is_short else ""
    return [
        Span("" if service.generation is None else f"generation {quantities.count(service.generation)}"),
        _phase(service.phase),
        Span(f"for {', '.join(service.depends)}" if service.phase == "waiting" and service.depends else ""),
        Span("reloading" if service.is_reloading else "", Style.WARNING),
        Span(ready, Style.WARNING),
        Span(service.loop or service.target),
        *(Span(address) for address in service.addresses),
    ]


def _footer(status: Status, width: int | None) -> list[Line]:
    lines = []
    for service in status.services:
        name = f"{service.name}: " if len(status.services) > 1 else ""
        pieces = list(_history(service, status.at))
        if pieces:
            pieces[0] = Span(name + pieces[0].text, pieces[0].style)
            lines += flow(pieces, width, _SEPARATOR)
    return lines


def _history(service: Service, now: float | None) -> Iterator[Span]:
    if service.failure:
        yield Span(f"failed: {service.failure}", Style.BAD)
    if (last := service.last_reload) is not None:
        reason = f" ({last.reason})" if last.reason else ""
        style = Style.BAD if last.outcome == "failed" else Style.PLAIN
        yield Span(f"last reload: {last.outcome}{reason}, {_ago(last.at, now)}", style)
    if (death := service.last_death) is not None:
        hint = " (out of memory?)" if death.how == "SIGKILL" else ""
        yield Span(f"last death: {service.name}/{death.slot} {death.how}{hint}, {_ago(death.at, now)}")
    if service.cluster is not None:
        yield _of_cluster(service.cluster, now)


def _of_cluster(cluster: Cluster, now: float | None) -> Span:
    if cluster.is_connected is None:
        return Span(f"offload: to {cluster.scheduler}, with the first call")
    if cluster.is_connected:
        calls = f"{quantities.count(cluster.in_flight)} in flight"
        return Span(f"offload: to {cluster.scheduler}, connected {_ago(cluster.since, now)}, {calls}")
    trouble = f": {cluster.trouble}" if cluster.trouble else ""
    return Span(f"offload: cannot reach {cluster.scheduler}, since {_ago(cluster.since, now)}{trouble}", Style.BAD)


def _ago(then: float | None, now: float | None) -> str:
    return "at an unknown time" if then is None or now is None else f"{quantities.duration(now - then)} ago"
