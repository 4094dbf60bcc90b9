"""What a page shows at a moment, from a status and the history. Pure.

Texts are made here once, for the HTML and for the script, as `hybrid status` writes them. Numbers are for drawings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from hybrid.admin.health import why_not_ready
from hybrid.admin.history import History, Values, offloaded, pools_of
from hybrid.console import quantities

Status = Mapping[str, Any]
Snapshot = dict[str, Any]
COLUMNS: Final = (
    "Worker",
    "State",
    "Busy",
    "Req/s",
    "In flight",
    "Conns",
    "Queue",
    "Lag p99",
    "Memory",
    "Restarts",
    "Up",
    "PID",
)
"""The heads of the table of workers."""
CELLS: Final = ("rate", "in_flight", "connections", "queue", "lag", "memory", "restarts", "up", "pid")
"""The cells of a worker after its name, its state and how busy it is."""
TILES: Final = (
    ("rate", "Requests/s"),
    ("latency", "Latency p50 / p99"),
    ("busy", "Busy"),
    ("queue", "Queue"),
    ("memory", "Memory"),
    ("offload", "Offloaded calls"),
)
"""The totals of a service: key and title."""
_TILES_OF_PROGRAMS: Final = ("memory",)


def snapshot_of(
    status: Status,
    history: History,
    newest_event: int,
    configured: Mapping[str, Iterable[tuple[str, str]]],
    *,
    may_act: bool,
) -> Snapshot:
    """Return what a page shows; can be written as JSON. `configured`: service -> the options that were set."""
    reasons = why_not_ready(status)
    return {
        "at": status["at"],
        "name": status["name"],
        "facts": [
            ["pid", str(status["pid"])],
            ["up", quantities.duration(status["up"], 2)],
            ["hybrid", status["version"]],
            ["python", status["python"]],
        ],
        "phase": status["phase"],
        "ready": not reasons,
        "reasons": reasons,
        "actions": may_act,
        "event": newest_event,
        "services": [
            _service(one, history, configured.get(one["name"], ()))
            for one in sorted(status["services"], key=lambda one: one["is_sidecar"])
        ],
    }


def _service(service: Mapping[str, Any], history: History, configured: Iterable[tuple[str, str]]) -> Snapshot:
    now = history.newest(service["name"])
    is_program = service["kind"] == "command"
    return {
        "name": service["name"],
        "phase": _phase(service),
        "about": list(_about(service)),
        "failure": service["failure"] or "",
        "sidecar": service["is_sidecar"],
        "wanted": service["wanted"],
        "tiles": [] if service["is_sidecar"] else _tiles(service, now, is_program=is_program),
        "now": list(now),
        "workers": [_worker(service["name"], worker, history) for worker in service["workers"]],
        "configuration": _configuration(service, configured),
    }


def _phase(service: Mapping[str, Any]) -> str:
    if service["is_reloading"] and service["phase"] == "serving":
        return "reloading"
    return str(service["phase"])


def _about(service: Mapping[str, Any]) -> Iterable[str]:
    yield f"{service['ready']} of {service['wanted']} ready"
    yield f"generation {service['generation']}"
    if service["loop"]:
        yield f"{service['loop']}, {service['interface']}" if service["interface"] else service["loop"]
    yield from service["addresses"]
    if not service["is_sidecar"]:
        yield service["target"]


def _tiles(service: Mapping[str, Any], now: Values, *, is_program: bool) -> list[Snapshot]:
    texts = {
        "rate": (quantities.rate(now.rate), _in_flight(service)),
        "latency": (quantities.lag(now.p50), quantities.lag(now.p99)),
        "busy": (quantities.share(now.busy), ""),
        "queue": (quantities.count(now.queue), ""),
        "memory": (quantities.size(now.memory), ""),
        "offload": _offloaded(service),
    }
    shown = [(key, title) for key, title in TILES if not is_program or key in _TILES_OF_PROGRAMS]
    if offloaded(service) is None:
        shown = [(key, title) for key, title in shown if key != "offload"]
    return [{"key": key, "title": title, "text": texts[key][0], "more": texts[key][1]} for key, title in shown]


def _offloaded(service: Mapping[str, Any]) -> tuple[str, str]:
    """Return how many calls run, and how many wait; of several pools that have started, for each."""
    started = [pool for pool in pools_of(service) if pool["has_started"]]
    running, waiting = (sum(pool[key] for pool in started) for key in ("running", "waiting"))
    if len(started) > 1:
        each = (f"{one['pool']}: {one['running']} running, {one['waiting']} waiting" for one in started)
        return f"{quantities.count(running)} running", "; ".join(each)
    return f"{quantities.count(running)} running", f"{quantities.count(waiting)} waiting"


def _in_flight(service: Mapping[str, Any]) -> str:
    known = [worker["in_flight"] for worker in service["workers"] if worker["in_flight"] is not None]
    return f"{sum(known)} in flight" if known else ""


def _worker(service: str, worker: Mapping[str, Any], history: History) -> Snapshot:
    stalled = worker["stalled"]
    state = worker["state"] if stalled is None else "stalled"
    return {
        "slot": worker["slot"],
        "name": f"{service}/{worker['slot']}",
        "state": state,
        "detail": _detail(worker),
        "where": worker["where"] or "",
        "pid": worker["pid"],
        "busy": worker["busy"],
        "busy_text": quantities.share(worker["busy"]),
        "cells": _cells(worker),
        "now": list(history.newest(service, worker["slot"])),
    }


def _detail(worker: Mapping[str, Any]) -> str:
    """Return what the state of a worker does not say: for how long it has stalled, or why it is not ready."""
    if worker["stalled"] is not None:
        return f"for {quantities.lag(worker['stalled'])}"
    return f"not ready: {worker['not_ready']}" if worker.get("not_ready") else ""


def _cells(worker: Mapping[str, Any]) -> list[str]:
    """Return the texts of `CELLS`."""
    return [
        quantities.rate(worker["requests_per_second"]),
        quantities.count(worker["in_flight"]),
        quantities.count(worker["connections"]),
        quantities.count(worker["queue"]),
        quantities.lag(worker["lag_p99"]),
        quantities.size(worker["memory"]),
        quantities.count(worker["restarts"]),
        quantities.duration(worker["up"]),
        quantities.count(worker["pid"]),
    ]


def _configuration(service: Mapping[str, Any], configured: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Return key and value of the options in force: those that a status tells, then others that were set."""
    found = dict(_told(service))
    found.update({key: value for key, value in configured if key not in found})
    return [[key, value] for key, value in found.items()]


def _told(service: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield "target", service["target"]
    if service["kind"] == "application":
        yield "loop", service["loop"]
        yield "interface", service["interface"]
    yield "bind", ", ".join(service["addresses"]) or quantities.UNKNOWN
    yield "workers", str(service["wanted"])
    yield "ready_min", str(service["ready_min"])
    if service["kind"] == "application":
        yield "max_connections", str(service["max_connections"] or "no limit")
        yield "backlog", str(service["backlog"])
    yield "depends", ", ".join(service["depends"]) or "none"
