"""What `hybrid status`, `ps` and `stacks` show: frozen texts, odd values, narrow terminals."""

from __future__ import annotations

import io
import os
import pty
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.control_peer import AT, STACKS, program, service, status, worker

from hybrid.console import quantities
from hybrid.console.layout import Column, Line, Span, Style, cells, cut, cut_line, flow, plain, table
from hybrid.console.lists import Supervisor, stacks_lines, supervisor_lines
from hybrid.console.painting import Painter, is_terminal, write
from hybrid.console.progress import ProgressLine, progress_text
from hybrid.console.safe import safe
from hybrid.console.status_text import COLUMNS, status_lines, totals
from hybrid.console.views import status_of


def shown(fields: dict[str, Any], width: int | None = None) -> list[str]:
    """Return the lines of a status."""
    return [plain(line) for line in status_lines(status_of(fields), width)]


# --- quantities


@pytest.mark.parametrize(
    ("seconds", "parts", "expected"),
    [
        (None, 1, "-"),
        (-5, 1, "0s"),
        (0.9, 1, "0s"),
        (59, 2, "59s"),
        (3_599, 1, "59m"),
        (3_599, 2, "59m 59s"),
        (3_600, 2, "1h"),
        (14_400, 1, "4h"),
        (273_841.2, 2, "3d 4h"),
        (86_400 + 59, 2, "1d"),
    ],
)
def test_durations(seconds: float | None, parts: int, expected: str) -> None:
    assert quantities.duration(seconds, parts) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"), [(None, "-"), (0, "0 ms"), (0.0004, "0.4 ms"), (0.004, "4 ms"), (2.31, "2.3 s")]
)
def test_lags(seconds: float | None, expected: str) -> None:
    assert quantities.lag(seconds) == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (None, "-"),
        (0, "0 B"),
        (2048, "2 KiB"),
        (92_274_688, "88 MiB"),
        (1_288_490_189, "1.2 GiB"),
        (2**42, "4096.0 GiB"),
    ],
)
def test_sizes(count: float | None, expected: str) -> None:
    assert quantities.size(count) == expected


@pytest.mark.parametrize(
    ("rate", "expected"), [(None, "-"), (0, "0"), (0.42, "0.4"), (9.96, "10"), (12_345.6, "12346")]
)
def test_rates(rate: float | None, expected: str) -> None:
    assert quantities.rate(rate) == expected


def test_shares() -> None:
    assert [quantities.share(value) for value in (None, 0, 0.625, 1)] == ["-", "0%", "62%", "100%"]


# --- safe text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("web", "web"),
        ("größe 店", "größe 店"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb\tc\x7f", r"a\nb\tc\x7f"),
        ("\x9b31m", r"\x9b31m"),
        ("\u202eolleh", r"\u202eolleh"),
        ("\ud800", r"\ud800"),
    ],
)
def test_control_characters_are_escaped(text: str, expected: str) -> None:
    assert safe(text) == expected


@given(st.text(st.characters()))
def test_safe_text_is_printable(text: str) -> None:
    assert safe(text).isprintable()


# --- status


def test_the_status_of_one_service() -> None:
    assert shown(status()) == [
        "shop  pid 4711  up 3d 4h  generation 7  hybrid 0.1.0  python 3.11.7  epoll  http://0.0.0.0:8000",
        "SLOT   PID   STATE    UP  BUSY  REQ/S  IN-FLIGHT  CONNS  QUEUE  LAG p99     RSS  RESTARTS",
        "web/0  4713  ready    4h   62%    812          3     41      0     4 ms  88 MiB         1",
        "web/1  4714  stalled  4h  100%      0          9     40     17    2.3 s  91 MiB         0"
        "  shop/prices.py:88 in recompute",
        "last reload: complete, 3d ago · last death: web/0 SIGKILL (out of memory?), 4h ago",
    ]


