"""The hints that are logged with the demonstration."""

from __future__ import annotations

import logging

import pytest

from hybrid.demonstration.hints import Hints, hints_for, logging_hints
from hybrid.workers.contract.log import LOGGER_NAME


def _record(message: str, *values: object) -> logging.LogRecord:
    return logging.LogRecord(LOGGER_NAME, logging.INFO, __file__, 1, message, values, None)


@pytest.mark.parametrize(
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
    hints = Hints()
    ready = _record("%s", "serving with 2 workers")
    assert hints.filter(_record("listening on %s", "127.0.0.1:9000"))
    assert hints.filter(ready)
    lines = ready.getMessage().splitlines()
    assert lines[:2] == ["serving with 2 workers", "try: curl http://127.0.0.1:9000/who"]


def test_other_records_stay_as_they_are() -> None:
    record = _record("worker %d died", 3)
    assert Hints().filter(record)
    assert record.getMessage() == "worker 3 died"


def test_the_logger_is_restored() -> None:
    logger = logging.getLogger(LOGGER_NAME)
    before = list(logger.filters)
    with logging_hints():
        assert len(logger.filters) == len(before) + 1
    assert logger.filters == before
