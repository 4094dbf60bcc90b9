"""Whether services are ready, from a status."""

from __future__ import annotations

from typing import Any

import pytest
from support.control_peer import program, service, status, worker

from hybrid.admin.health import why_not_ready


def web(*workers: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return the status of a service with these workers."""
    return status(service(workers=list(workers), **changes))


def test_services_with_workers_enough_are_ready() -> None:
    assert why_not_ready(web(worker(0))) == []


def test_a_supervisor_that_stops_is_not_ready_though_all_serve() -> None:
    assert why_not_ready(status(phase="stopping")) == ["the supervisor is stopping"]


@pytest.mark.parametrize(
    "changes", [{"state": "booting"}, {"state": "draining"}, {"stalled": 1.0}, {"not_ready": "no database"}]
)
def test_a_worker_serves_if_it_is_ready_and_turns_and_its_check_agrees(changes: dict[str, Any]) -> None:
    assert "web: 0 workers serve, 1 must" in why_not_ready(web(worker(0, **changes)))


def test_a_short_stall_does_not_count() -> None:
    assert why_not_ready(web(worker(0, stalled=0.5))) == []


def test_the_reason_of_a_check_is_told() -> None:
    assert "web/0: no database" in why_not_ready(web(worker(0, not_ready="no database")))


def test_a_service_may_ask_for_more_workers_or_for_none() -> None:
    assert why_not_ready(web(worker(0), ready_min=2)) == ["web: 1 workers serve, 2 must"]
    assert why_not_ready(web(ready_min=0)) == []


def test_each_service_counts_but_sidecars() -> None:
    assert why_not_ready(status(service(), service("admin", workers=[], is_sidecar=True))) == []
    assert why_not_ready(status(service(), program(workers=[]))) == ["mail: 0 workers serve, 1 must"]


@pytest.mark.parametrize("phase", ["waiting", "stopping", "ended"])
def test_a_service_that_does_not_run_is_not_ready(phase: str) -> None:
    assert why_not_ready(web(worker(0), phase=phase)) == [f"web: it is {phase}"]


def test_a_failed_service_tells_why() -> None:
    assert why_not_ready(web(phase="failed", failure="no module")) == ["web: no module"]
