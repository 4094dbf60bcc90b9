"""The hints that are logged with the demonstration."""

from __future__ import annotations

import logging

import pytest
from support.rows import for_each

from hybrid.demonstration.hints import Hints, hints_for, logging_hints
from hybrid.workers.contract.log import LOGGER_NAME


def _record(message: str, *values: object, service: str = "web") -> logging.LogRecord:
    record = logging.LogRecord(LOGGER_NAME, logging.INFO, __file__, 1, message, values, None)
    record.service = service
    return record


@for_each(
    ("address", "commands"),
    [
        ("127.0.0.1:8000", ["curl http://127.0.0.1:8000/who"]),
        ("0.0.0.0:80", ["curl http://127.0.0.1:80/who"]),
        ("[::1]:8000", ["curl http://[::1]:8000/who"]),
        ("[::]:8000", ["curl http://[::1]:8000/who"]),
        ("unix:/run/x.sock", ["curl --unix-socket /run/x.sock http://localhost/who"]),
        ("unix:@name", []),
        ("udp://127.0.0.1:53", []),
    ],
)
def test_each_kind_of_address_has_its_commands(address: str, commands: list[str]) -> None:
    assert hints_for(address) == commands


def test_the_record_of_readiness_gets_the_hints() -> None:
    hints = Hints(["web"])
    ready = _record("%s", "serving with 2 workers")
    assert hints.filter(_record("listening on %s", "127.0.0.1:9000"))
    assert hints.filter(ready)
    lines = ready.getMessage().splitlines()
    assert lines[:2] == ["serving with 2 workers", "try: curl http://127.0.0.1:9000/who"]


@pytest.mark.parametrize(
    ("admin", "expected"), [("0.0.0.0:9100", ["dashboard: http://127.0.0.1:9100"]), ("unix:/run/admin", [])]
)
def test_the_dashboard_is_among_the_hints_if_a_browser_can_reach_it(admin: str, expected: list[str]) -> None:
    hints, ready = Hints(["web"]), _record("serving with 1 worker")
    assert hints.filter(_record("listening on %s", "127.0.0.1:9000"))
    assert hints.filter(_record("listening on %s", admin, service="admin"))
    assert hints.filter(ready)
    assert ready.getMessage().splitlines()[2:-1] == expected


def test_other_services_get_no_hints() -> None:
    hints, ready = Hints(["web"]), _record("serving with 1 worker", service="admin")
    assert hints.filter(_record("listening on %s", "127.0.0.1:9100", service="admin"))
    assert hints.filter(ready)
    assert ready.getMessage() == "serving with 1 worker"


def test_other_records_stay_as_they_are() -> None:
    record = _record("worker %d died", 3)
    assert Hints(["web"]).filter(record)
    assert record.getMessage() == "worker 3 died"


def test_the_logger_is_restored() -> None:
    logger = logging.getLogger(LOGGER_NAME)
    before = list(logger.filters)
    with logging_hints(["web"]):
        assert len(logger.filters) == len(before) + 1
    assert logger.filters == before