def test_the_status_of_several_services() -> None:
    chat = service(
        "chat", phase="waiting", depends=["web"], ready=0, wanted=1, generation=0, addresses=["0.0.0.0:9000"],
        last_reload=None, last_death=None,
        workers=[worker(0, pid=None, state="waiting", up=None, generation=0)],
    )  # fmt: skip
    reload = {"outcome": "failed", "reason": "shop:app does not import", "at": 1764459990.0}
    web = service(is_reloading=True, ready=1, last_reload=reload, last_death=None)
    assert shown(status(web, chat, program())) == [
        "shop  pid 4711  up 3d 4h  hybrid 0.1.0  python 3.11.7",
        "web   generation 7  reloading  1 of 2 ready  epoll  http://0.0.0.0:8000",
        "chat  generation 0  waiting  for web  0 of 1 ready  epoll  0.0.0.0:9000",
        "mail  generation 1  celery -A shop worker",
        "SLOT    PID   STATE    UP  BUSY  REQ/S  IN-FLIGHT  CONNS  QUEUE  LAG p99     RSS  RESTARTS",
        "web/0   4713  ready    4h   62%    812          3     41      0     4 ms  88 MiB         1",
        "web/1   4714  stalled  4h  100%      0          9     40     17    2.3 s  91 MiB         0"
        "  shop/prices.py:88 in recompute",
        "chat/0  -     waiting   -   62%    812          3     41      0     4 ms  88 MiB         0",
        "mail/0  4720  ready    4h     -      -          -      -      -        -  40 MiB         0",
        "web: last reload: failed (shop:app does not import), 10s ago",
    ]


@pytest.mark.parametrize(
    ("cluster", "expected"),
    [
        ({"connected": True, "trouble": None, "since": AT - 180}, "to tcp://x:1, connected 3m ago, 2 in flight"),
        ({"connected": False, "trouble": "lost", "since": AT - 60}, "cannot reach tcp://x:1, since 1m ago: lost"),
        ({"connected": None, "trouble": None, "since": None}, "to tcp://x:1, with the first call"),
    ],
)
def test_a_service_that_offloads_to_a_cluster_says_how_that_is(cluster: dict[str, Any], expected: str) -> None:
    offload = {"cluster": {"scheduler": "tcp://x:1", "in_flight": 2, **cluster}}
    lines = shown(status(service(offload=offload, last_reload=None, last_death=None)))
    assert lines[-1] == f"offload: {expected}"


def test_a_failed_service_says_why() -> None:
    lines = shown(status(service(phase="failed", failure="5 workers died in 10 s", workers=[], last_reload=None)))
    assert "failed" in lines[0].split("  ")
    assert lines[-1].startswith("failed: 5 workers died in 10 s · last death: ")


@pytest.mark.parametrize(
    ("width", "header"),
    [
        (120, "SLOT   PID   STATE    UP  BUSY  REQ/S  IN-FLIGHT  CONNS  QUEUE  LAG p99     RSS  RESTARTS"),
        (113, "SLOT   PID   STATE    UP  BUSY  REQ/S  IN-FLIGHT  CONNS  QUEUE  LAG p99     RSS"),
        (100, "SLOT   STATE    BUSY  REQ/S  IN-FLIGHT  CONNS  QUEUE  LAG p99     RSS"),
        (80, "SLOT   STATE    BUSY  REQ/S  CONNS  QUEUE     RSS"),
        (60, "SLOT   STATE    BUSY  REQ/S"),
        (40, "SLOT   STATE"),
        (10, "SLOT   ST…"),
    ],
)
def test_a_narrow_terminal_drops_columns_in_their_order(width: int, header: str) -> None:
    lines = shown(status(), width)
    assert header in lines
    assert max(map(cells, lines)) <= width


def test_the_help_names_the_order_in_which_columns_are_dropped() -> None:
    from hybrid.cli.help import STATUS

    order = sorted((column for column in COLUMNS if column.leaves), key=lambda column: column.leaves)
    assert f"in this order: {', '.join(column.title for column in order)}." in " ".join(STATUS.split())


def test_without_a_width_nothing_is_dropped_or_cut() -> None:
    where = "x" * 500
    lines = shown(status(service(workers=[worker(0, stalled=2.0, where=where)])))
    assert lines[2].endswith(where)


def test_a_worker_that_is_not_ready_says_why_unless_it_stalls() -> None:
    workers = [worker(0, not_ready="no database"), worker(1, not_ready="no database", stalled=2.0, where="shop.py:3")]
    lines = shown(status(service(workers=workers)))
    assert lines[2].endswith("  not ready: no database")
    assert lines[3].endswith("  shop.py:3")


def test_odd_names_and_control_characters_are_shown_escaped() -> None:
    odd = service("店\x1b[2J", target="\n", workers=[worker(0, stalled=1.0, where="a\rb")])
    lines = shown(status(odd, name="a\tb"))
    assert lines[0].startswith(r"a\tb  pid")
    assert lines[2].startswith(r"店\x1b[2J/0")
    assert lines[2].endswith(r"a\rb")


def test_wide_characters_keep_the_columns_aligned() -> None:
    lines = shown(status(service("店", workers=[worker(0), worker(10)])))
    assert [cells(line[: line.index(pid)]) for line, pid in zip(lines[2:4], ("4713", "4723"), strict=True)] == [7, 7]


