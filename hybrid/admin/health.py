"""Whether the services are ready, from a status of the supervisor. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

Status = Mapping[str, Any]
STALLED: Final = 1.0
"""Seconds. A worker whose loop has not turned for so long does not serve."""


def why_not_ready(status: Status) -> list[str]:
    """Return the reasons why the services should get no new connections; none if they are ready."""
    if status["phase"] == "stopping":
        return ["the supervisor is stopping"]
    reasons = [f"the supervisor is {status['phase']}"] if status["phase"] in ("new", "ended") else []
    for service in status["services"]:
        if not service["is_sidecar"] and service["ready_min"]:
            reasons += _why_not(service)
    return reasons


def _why_not(service: Mapping[str, Any]) -> Iterator[str]:
    name, needed = service["name"], service["ready_min"]
    if service["phase"] in ("waiting", "stopping", "ended", "failed"):
        yield f"{name}: it is {service['phase']}" if service["failure"] is None else f"{name}: {service['failure']}"
        return
    serving = sum(_serves(worker) for worker in service["workers"])
    if serving < needed:
        yield f"{name}: {serving} workers serve, {needed} must"
        for worker in service["workers"]:
            if worker.get("not_ready"):
                yield f"{name}/{worker['slot']}: {worker['not_ready']}"


def _serves(worker: Mapping[str, Any]) -> bool:
    is_stalled = worker["stalled"] is not None and worker["stalled"] >= STALLED
    return worker["state"] == "ready" and not is_stalled and not worker.get("not_ready")
