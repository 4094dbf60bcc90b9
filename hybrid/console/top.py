"""`hybrid top`: its state, what each key does to it, and the lines that it shows. Pure.

The terminal and the supervisor are in `live`. A state is a frozen `Top`; each function returns the next one.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Sequence
from typing import Any, Final

from hybrid.console.keys import Key
from hybrid.console.layout import Line, Span, Style, cut_line, flow, plain, table
from hybrid.console.status_text import COLUMNS, header_lines, totals, worker_row
from hybrid.console.views import Status, Worker


class Order(enum.Enum):
    """What the table is sorted by; the value is its key."""

    SLOT = "s"
    BUSY = "b"
    RATE = "r"
    MEMORY = "m"
    CONNECTIONS = "c"


class Screen(enum.Enum):
    """What is shown."""

    TABLE = "table"
    STACKS = "stacks"


@dataclasses.dataclass(frozen=True, slots=True)
class ShowStacks:
    """Ask for the stacks of a worker. Both are as the server named them."""

    service: Any
    slot: Any


@dataclasses.dataclass(frozen=True, slots=True)
class Quit:
    """End."""


Wish = ShowStacks | Quit


@dataclasses.dataclass(frozen=True, slots=True)
class Top:
    """The state."""

    status: Status | None = None
    problem: str = ""
    """Why the numbers are old; empty if they are not."""
    order: Order = Order.SLOT
    selected: str = ""
    """The label of the selected worker; the first one if there is none of that label."""
    first: int = 0
    """The first row, of workers or of stacks, that is on the screen."""
    screen: Screen = Screen.TABLE
    stacks: tuple[Line, ...] = ()

    @property
    def workers(self) -> list[Worker]:
        """In the order of the table."""
        workers = list(self.status.workers) if self.status is not None else []
        measure = _MEASURES.get(self.order)
        if measure is not None:
            workers.sort(key=lambda worker: -1.0 if (value := measure(worker)) is None else value, reverse=True)
        return workers


_MEASURES: dict[Order, Callable[[Worker], float | None]] = {
    Order.BUSY: lambda worker: worker.busy,
    Order.RATE: lambda worker: worker.rate,
    Order.MEMORY: lambda worker: worker.memory,
    Order.CONNECTIONS: lambda worker: worker.connections,
}
_TITLES = {Order.BUSY: "BUSY", Order.RATE: "REQ/S", Order.MEMORY: "RSS", Order.CONNECTIONS: "CONNS", Order.SLOT: "SLOT"}
_COLUMNS = tuple(
    dataclasses.replace(column, title=f"  {column.title}") if column.title == "SLOT" else column for column in COLUMNS
)  # two cells more, for the mark of the selected row
_MOVES = {Key.UP: -1, Key.DOWN: 1, "k": -1, "j": 1}
_HELP = "sort: b busy  r req/s  m memory  c connections  s slot"
_HELP_KEYS = "arrows select, Enter stacks, q quit"
_HELP_STACKS = "arrows scroll, Enter or Esc back, q quit"
_FAR: Final = 1 << 30


def refreshed(top: Top, status: Status) -> Top:
    """Return the state with fresh numbers."""
    return dataclasses.replace(top, status=status, problem="")


def troubled(top: Top, problem: str) -> Top:
    """Return the state while there are no fresh numbers."""
    return dataclasses.replace(top, problem=problem)


def with_stacks(top: Top, lines: Sequence[Line]) -> Top:
    """Return the state that shows stacks, or the reason why there are none."""
    return dataclasses.replace(top, screen=Screen.STACKS, stacks=tuple(lines), first=0)


def pressed(top: Top, key: Key | str, height: int) -> tuple[Top, Wish | None]:
    """Return the state after a key, and what is to be done; `height` is the number of lines of the terminal."""
    if key == "q":
        return top, Quit()
    if top.screen is Screen.STACKS:
        if key in (Key.ENTER, Key.ESCAPE):
            return dataclasses.replace(top, screen=Screen.TABLE, stacks=(), first=0), None
        last = max(len(top.stacks) - max(height - 1, 1), 0)
        return dataclasses.replace(top, first=_moved(top.first, key, height, last)), None
    workers = top.workers
    if key == Key.ENTER:
        if not workers:
            return top, None
        worker = workers[_place(top, workers)]
        return top, ShowStacks(*worker.address)
    if isinstance(key, str) and key in {order.value for order in Order}:
        return dataclasses.replace(top, order=Order(key), first=0), None
    if not workers:
        return top, None
    place = _moved(_place(top, workers), key, height, len(workers) - 1)
    return dataclasses.replace(top, selected=workers[place].label), None


def render(top: Top, width: int, height: int) -> list[Line]:
    """Return the lines of a terminal of this size: at most `height`."""
    lines = _stacks(top, width, height) if top.screen is Screen.STACKS else _table(top, width, height)
    return lines[:height]


def _moved(place: int, key: Key | str, height: int, last: int) -> int:
    """Return a place after a key: 0 to `last`."""
    page = max(height // 2, 1)
    step = {**_MOVES, Key.PAGE_UP: -page, Key.PAGE_DOWN: page, Key.HOME: -_FAR, Key.END: _FAR}.get(key, 0)
    return min(max(place + step, 0), last)


def _place(top: Top, workers: Sequence[Worker]) -> int:
    return next((place for place, worker in enumerate(workers) if worker.label == top.selected), 0)


def _table(top: Top, width: int, height: int) -> list[Line]:
    if top.status is None:
        return [cut_line((Span(top.problem or "waiting for the supervisor"),), width)]
    workers = top.workers
    head = [*header_lines(top.status, width), *flow(totals(workers), width)]
    if top.problem:
        head += flow([Span(top.problem, Style.BAD)], width)
    foot = flow([Span(_HELP, Style.FAINT), Span(_HELP_KEYS, Style.FAINT)], width)
    room = max(height - len(head) - len(foot) - 1, 1)
    place = _place(top, workers)
    first = _first(top.first, place, room, len(workers))
    shown = list(enumerate(workers))[first : first + room]
    titles, *rows = table(_COLUMNS, [_row(worker, at == place) for at, worker in shown], width)
    lines = [_selected(line) if at == place else line for (at, _), line in zip(shown, rows, strict=True)]
    below = len(workers) - first - room
    more = f"  {below} more below" if below > 0 else ""
    return [
        *head,
        _marked(titles, top.order),
        *lines,
        *([()] * (room - len(lines))),
        *([*foot[:-1], cut_line((*foot[-1], Span(more)), width)]),
    ]


def _first(first: int, place: int, room: int, count: int) -> int:
    """Return the first row to show, so that the row at `place` is on the screen."""
    first = min(first, max(count - room, 0))
    return min(max(first, place - room + 1), place)


def _row(worker: Worker, is_selected: bool) -> list[Span]:
    label, *rest = worker_row(worker)
    return [Span(f"{'>' if is_selected else ' '} {label.text}", label.style), *rest]


def _selected(line: Line) -> Line:
    return (Span(plain(line), Style.SELECTED),)


def _marked(titles: Line, order: Order) -> Line:
    """Emphasise the title of the column that the table is sorted by."""
    return tuple(Span(span.text, Style.STRONG) if span.text.strip() == _TITLES[order] else span for span in titles)


def _stacks(top: Top, width: int, height: int) -> list[Line]:
    room = max(height - 1, 1)
    shown = top.stacks[top.first : top.first + room]
    return [
        *(cut_line(line, width) for line in shown),
        *([()] * (room - len(shown))),
        cut_line((Span(_HELP_STACKS, Style.FAINT),), width),
    ]