def test_nulls_are_dashes_and_unknown_fields_are_ignored() -> None:
    nothing = dict.fromkeys(worker(0), None) | {"slot": 0, "later": {"of": "a newer server"}}
    bare = dict.fromkeys(service(), None) | {"name": "web", "workers": [nothing], "later": 1}
    lines = shown(dict.fromkeys(status(), None) | {"name": "shop", "services": [bare], "later": []})
    assert lines == [
        "shop  pid -  up -  hybrid   python",
        "SLOT   PID  STATE  UP  BUSY  REQ/S  IN-FLIGHT  CONNS  QUEUE  LAG p99  RSS  RESTARTS",
        "web/0  -    -       -     -      -          -      -      -        -    -         -",
    ]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*worker(0), *service(), *status()]), inner, max_size=5)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from([*status()]), VALUES), st.none() | st.integers(1, 200))
def test_any_status_is_shown_in_the_width_and_without_control_characters(
    fields: dict[str, Any], width: int | None
) -> None:
    lines = shown(fields, width)
    assert all(line.isprintable() for line in lines)
    assert width is None or all(cells(line) <= width for line in lines)


@given(st.dictionaries(st.sampled_from([*worker(0)]), VALUES))
def test_any_worker_is_shown(fields: dict[str, Any]) -> None:
    assert all(line.isprintable() for line in shown(status(service(workers=[fields]))))


def test_a_thousand_workers_have_a_line_each() -> None:
    lines = shown(status(service(workers=[worker(slot) for slot in range(1000)])))
    assert len(lines) == 1003
    assert lines[1001].startswith("web/999  5712  ready")


# --- stacks and supervisors


def test_the_stacks_of_workers() -> None:
    assert [plain(line) for line in stacks_lines(STACKS)] == [
        "web/0  pid 4713  generation 7",
        "  thread MainThread (the loop)",
        "  task Task-12 waits for a future",
        "    shop/app.py:40 in order",
        "  requests in progress",
        "    POST /orders  120 ms",
        "",
        "web/1  pid 4714  generation 7  its loop does not turn: asked by a signal",
        "  thread MainThread (the loop)",
        "    shop/prices.py:88 in recompute",
        "    shop/app.py:31 in list_prices",
        "  requests in progress",
        "    GET /prices  2.3 s",
    ]


def test_a_worker_without_stacks_says_why() -> None:
    told = {"workers": [{"service": "web", "slot": 0, "pid": 1, "error": "it did not answer in 5 s", "threads": None}]}
    assert [plain(line) for line in stacks_lines(told)] == ["web/0  pid 1", "  no stacks: it did not answer in 5 s"]


def test_nothing_is_said_about_the_loop_of_a_worker_without_stacks() -> None:
    told = {"workers": [{"service": "mail", "slot": 0, "pid": 1, "source": "signal", "error": "another program"}]}
    assert [plain(line) for line in stacks_lines(told)] == ["mail/0  pid 1", "  no stacks: another program"]


@given(st.dictionaries(st.just("workers"), VALUES))
def test_any_stacks_are_shown(fields: dict[str, Any]) -> None:
    assert all(plain(line).isprintable() for line in stacks_lines(fields))


def test_supervisors_are_listed_with_services_and_addresses() -> None:
    rows = [
        Supervisor("shop", 4711, status_of(status(service(), program()))),
        Supervisor("blog", 4800, None),
        Supervisor("empty", None, status_of({})),
    ]
    assert [plain(line) for line in supervisor_lines(rows)] == [
        "NAME   PID   UP  SERVICES         ADDRESSES",
        "shop   4711  3d  web, mail        http://0.0.0.0:8000",
        "blog   4800   -  does not answer",
        "empty  -      -  -                -",
    ]


# --- layout


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("店店", 4, "店店"), ("店店", 3, "店…"), ("ab", 1, "…"), ("ab", 0, "")],
)
def test_text_is_cut_by_cells(text: str, width: int, expected: str) -> None:
    assert cut(text, width) == expected


def test_a_line_is_cut_within_its_pieces() -> None:
    line = (Span("abc", Style.BAD), Span("def"), Span("ghi"))
    assert cut_line(line, 5) == (Span("abc", Style.BAD), Span("d…"))


def test_pieces_flow_into_indented_lines() -> None:
    pieces = [Span(word) for word in ("alpha", "", "beta", "gamma")]
    assert [plain(line) for line in flow(pieces, 12)] == ["alpha  beta", "  gamma"]


