"""The access log: its forms, protection against forged lines, and output that never blocks."""

from __future__ import annotations

import base64
import dataclasses
import fcntl
import json
import logging
import os
import re
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.leaks import Owned
from support.rows import for_each

from hybrid.workers.http.access.line import LINE_LIMIT, names_answer_fields
from hybrid.workers.http.access.log import AccessLog, AccessRecord, check_format, formatter
from hybrid.workers.http.access.record import End

LONG = b"/" + b"a" * 1000
NOON = 1_795_435_200.25  # 2026-11-23 12:00:00.250 UTC
EVERYTHING = " ".join(f"%({letter})s" for letter in "hlutrmUqHsBbfaTDMLpX") + " %({cookie}i)s %({x}o)s %({HTTP_X}e)s"


def record(**changes: Any) -> AccessRecord:
    plain = AccessRecord(
        client=("192.0.2.1", 4711),
        method="GET",
        target=b"/a/b?c=d",
        version="1.1",
        status=200,
        sent=13,
        seconds=1.234567,
        request_headers=[(b"host", b"example.com"), (b"user-agent", b"curl/8"), (b"referer", b"http://r/")],
        head=b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nserver:hybrid\r\n\r\n",
        scheme="https",
        time=NOON,
    )
    return dataclasses.replace(plain, **changes)


def said(form: str, **changes: Any) -> str:
    return formatter(form)(record(**changes))


