"""The log: one format, and a stderr that never blocks."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator

import pytest
from support.leaks import Owned

from hybrid.workers.contract import log
from hybrid.workers.contract.lines import LOSSES


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    owned = Owned(read_end, write_end)
    yield read_end, write_end
    owned.close()


def read(fd: int) -> str:
    parts = []
    try:
        while part := os.read(fd, 65536):
            parts.append(part)
    except BlockingIOError:
        pass
    return b"".join(parts).decode()


def test_a_text_line_names_time_level_place_pid_and_message(pipe: tuple[int, int]) -> None:
    logger = log.configure("text", "info", {"service": "web", "slot": 1, "generation": 2}, pipe[1])
    logger.info("ready on %s", "epoll")
    pattern = rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{{3}} INFO     web/1 gen=2 pid={os.getpid()} ready on epoll\n"
    assert re.fullmatch(pattern, read(pipe[0]))


def test_a_line_about_a_worker_names_the_worker(pipe: tuple[int, int]) -> None:
    logger = log.configure("text", "info", {"service": "web"}, pipe[1])
    logger.warning("worker died", extra={"slot": 3, "generation": 1, "subject_pid": 42})
    logger.info("serving")
    first, second = read(pipe[0]).splitlines()
    assert first.endswith("WARNING  web/3 gen=1 pid=42 worker died")
    assert second.endswith(f"INFO     web pid={os.getpid()} serving")


def test_without_labels_the_service_is_a_dash(pipe: tuple[int, int]) -> None:
    log.configure("text", "info", {}, pipe[1]).info("x")
    assert " - pid=" in read(pipe[0])


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_traceback_follows_its_record(form: str, pipe: tuple[int, int]) -> None:
    logger = log.configure(form, "info", {"service": "web"}, pipe[1])
    try:
        raise LookupError("over\nthere")
    except LookupError:
        logger.exception("failed")
    written = read(pipe[0])
    assert "LookupError: over" in written
    if form == "text":
        first, *others = written.splitlines()
        assert first.endswith("failed")
        assert all(line.startswith("    ") for line in others)
    else:
        assert "Traceback" in json.loads(written)["traceback"]


def test_a_message_of_several_lines_is_indented(pipe: tuple[int, int]) -> None:
    log.configure("text", "info", {}, pipe[1]).info("one\ntwo")
    assert read(pipe[0]).endswith("one\n    two\n")


def test_json_has_the_same_facts(pipe: tuple[int, int]) -> None:
    logger = log.configure("json", "info", {"service": "web", "slot": 1, "generation": 2}, pipe[1])
    logger.error("a\nb %s", {"odd"}, extra={"slot": 7})
    line = read(pipe[0])
    assert line.count("\n") == 1
    fields = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", fields.pop("time"))
    expected = {"level": "error", "service": "web", "slot": 7, "generation": 2, "pid": os.getpid()}
    assert fields == {**expected, "message": "a\nb {'odd'}"}


def test_levels_below_the_one_configured_are_silent(pipe: tuple[int, int]) -> None:
    logger = log.configure("text", "warning", {}, pipe[1])
    logger.info("silent")
    logger.warning("heard")
    assert read(pipe[0]).count("\n") == 1


def test_configuring_again_replaces_the_handler_and_spares_the_root(pipe: tuple[int, int]) -> None:
    root = logging.getLogger().handlers[:]
    log.configure("json", "info", {}, pipe[1])
    logger = log.configure("text", "info", {}, pipe[1])
    logger.info("once")
    assert read(pipe[0]).count("once") == 1
    assert logging.getLogger().handlers == root
    assert not logger.propagate


def test_unknown_forms_and_levels_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown log format 'xml': use one of text, json"):
        log.configure("xml", "info", {})
    with pytest.raises(ValueError, match="LOUD"):
        log.configure("text", "loud", {})


def test_a_broken_format_is_logged_and_raises_nothing(pipe: tuple[int, int]) -> None:
    log.configure("text", "info", {}, pipe[1]).info("%d workers", "many")
    assert read(pipe[0]).endswith(" (unformattable log record) '%d workers'\n")


def test_invalid_unicode_is_escaped(pipe: tuple[int, int]) -> None:
    log.configure("text", "info", {}, pipe[1]).info("file %s", "\udcff")
    assert read(pipe[0]).endswith("file \\udcff\n")


def test_a_full_pipe_never_blocks_and_lost_records_are_counted(pipe: tuple[int, int]) -> None:
    logger = log.configure("text", "info", {}, pipe[1])
    before = LOSSES.lines
    for number in range(1000):
        logger.info("%d %s", number, "x" * 1000)
    first = read(pipe[0])
    assert LOSSES.lines - before == 1000 - first.count("\n")
    seen = first.count("\n")
    assert 0 < seen < 1000
    logger.info("again")
    lines = read(pipe[0]).splitlines()
    assert lines[0].endswith(f" {1000 - seen} log records lost: nobody read them")
    assert lines[1].endswith("again")
    logger.info("and on")
    assert len(read(pipe[0]).splitlines()) == 1


def test_a_record_longer_than_the_pipe_is_cut_off_and_never_blocks(pipe: tuple[int, int]) -> None:
    logger = log.configure("text", "info", {}, pipe[1])
    logger.info("x" * 1_000_000)
    assert 0 < len(read(pipe[0])) < 1_000_000


@pytest.mark.parametrize("end", [0, 1], ids=["reader gone", "closed"])
def test_a_stderr_that_is_gone_is_no_error(end: int, pipe: tuple[int, int]) -> None:
    logger = log.configure("text", "info", {}, pipe[1])
    os.close(pipe[end])
    logger.info("into the void")


def test_poll_is_the_c_librarys_also_where_gevent_has_patched_it(pipe: tuple[int, int]) -> None:
    import select

    class Patched:
        saved: dict[str, dict[str, Callable[[], object]]] = {"select": {"poll": select.epoll}}  # noqa: RUF012

    before = sys.modules.get("gevent.monkey")
    sys.modules["gevent.monkey"] = Patched  # type: ignore[assignment]
    try:
        assert log.unpatched("poll") is select.epoll
    finally:
        if before is None:
            del sys.modules["gevent.monkey"]
        else:
            sys.modules["gevent.monkey"] = before


def test_a_text_line_moves_no_cursor_and_forges_no_line(pipe: tuple[int, int]) -> None:
    logger = log.configure("text", "info", {"service": "web"}, pipe[1])
    text = "\x1b[2Joops\r2026-01-01 INFO forged\x07\u2028"
    try:
        raise ValueError(text)
    except ValueError as error:
        logger.error("failed: %s", error, exc_info=error)
    text = read(pipe[0])
    assert text.replace("\n", "").isprintable()
    assert text.count(r"\x1b[2Joops\r2026-01-01 INFO forged\x07\u2028") == 2


def test_tabs_and_newlines_of_a_message_stay(pipe: tuple[int, int]) -> None:
    log.configure("text", "info", {"service": "web"}, pipe[1]).info("one\ttwo\nthree")
    assert read(pipe[0]).endswith(" one\ttwo\n    three\n")


def test_every_line_of_json_parses_whatever_happens(pipe: tuple[int, int]) -> None:
    """Bad format strings, bad arguments, cycles, records that are too long, and records that were lost."""

    class Bad:
        def __repr__(self) -> str:
            raise ValueError

    logger = log.configure("json", "info", {"service": "web"}, pipe[1])
    logging.getLogger("shop").handlers = logger.handlers[:]
    cycle: list[object] = []
    cycle.append(cycle)
    try:
        raise LookupError("y" * 100_000)
    except LookupError:
        for _ in range(100):
            logger.info("%d", Bad())
            logger.info(Bad())
            logger.exception("x" * 100_000)
            logging.getLogger("shop").warning("x", extra={"cycle": cycle, "nan": float("nan"), "service": Bad()})
    first = read(pipe[0])
    logger.info("again")
    found = [json.loads(line) for line in (first + read(pipe[0])).splitlines()]
    logging.getLogger("shop").handlers.clear()
    assert found[-1]["message"] == "again"
    assert "log records lost" in found[-2]["message"]
    assert any("characters cut) ..." in one["message"] and one["traceback"].endswith("yyy\n") for one in found)


def test_a_record_of_the_application_names_its_logger_and_keeps_its_extra(pipe: tuple[int, int]) -> None:
    log.configure("json", "info", {"service": "web", "slot": 1, "generation": 2}, pipe[1])
    shop = logging.getLogger("shop.views")
    shop.handlers = logging.getLogger("hybrid").handlers[:]
    shop.warning("sold", extra={"price": 7, "slot": "theirs"})
    shop.handlers.clear()
    fields = json.loads(read(pipe[0]))
    assert (fields["logger"], fields["slot"], fields["extra"]) == ("shop.views", 1, {"price": 7, "slot": "theirs"})


def test_a_record_names_the_request_of_its_context(pipe: tuple[int, int]) -> None:
    token = log.REQUEST_ID.set("abc")
    log.configure("text", "info", {"service": "web"}, pipe[1]).info("x")
    log.configure("json", "info", {"service": "web"}, pipe[1]).info("x")
    log.REQUEST_ID.reset(token)
    text, line = read(pipe[0]).splitlines()
    assert text.endswith(f"pid={os.getpid()} request=abc x")
    assert json.loads(line)["request_id"] == "abc"
