"""Lines of styled text, and tables that fit into a width. Pure; widths are cells of a terminal."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

GAP: Final = "  "
_MORE: Final = "…"


class Style(enum.Enum):
    """The role of a piece of text; `painting` gives each its colour."""

    PLAIN = "plain"
    STRONG = "strong"
    FAINT = "faint"
    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"
    SELECTED = "selected"


class Span(NamedTuple):
    """A piece of a line."""

    text: str
    style: Style = Style.PLAIN


Line = tuple[Span, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    title: str
    is_right: bool = False
    leaves: int = 0
    """Narrow terminals drop the column with the smallest number first; 0 stays."""
    is_rest: bool = False
    """Takes the rest of the line, and is cut there. The last column only."""


_LEAST_REST: Final = 24  # cells that the rest of a line should have before other columns are dropped for it


def plain(line: Line) -> str:
    """Return the text of a line."""
    return "".join(span.text for span in line).rstrip()


def cells(text: str) -> int:
    """Return how many cells a text takes: two for each wide character."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def cut(text: str, width: int) -> str:
    """Return a text in at most `width` cells, with an ellipsis if it was longer."""
    if cells(text) <= width:
        return text
    if width <= 0:
        return ""
    kept, used = [], 1
    for one in text:
        used += cells(one)
        if used > width:
            break
        kept.append(one)
    return "".join(kept) + _MORE


def cut_line(line: Line, width: int | None) -> Line:
    """Return a line in at most `width` cells; None: no limit."""
    if width is None or sum(cells(span.text) for span in line) <= width:
        return line
    spans, left = [], width
    for span in line:
        if (used := cells(span.text)) > left:
            spans.append(Span(cut(span.text, left), span.style))
            break
        spans.append(span)
        left -= used
    return tuple(spans)


def flow(pieces: Iterable[Span], width: int | None, gap: str = GAP) -> list[Line]:
    """Return pieces side by side, in a new line (indented) where the width ends. Empty pieces are left out."""
    lines: list[list[Span]] = [[]]
    used = 0
    for piece in pieces:
        if not piece.text:
            continue
        size = cells(piece.text)
        if not lines[-1]:
            used = size
        elif width is None or used + len(gap) + size <= width:
            lines[-1].append(Span(gap, Style.FAINT))
            used += len(gap) + size
        else:
            lines.append([Span(GAP)])
            used = len(GAP) + size
        lines[-1].append(piece)
    return [cut_line(tuple(line), width) for line in lines if line]


def table(columns: Sequence[Column], content: Sequence[Sequence[Span]], width: int | None) -> list[Line]:
    """Return the header and a line for each row. Columns are dropped, in their order, until all fits; None: no limit.

    A column that is empty in each row is left out if it has no title.
    """
    widths = [max((cells(row[place].text) for row in content), default=0) for place in range(len(columns))]
    shown = [place for place, column in enumerate(columns) if column.title or widths[place]]
    widths = [max(size, cells(column.title)) for size, column in zip(widths, columns, strict=True)]
    if width is not None:
        shown = _fitting(columns, widths, shown, width)
    header = [Span(column.title, Style.FAINT) for column in columns]
    picked = [columns[place] for place in shown]
    sizes = [widths[place] for place in shown]
    return [cut_line(_row(picked, sizes, [row[place] for place in shown]), width) for row in [header, *content]]


def _fitting(columns: Sequence[Column], widths: Sequence[int], shown: Sequence[int], width: int) -> list[int]:
    kept = list(shown)
    for place in sorted((place for place in shown if columns[place].leaves), key=lambda place: columns[place].leaves):
        if _needed(columns, widths, kept) <= width:
            break
        kept.remove(place)
    return kept


def _needed(columns: Sequence[Column], widths: Sequence[int], kept: Sequence[int]) -> int:
    sizes = [min(widths[place], _LEAST_REST) if columns[place].is_rest else widths[place] for place in kept]
    return sum(sizes) + len(GAP) * max(len(sizes) - 1, 0)


def _row(columns: Sequence[Column], widths: Sequence[int], row: Sequence[Span]) -> Line:
    line: list[Span] = []
    for column, width, span in zip(columns, widths, row, strict=True):
        if line:
            line.append(Span(GAP))
        padding = "" if column.is_rest else " " * (width - cells(span.text))
        line.append(Span(padding + span.text if column.is_right else span.text + padding, span.style))
    return tuple(line)