def basic(credentials: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", b"Basic " + base64.b64encode(credentials))]


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    def choose(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield choose
    monkeypatch.undo()
    time.tzset()


# -- forms


def test_the_common_and_the_combined_form(zone: Callable[[str], None]) -> None:
    zone("UTC")
    common = '192.0.2.1 - - [23/Nov/2026:12:00:00 +0000] "GET /a/b?c=d HTTP/1.1" 200 13'
    assert said("common", time=NOON) == common
    assert said("combined", time=NOON) == common + ' "http://r/" "curl/8"'


@pytest.mark.parametrize(("name", "stamp"), [("EST5", "07:00:00 -0500"), ("IST-5:30", "17:30:00 +0530")])
def test_the_time_is_local_with_its_zone(name: str, stamp: str, zone: Callable[[str], None]) -> None:
    zone(name)
    assert said("%(t)s", time=NOON + len(name)) == f"[23/Nov/2026:{stamp.replace(':00 ', f':0{len(name)} ')}]"


@for_each(
    ("atom", "text"),
    [
        ("%(h)s", "192.0.2.1"),
        ("%(l)s", "-"),
        ("%(u)s", "-"),
        ("%(r)s", "GET /a/b?c=d HTTP/1.1"),
        ("%(m)s", "GET"),
        ("%(U)s", "/a/b"),
        ("%(q)s", "c=d"),
        ("%(H)s", "HTTP/1.1"),
        ("%(s)s", "200"),
        ("%(B)s", "13"),
        ("%(b)s", "13"),
        ("%(f)s", "http://r/"),
        ("%(a)s", "curl/8"),
        ("%(T)s", "1"),
        ("%(M)s", "1234"),
        ("%(D)s", "1234567"),
        ("%(L)s", "1.234567"),
        ("%({Host}i)s", "example.com"),
        ("%({cookie}i)s", "-"),
        ("%({content-type}o)s", "text/plain"),
        ("%({Server}o)s", "hybrid"),
        ("%({200 OK}o)s %({date}o)s", "- -"),
        ("%(X)s", "whole"),
        ("%({REMOTE_PORT}e)s", "4711"),
        ("%({RAW_URI}e)s", "/a/b?c=d"),
        ("%({wsgi.url_scheme}e)s", "https"),
        ("%({CONTENT_TYPE}e)s", "-"),
        ("%({HTTP_USER_AGENT}e)s", "curl/8"),
        ("100%% %(s)s%%", "100% 200%"),
    ],
)
def test_an_atom_is_replaced_by_its_value(atom: str, text: str) -> None:
    assert said(atom) == text


@pytest.mark.parametrize(
    ("form", "wanted"), [("json", False), ("%({o}i)s %(b)s", False), ("%%({x}o)s %(b)s", False), ("%({x}o)s", True)]
)
def test_the_response_head_is_needed_if_one_of_its_fields_is_named(form: str, wanted: bool) -> None:
    assert names_answer_fields(form) is wanted


def test_p_is_the_process_id() -> None:
    assert said("%(p)s") == f"<{os.getpid()}>"


def test_an_empty_body_is_a_dash_in_b_and_a_zero_in_capital_b() -> None:
    assert said("%(b)s %(B)s", sent=0) == "- 0"


def test_the_peer_of_a_unix_socket_is_a_dash() -> None:
    assert said("%(h)s %({REMOTE_PORT}e)s", client=None) == "- -"


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [(b"*", "*", "-"), (b"http://a/b?c", "/b", "c"), (b"http://a", "/", "-"), (b"/?x=http://y", "/", "x=http://y")],
)
def test_path_and_query_of_every_form_of_target(target: bytes, path: str, query: str) -> None:
    assert said("%(U)s %(q)s", target=target) == f"{path} {query}"


@for_each(
    ("headers", "user"),
    [
        (basic(b"ann:secret"), "ann"),
        (basic(b"a b\n:x"), "a\\x20b\\x0a"),
        (basic(b":x"), "-"),
        ([(b"authorization", b"Bearer ann")], "-"),
        ([(b"authorization", b"basic YW5uOnNlY3JldA==")], "ann"),
        ([(b"authorization", b"Basic \xff!")], "-"),
        ([(b"authorization", b"Basic a")], "-"),
    ],
)
def test_the_user_is_taken_from_basic_authentication(headers: list[tuple[bytes, bytes]], user: str) -> None:
    assert said("%(u)s", request_headers=headers) == user


def test_json_has_all_values_and_the_labels() -> None:
    line = formatter("json", {"service": 'we"b', "slot": 0})(record())
    assert json.loads(line) == {
        "time": "2026-11-23T12:00:00.250Z",
        "client": "192.0.2.1",
        "port": 4711,
        "user": None,
        "scheme": "https",
        "host": "example.com",
        "method": "GET",
        "target": "/a/b?c=d",
        "version": "1.1",
        "status": 200,
        "bytes": 13,
        "seconds": 1.234567,
        "end": "whole",
        "referer": "http://r/",
        "user_agent": "curl/8",
        "service": 'we"b',
        "slot": 0,
    }


def test_json_has_null_for_missing_values() -> None:
    fields = json.loads(said("json", client=None, request_headers=[]))
    assert {name for name, value in fields.items() if value is None} == {
        "client",
        "port",
        "user",
        "host",
        "referer",
        "user_agent",
    }


def test_an_unknown_request_has_dashes_and_nulls() -> None:
    unknown: dict[str, Any] = {"method": "", "target": b"", "version": "", "status": 0, "request_headers": []}
    assert said('"%(r)s" %(m)s %(U)s %(q)s %(H)s %(s)s', **unknown) == '"-" - - - - -'
    fields = json.loads(said("json", **unknown))
    assert [fields[name] for name in ("method", "target", "version", "status")] == [None] * 4


@pytest.mark.parametrize("end", End)
def test_the_end_of_a_response_is_a_word(end: End) -> None:
    assert said("%(X)s", end=end) == end.value
    assert json.loads(said("json", end=end))["end"] == end.value


@for_each(
    ("form", "reason"),
    [
        ("", "only printable ASCII"),
        ("%(h)s\n", "only printable ASCII"),
        ("%(h)s é", "only printable ASCII"),
        ("%(h)s" * 300, "at most 1024 characters"),
        ("comon", "neither common, combined nor json"),
        ("100%%", "neither common, combined nor json"),
        ("%(x)s", r"unknown %\(x\)s; known are h l u t"),
        ("%(h)d", r"'%\(h\)d' is not"),
        ("%(h)s %h", "'%h' is not"),
        ("%(h)s 5%", "'%' is not"),
        ("%(status)s", r"'%\(status\)s' is not"),
        ("%({a}x)s", "is not"),
        ("%({}i)s", "is not"),
        ("%({PATH}e)s", r"unknown variable 'PATH'; known are HTTP_\* and REMOTE_ADDR"),
    ],
)
def test_an_invalid_format_is_refused_at_the_start(form: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_format(form)


@pytest.mark.parametrize("form", ["common", "combined", "json", EVERYTHING])
def test_valid_formats_pass_the_check(form: str) -> None:
    check_format(form)


# -- -- values chosen by clients


def test_quotes_backslashes_controls_and_non_ascii_characters_are_escaped() -> None:
    headers = [(b"user-agent", b'" 200 1\r\n127.0.0.1 \\ \x00\x1b[2J\x7f\xc3\xa9')]
    expected = r"\" 200 1\x0d\x0a127.0.0.1 \\ \x00\x1b[2J\x7f\xc3\xa9"
    assert said('"%(a)s"', request_headers=headers) == f'"{expected}"'
    assert said("%({user-agent}i)s", request_headers=headers) == expected
    assert said("%({x}o)s", head=b'HTTP/1.1 200 OK\r\nX: a"\n\r\n\r\n') == r"a\"\x0a"


def test_the_longest_values_of_a_line_that_is_too_long_are_truncated() -> None:
    line = said("combined", target=b"/" + b"a" * 8000, request_headers=[(b"user-agent", b"curl/8")])
    assert len(line) <= LINE_LIMIT
    assert re.search(r'"GET /a{1000,}\.\.\." 200 13 "-" "curl/8"$', line)


def test_a_line_with_too_many_values_is_truncated_at_its_end() -> None:
    assert len(said("%(r)s" * 200, target=LONG)) == LINE_LIMIT


def test_a_json_line_that_is_too_long_stays_json() -> None:
    line = said("json", target=b"\x00" * 8000, request_headers=[(b"user-agent", b"\xff" * 8000), (b"host", b"a")])
    assert len(line) <= LINE_LIMIT
    fields = json.loads(line)
    assert fields["target"] == "\x00" * (len(fields["target"]) - 3) + "..."
    assert (fields["host"], fields["status"]) == ("a", 200)


names = st.sampled_from([b"host", b"user-agent", b"referer", b"authorization", b"cookie", b"x"])
values = st.binary(max_size=40) | st.integers(0, 9000).map(lambda size: b'\\"' * (size // 2))
pairs = st.lists(st.tuples(names, values), max_size=6)
records = st.builds(
    record,
    target=values,
    method=st.text(max_size=20),
    client=st.none() | st.tuples(st.text(max_size=20), st.integers(0, 65535)),
    request_headers=pairs | st.binary(max_size=30).map(basic),
    head=values,
    time=st.floats(0, 4e9),
)


@given(records, st.sampled_from(["common", "combined", "json", EVERYTHING]))
def test_every_record_makes_one_line_of_printable_ascii(answered: AccessRecord, form: str) -> None:
    line = formatter(form, {"slot": 1})(answered)
    assert line.isascii()
    assert line.isprintable()
    assert len(line) <= LINE_LIMIT
    if form == "json":
        assert json.loads(line)["slot"] == 1


@given(records)
def test_the_fields_of_a_combined_line_are_always_in_their_place(answered: AccessRecord) -> None:
    text = r"(?:[^\"\\]|\\.)*"
    pattern = rf'\S+ - \S+ \[[^\]]+\] "{text}" 200 13 "{text}" "{text}"'
    assert re.fullmatch(pattern, formatter("combined")(answered))


# -- -- output ----


@dataclasses.dataclass
class Pipe:
    """A pipe with room for one page."""

    reader: int
    writer: int

    def read(self) -> list[bytes]:
        parts = []
        try:
            while part := os.read(self.reader, 65536):
                parts.append(part)
        except BlockingIOError:
            pass
        return b"".join(parts).splitlines(keepends=True)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    owned = Owned(reader, writer)
    yield Pipe(reader, writer)
    owned.close()


@pytest.fixture
def opened() -> Iterator[Callable[..., AccessLog]]:
    logs: list[AccessLog] = []

    def open_log(fd: int, form: str = "%(U)s", labels: dict[str, object] | None = None) -> AccessLog:
        logs.append(AccessLog(form, labels or {}, fd))
        return logs[-1]

    yield open_log
    for log in logs:
        log.close()


Open = Callable[..., AccessLog]


def fill(log: AccessLog, lines: int = 100) -> None:
    for _ in range(lines):
        log.write(record(target=LONG))


def test_a_record_is_one_line(pipe: Pipe, opened: Open) -> None:
    log = opened(pipe.writer)
    log.write(record())
    log.write(record(target=b"/second"))
    assert pipe.read() == [b"/a/b\n", b"/second\n"]


def test_a_json_line_names_the_worker(pipe: Pipe, opened: Open) -> None:
    opened(pipe.writer, "json", {"service": "web", "slot": 3}).write(record())
    fields = json.loads(pipe.read()[0])
    assert (fields["service"], fields["slot"], fields["pid"]) == ("web", 3, os.getpid())


def test_an_unknown_form_is_refused_and_opens_nothing(pipe: Pipe) -> None:
    with pytest.raises(ValueError, match="unknown"):
        AccessLog("%(x)s", {}, pipe.writer)


def test_a_full_pipe_drops_whole_lines_and_reports_their_number_later(
    pipe: Pipe, opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    log = opened(pipe.writer)
    fill(log)
    kept = pipe.read()
    assert log.lost == 100 - len(kept)
    assert set(kept) == {LONG + b"\n"}
    log.write(record(target=b"/again"))
    assert pipe.read() == [b"/again\n"]
    assert [entry.getMessage() for entry in caplog.records] == [
        f"{log.lost} lines of the access log lost: they were not read"
    ]


def test_losses_are_reported_at_most_every_ten_seconds(
    pipe: Pipe, opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    log = opened(pipe.writer)
    for later in (0, 1, 2, 11):
        fill(log)
        pipe.read()
        log.write(record(time=NOON + later))
        pipe.read()
    told = [int(entry.getMessage().split()[0]) for entry in caplog.records]
    assert len(told) == 2
    assert sum(told) == log.lost


def test_losses_are_reported_at_the_end(pipe: Pipe, opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    log = opened(pipe.writer)
    fill(log)
    log.close()
    assert f"{log.lost} lines" in caplog.text


def test_the_inherited_descriptor_stays_blocking(pipe: Pipe, opened: Open) -> None:
    opened(pipe.writer).write(record())
    assert os.get_blocking(pipe.writer)


def test_a_lost_reader_switches_the_log_off_with_one_error(
    pipe: Pipe, opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    log = opened(pipe.writer)
    os.close(pipe.reader)
    fill(log)
    assert [(entry.levelno, entry.getMessage()) for entry in caplog.records] == [
        (logging.ERROR, "access log switched off, its output is gone: Broken pipe")
    ]


def test_a_missing_reader_switches_the_log_off_too(pipe: Pipe, opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    os.close(pipe.reader)
    fill(opened(pipe.writer))
    assert caplog.messages == ["access log switched off, its output is gone: Broken pipe"]


def test_an_output_that_cannot_be_reopened_is_polled_first(
    tmp_path: Path, opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """For example, a named pipe without a reader: the log writes to the given descriptor."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(path, os.O_WRONLY)
    os.close(reader)
    log = opened(writer)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    fill(log)
    taken = os.read(reader, 1_000_000)
    assert (set(taken.split(b"\n")), log.lost) == ({LONG, b""}, 100 - taken.count(b"\n"))
    os.close(reader)
    fill(log)
    os.close(writer)
    assert "access log switched off, its output is gone: Broken pipe" in caplog.messages


def test_a_closed_log_writes_nothing_and_leaves_the_descriptor_open(pipe: Pipe, opened: Open) -> None:
    log = opened(pipe.writer)
    log.close()
    log.close()
    log.write(record())
    os.write(pipe.writer, b"still open")
    assert pipe.read() == [b"still open"]


def test_no_descriptor_is_leaked(pipe: Pipe, opened: Open) -> None:
    before = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208
    opened(pipe.writer).close()
    assert sorted(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_closed_output_is_refused() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    with pytest.raises(OSError, match="Bad file descriptor"):
        AccessLog("common", {}, writer)


def test_a_socket_without_a_reader_drops_lines_and_never_blocks(opened: Open) -> None:
    near, far = socket.socketpair()
    with near, far:
        log = opened(near.fileno())
        fill(log, 5000)
        assert 0 < log.lost < 5000
        far.setblocking(False)
        taken = far.recv(10_000_000)
        assert set(taken.split(b"\n")) == {LONG, b""}


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """Limit the size of this process's files: the only way to have a write cut short at a chosen byte.

    Only for a single write: the output of the tests may be a file too.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))  # Python ignores SIGXFSZ, so write(2) says EFBIG
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_partially_written_line_is_finished_before_the_next(tmp_path: Path, opened: Open) -> None:
    path = tmp_path / "access.log"
    with path.open("wb") as file:
        log = opened(file.fileno())
        with files_end_at(5):
            log.write(record(target=b"/first"))
        assert path.read_bytes() == b"/firs"
        with files_end_at(9):
            log.write(record(target=b"/second"))
        assert path.read_bytes() == b"/first\n/s"
        log.write(record(target=b"/third"))
    assert path.read_bytes() == b"/first\n/second\n/third\n"
    assert log.lost == 0


def test_a_partial_line_is_finished_at_the_end(tmp_path: Path, opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "access.log"
    with path.open("wb") as file:
        log = opened(file.fileno())
        with files_end_at(5):
            log.write(record(target=b"/first"))
            log.write(record(target=b"/lost"))
        log.close()
    assert path.read_bytes() == b"/first\n"
    assert log.lost == 1
    text = "1 lines of the access log lost: they could not be written (is the disk full?)"
    assert [entry.getMessage() for entry in caplog.records] == [text]


def test_a_full_file_system_drops_lines_and_the_log_continues(opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        log = opened(fd)
        fill(log, 3)
        assert log.lost == 3
        assert caplog.messages == []
    finally:
        os.close(fd)


def test_a_file_gets_every_line(tmp_path: Path, opened: Open) -> None:
    path = tmp_path / "access.log"
    with path.open("wb") as file:
        fill(opened(file.fileno()), 50)
    assert path.read_bytes() == (LONG + b"\n") * 50
