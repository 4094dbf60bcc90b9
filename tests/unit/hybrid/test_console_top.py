"""`hybrid top` without a terminal: keys, and the lines for a state."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.control_peer import STACKS, service, status, worker
from support.rows import for_each

from hybrid.console.keys import Key, Keys
from hybrid.console.layout import Line, Span, Style, cells, plain
from hybrid.console.lists import stacks_lines
from hybrid.console.top import (
    Order,
    Quit,
    Screen,
    ShowStacks,
    Top,
    Wish,
    pressed,
    refreshed,
    render,
    troubled,
    with_stacks,
)
from hybrid.console.views import status_of

HEIGHT = 10
TOP = refreshed(Top(), status_of(status()))


def many(count: int) -> Top:
    """Return a state with workers whose numbers are in no order."""
    rows = [
        worker(slot, busy=slot * 7 % 10 / 10, requests_per_second=float(slot * 3 % 10), memory=(slot * 9 % 10) << 20,
               connections=None if slot == 0 else slot)
        for slot in range(count)
    ]  # fmt: skip
    return refreshed(Top(), status_of(status(service(workers=rows, last_death=None, last_reload=None))))


def after(top: Top, *keys: Key | str, height: int = HEIGHT) -> tuple[Top, list[Wish]]:
    """Press keys one after the other."""
    wishes = []
    for key in keys:
        top, wish = pressed(top, key, height)
        if wish is not None:
            wishes.append(wish)
    return top, wishes


def lines(top: Top, width: int = 120, height: int = HEIGHT) -> list[str]:
    return [plain(line) for line in render(top, width, height)]


def slots(top: Top, height: int = HEIGHT) -> list[str]:
    """Return the first column of the workers on the screen, with the mark."""
    shown = [line for line in lines(top, height=height) if line.startswith(("> ", "  web"))]
    return [line[:2] + line[2:].partition(" ")[0] for line in shown]


# --- keys


@for_each(
    ("data", "expected"),
    [
        (b"q", ["q"]),
        (b"br", ["b", "r"]),
        (b"\x1b[A", [Key.UP]),
        (b"\x1bOB", [Key.DOWN]),
        (b"\x1b[5~\x1b[6~", [Key.PAGE_UP, Key.PAGE_DOWN]),
        (b"\x1b[H\x1b[4~", [Key.HOME, Key.END]),
        (b"\r\n", [Key.ENTER, Key.ENTER]),
        (b"\x1bq", [Key.ESCAPE, "q"]),
        (b"\x1b[1;5Cq", ["q"]),  # Ctrl-Right: no key of ours
        (b"\x00\x7f\xc3\xbcq", ["q"]),
    ],
)
def test_bytes_become_keys(data: bytes, expected: list[Key | str]) -> None:
    assert Keys().feed(data) == expected


def test_a_sequence_may_come_in_pieces() -> None:
    keys = Keys()
    assert keys.feed(b"\x1b") == []
    assert keys.is_incomplete
    assert keys.feed(b"[") == []
    assert keys.feed(b"Aq") == [Key.UP, "q"]
    assert not keys.is_incomplete


def test_escape_alone_is_a_key_once_nothing_follows() -> None:
    keys = Keys()
    assert keys.feed(b"\x1b") == []
    assert keys.flush() == [Key.ESCAPE]
    assert keys.flush() == []


@given(st.binary(max_size=100), st.integers(1, 5))
def test_any_bytes_are_read_and_nothing_grows(data: bytes, size: int) -> None:
    keys = Keys()
    for at in range(0, len(data), size):
        keys.feed(data[at : at + size])
    keys.flush()
    assert keys.feed(b"q") == ["q"]


# --- the table


def test_the_table() -> None:
    assert lines(TOP) == [
        "shop  pid 4711  up 3d 4h  generation 7  hybrid 0.1.0  python 3.11.7  epoll  http://0.0.0.0:8000",
        "1 of 2 ready  812 req/s  12 in flight  81 connections  179 MiB",
        "  SLOT   PID   STATE    UP  BUSY  REQ/S  IN-FLIGHT  CONNS  QUEUE  LAG p99     RSS  RESTARTS",
        "> web/0  4713  ready    4h   62%    812          3     41      0     4 ms  88 MiB         1",
        "  web/1  4714  stalled  4h  100%      0          9     40     17    2.3 s  91 MiB         0"
        "  shop/prices.py:88 in recom…",
        "",
        "",
        "",
        "",
        "sort: b busy  r req/s  m memory  c connections  s slot  arrows select, Enter stacks, q quit",
    ]


def test_before_the_first_answer_it_waits() -> None:
    assert lines(Top()) == ["waiting for the supervisor"]


def test_old_numbers_stay_and_the_reason_is_told() -> None:
    shown = lines(troubled(TOP, "the supervisor is gone"))
    assert shown[2] == "the supervisor is gone"
    assert shown[4].startswith("> web/0")
    assert "the supervisor is gone" not in lines(refreshed(troubled(TOP, "x"), status_of(status())))


@pytest.mark.parametrize(("key", "measure"), [("b", "busy"), ("r", "rate"), ("m", "memory"), ("c", "connections")])
def test_a_key_sorts_with_the_largest_first_and_unknown_values_last(key: str, measure: str) -> None:
    top, _ = after(many(10), key)
    values = [getattr(each, measure) for each in top.workers]
    known = [value for value in values if value is not None]
    assert values == sorted(known, reverse=True) + [None] * (len(values) - len(known))


def test_s_sorts_as_the_supervisor_does() -> None:
    top, _ = after(many(5), "b", "s")
    assert [each.slot for each in top.workers] == ["0", "1", "2", "3", "4"]


def test_the_title_of_the_sorted_column_is_emphasised() -> None:
    top, _ = after(TOP, "m")
    titles = render(top, 120, HEIGHT)[2]
    assert [span.text.strip() for span in titles if span.style is Style.STRONG] == ["RSS"]


def test_arrows_select_within_the_table() -> None:
    top, _ = after(many(3), Key.UP)
    assert slots(top) == ["> web/0", "  web/1", "  web/2"]
    top, _ = after(top, Key.DOWN, "j", Key.DOWN, Key.DOWN)
    assert slots(top) == ["  web/0", "  web/1", "> web/2"]
    top, _ = after(top, "k")
    assert slots(top) == ["  web/0", "> web/1", "  web/2"]


def test_the_selected_worker_stays_selected_where_it_is_sorted_to() -> None:
    top, _ = after(many(10), Key.DOWN, "b", height=40)
    assert "> web/1" in slots(top, height=40)


def test_a_selected_worker_that_is_gone_leaves_the_first_one_selected() -> None:
    top, _ = after(many(3), Key.END)
    assert slots(refreshed(top, many(2).status or status_of({}))) == ["> web/0", "  web/1"]


def test_the_table_scrolls_with_the_selection() -> None:
    top, _ = after(many(20), Key.END)
    assert slots(top) == [f"  web/{slot}" for slot in range(14, 19)] + ["> web/19"]
    top, _ = after(top, Key.PAGE_UP)
    assert "> web/14" in slots(top)
    top, _ = after(top, Key.HOME)
    assert slots(top)[0] == "> web/0"
    assert lines(top)[-1].endswith("14 more below")


def test_a_small_terminal_still_shows_the_selected_worker() -> None:
    top, _ = after(many(20), Key.DOWN, Key.DOWN)
    assert "> web/2" in "\n".join(lines(top, 40, 8))


@given(st.integers(1, 150), st.integers(1, 60), st.integers(0, 30), st.lists(st.sampled_from([*Key, *"brmcskjx"])))
def test_any_size_and_any_keys_fit_the_terminal(width: int, height: int, count: int, keys: list[Key | str]) -> None:
    top, wishes = after(many(count), *keys, height=height)
    for wish in wishes:
        assert isinstance(wish, ShowStacks)
    shown = lines(top, width, height)
    assert len(shown) <= height
    assert all(cells(line) <= width for line in shown)


def test_a_thousand_workers_are_a_window_of_the_table() -> None:
    top, _ = after(many(1000), Key.END, height=50)
    assert len(lines(top, height=50)) == 50
    assert slots(top, height=50)[-1] == "> web/999"


# --- stacks


def test_enter_asks_for_the_stacks_of_the_selected_worker() -> None:
    assert after(TOP, Key.DOWN, Key.ENTER)[1] == [ShowStacks("web", 1)]


def test_a_request_names_a_service_as_the_server_does() -> None:
    odd = refreshed(Top(), status_of(status(service("a\x1bb"))))
    assert after(odd, Key.ENTER)[1] == [ShowStacks("a\x1bb", 0)]


def test_enter_without_workers_does_nothing() -> None:
    assert after(Top(), Key.ENTER, Key.DOWN)[1] == []


def test_stacks_are_shown_and_left() -> None:
    top = with_stacks(TOP, stacks_lines(STACKS))
    shown = lines(top)
    assert shown[0] == "web/0  pid 4713  generation 7"
    assert shown[-1] == "arrows scroll, Enter or Esc back, q quit"
    for key in (Key.ENTER, Key.ESCAPE):
        assert after(top, key)[0].screen is Screen.TABLE


def test_stacks_scroll_to_their_end_and_no_further() -> None:
    numbered: list[Line] = [(Span(str(number)),) for number in range(30)]
    top, _ = after(with_stacks(TOP, numbered), Key.DOWN)
    assert lines(top)[0] == "1"
    top, _ = after(top, Key.END, Key.DOWN)
    assert lines(top)[:-1] == [str(number) for number in range(21, 30)]
    top, _ = after(top, Key.HOME)
    assert lines(top)[0] == "0"


def test_fresh_numbers_leave_the_stacks_on_the_screen() -> None:
    top = refreshed(with_stacks(TOP, stacks_lines(STACKS)), status_of(status()))
    assert top.screen is Screen.STACKS


@pytest.mark.parametrize("top", [Top(), TOP, with_stacks(TOP, [])])
def test_q_quits_everywhere(top: Top) -> None:
    assert after(top, "q")[1] == [Quit()]


def test_each_order_has_a_key_in_the_help() -> None:
    foot = lines(TOP)[-1]
    assert all(f"{order.value} " in foot for order in Order)