def test_a_table_without_rows_has_its_titles() -> None:
    assert [plain(line) for line in table([Column("A"), Column("B"), Column("")], [], 80)] == ["A  B"]


# --- painting and progress


class Tty(io.StringIO):
    """A stream that calls itself a terminal."""

    def isatty(self) -> bool:
        return True


LINES: list[Line] = [(Span("ready", Style.GOOD), Span(" x")), (Span("[b]:smile: 17", Style.PLAIN),)]


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def test_a_pipe_gets_no_colours() -> None:
    stream = io.StringIO()
    write(LINES, stream)
    assert stream.getvalue() == "ready x\n[b]:smile: 17\n"


def test_a_terminal_gets_colours_and_text_as_it_is() -> None:
    stream = Tty()
    write(LINES, stream)
    assert stream.getvalue() == "\x1b[32mready\x1b[0m x\n[b]:smile: 17\n"


def test_no_color_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert Painter(Tty()).text(LINES) == "ready x\n[b]:smile: 17\n"


@pytest.mark.parametrize("term", ["dumb", "", "unknown"])
def test_a_terminal_that_cannot_move_its_cursor_is_like_a_pipe(monkeypatch: pytest.MonkeyPatch, term: str) -> None:
    monkeypatch.setenv("TERM", term)
    assert not is_terminal(Tty())


@pytest.mark.parametrize(
    ("request_name", "fields", "expected"),
    [
        ("reload", {"service": "web", "ready": 2, "of": 6}, "reload: web 2 of 6 workers ready"),
        ("scale", {"ready": 2, "of": 6}, "scale: 2 of 6 workers ready"),
        ("scale", {"ready": 0, "of": 1}, "scale: 0 of 1 worker ready"),
        ("restart", {"ready": 0, "of": 1}, "restart: 0 of 1 ready"),
        ("stop", {"left": 1}, "stop: 1 process left"),
        ("stop", {"left": 3}, "stop: 3 processes left"),
        ("upgrade", {"pid": 5000}, "upgrade: started pid 5000, which does not serve yet"),
        ("upgrade", {"later": 1}, "upgrade: accepted"),
        ("reload", {"service": "\x1b", "ready": None}, r"reload: \x1b"),
    ],
)
def test_progress_in_words(request_name: str, fields: dict[str, Any], expected: str) -> None:
    assert progress_text(request_name, fields) == expected


def test_progress_is_a_line_for_each_change_in_a_pipe() -> None:
    stream = io.StringIO()
    with ProgressLine(stream) as line:
        for text in ("one", "one", "two"):
            line.show(text)
    assert stream.getvalue() == "one\ntwo\n"


def test_progress_is_one_rewritten_line_on_a_terminal() -> None:
    stream = Tty()
    with ProgressLine(stream) as line:
        line.show("one")
        line.show("two")
    assert stream.getvalue() == "\r\x1b[Kone\r\x1b[Ktwo\r\x1b[K"


class Gone(io.StringIO):
    """A stream whose reader is gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_progress_whose_reader_is_gone_is_no_error() -> None:
    with ProgressLine(Gone()) as line:
        line.show("one")
        line.show("two")


def test_the_width_of_a_terminal_is_asked() -> None:
    from hybrid.console.painting import width_of

    leader, follower = pty.openpty()
    try:
        with open(follower, "w", closefd=False) as stream:
            assert width_of(stream) is None  # a terminal without a size
        assert width_of(io.StringIO()) is None
    finally:
        os.close(leader)
        os.close(follower)


# --- companions

MAILER = {**worker(0), "companion": "mailer", "pid": 4730}


def test_companions_are_shown_below_the_workers_of_their_service() -> None:
    one, other = service(companions=[MAILER]), service("chat", workers=[worker(0)])
    labels = [line.split()[0] for line in shown(status(one, other)) if "/" in line.split()[0]]
    assert labels[:4] == ["web/0", "web/1", "web.mailer/0", "chat/0"]


def test_companions_are_not_counted_as_workers() -> None:
    workers = status_of(status(service(workers=[worker(0)], companions=[MAILER]))).workers
    assert [one.address for one in workers] == [("web", 0), ("web.mailer", 0)]
    assert totals(workers)[0].text == "1 of 1 ready"


def test_a_companion_without_a_loop_is_asked_by_a_signal_as_a_matter_of_course() -> None:
    row = {**STACKS["workers"][0], "service": "web.mailer", "source": "function"}
    text = "\n".join(plain(line) for line in stacks_lines({"workers": [row]}))
    assert text.startswith("web.mailer/")
    assert "does not turn" not in text
