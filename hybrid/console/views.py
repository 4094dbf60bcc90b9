"""The status of a supervisor as objects, from JSON values of which any may be missing, null or of another type.

A newer server may send more, an older one less: unknown fields are ignored, and a field that is not there is None or
empty. All text is escaped for a terminal here.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from hybrid.console.safe import safe


@dataclasses.dataclass(frozen=True, slots=True)
class Worker:
    """One worker or companion, or a slot that waits for its next one. Numbers are None where they are unknown."""

    service: str
    slot: str
    address: tuple[Any, Any]
    """Service and slot as the server sent them, for a request."""
    pid: float | None
    state: str
    """As the server names it; `stalled` for one whose loop does not turn."""
    up: float | None
    """Seconds."""
    where: str
    """The line in which a stalled worker is, or why the application is not ready."""
    busy: float | None
    """0 to 1."""
    rate: float | None
    """Requests per second."""
    in_flight: float | None
    connections: float | None
    queue: float | None
    lag: float | None
    """Seconds."""
    memory: float | None
    """Bytes."""
    restarts: float | None
    is_companion: bool = False
    """True if it runs a function beside the workers."""

    @property
    def label(self) -> str:
        """The name of the worker: `web/0`."""
        return f"{self.service}/{self.slot}"


@dataclasses.dataclass(frozen=True, slots=True)
class Reload:
    """The last reload."""

    outcome: str
    reason: str
    at: float | None
    """UNIX time, by the clock of the server, as all times here."""


@dataclasses.dataclass(frozen=True, slots=True)
class Death:
    """The last worker that died."""

    slot: str
    how: str
    at: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster that runs the offloaded calls of a service."""

    scheduler: str
    is_connected: bool | None
    """None: it is not known yet."""
    trouble: str
    since: float | None
    """UNIX time."""
    in_flight: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    """One service."""

    name: str
    phase: str
    target: str
    loop: str
    """Empty for a program."""
    generation: float | None
    addresses: tuple[str, ...]
    wanted: float | None
    ready: float | None
    is_reloading: bool
    depends: tuple[str, ...]
    last_reload: Reload | None
    last_death: Death | None
    failure: str
    """Why it has failed; empty if it has not."""
    workers: tuple[Worker, ...]
    cluster: Cluster | None = None
    """Where offloaded calls run; None: on this machine, or there are none."""


@dataclasses.dataclass(frozen=True, slots=True)
class Status:
    """A supervisor at one moment."""

    name: str
    pid: float | None
    version: str
    python: str
    phase: str
    up: float | None
    at: float | None
    services: tuple[Service, ...]

    @property
    def workers(self) -> tuple[Worker, ...]:
        """Of all services."""
        return tuple(worker for service in self.services for worker in service.workers)


def status_of(fields: Mapping[str, Any]) -> Status:
    """Return the status in the result of the request `status`. Raises nothing, whatever it has."""
    return Status(
        name=text(fields.get("name")),
        pid=number(fields.get("pid")),
        version=text(fields.get("version")),
        python=text(fields.get("python")),
        phase=text(fields.get("phase")),
        up=number(fields.get("up")),
        at=number(fields.get("at")),
        services=tuple(_service(one) for one in rows(fields.get("services"))),
    )


def _service(fields: Mapping[str, Any]) -> Service:
    return Service(
        name=text(fields.get("name")),
        phase=text(fields.get("phase")),
        target=text(fields.get("target")),
        loop=text(fields.get("loop")),
        generation=number(fields.get("generation")),
        addresses=texts(fields.get("addresses")),
        wanted=number(fields.get("wanted")),
        ready=number(fields.get("ready")),
        is_reloading=fields.get("is_reloading") is True,
        depends=texts(fields.get("depends")),
        last_reload=_reload(fields.get("last_reload")),
        last_death=_death(fields.get("last_death")),
        failure=_failure(fields.get("failure")),
        workers=(
            *(_worker(fields.get("name"), one) for one in rows(fields.get("workers"))),
            *(_companion(fields.get("name"), one) for one in rows(fields.get("companions"))),
        ),
        cluster=_cluster(fields.get("offload")),
    )


def _cluster(offload: object) -> Cluster | None:
    fields = offload.get("cluster") if isinstance(offload, dict) else None
    if not isinstance(fields, dict):
        return None
    connected = fields.get("connected")
    return Cluster(
        scheduler=text(fields.get("scheduler")),
        is_connected=connected if isinstance(connected, bool) else None,
        trouble=text(fields.get("trouble")),
        since=number(fields.get("since")),
        in_flight=number(fields.get("in_flight")),
    )


def _companion(service: object, fields: Mapping[str, Any]) -> Worker:
    return dataclasses.replace(_worker(f"{service}.{fields.get('companion')}", fields), is_companion=True)


def _worker(service: object, fields: Mapping[str, Any]) -> Worker:
    is_stalled = number(fields.get("stalled")) is not None
    return Worker(
        service=text(service),
        slot=text(fields.get("slot")),
        address=(service, fields.get("slot")),
        pid=number(fields.get("pid")),
        state="stalled" if is_stalled else text(fields.get("state")),
        up=number(fields.get("up")),
        where=text(fields.get("where")) or _not_ready(fields.get("not_ready")),
        busy=number(fields.get("busy")),
        rate=number(fields.get("requests_per_second")),
        in_flight=number(fields.get("in_flight")),
        connections=number(fields.get("connections")),
        queue=number(fields.get("queue")),
        lag=number(fields.get("lag_p99")),
        memory=number(fields.get("memory")),
        restarts=number(fields.get("restarts")),
    )


def _not_ready(reason: object) -> str:
    return "" if reason is None else f"not ready: {text(reason)}"


def _reload(value: object) -> Reload | None:
    match value:
        case Mapping() as fields:
            return Reload(text(fields.get("outcome")), text(fields.get("reason")), number(fields.get("at")))
    return None


def _death(value: object) -> Death | None:
    match value:
        case Mapping() as fields:
            return Death(text(fields.get("slot")), text(fields.get("how")), number(fields.get("at")))
    return None


def _failure(value: object) -> str:
    match value:
        case Mapping() as fields:
            return text(fields.get("reason")) or "failed"
    return text(value)


def number(value: object) -> float | None:
    """Return a finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def text(value: object) -> str:
    """Return a value in one line, safe for a terminal; null is empty."""
    return "" if value is None else safe(str(value))


def texts(value: object) -> tuple[str, ...]:
    """Return a list of texts; empty for anything else."""
    return tuple(text(one) for one in value) if isinstance(value, list) else ()


def rows(value: object) -> list[Mapping[str, Any]]:
    """Return the objects of a list; empty for anything else."""
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []
