"""Aligned text: numbers to the right, words to the left."""

from __future__ import annotations

from collections.abc import Sequence


def render(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as text; a column whose name begins with `<` is set to the left (the mark is not shown)."""
    names = [name.removeprefix("<") for name in columns]
    left = [name.startswith("<") for name in columns]
    widths = [max(len(line[i]) for line in [names, *rows]) for i in range(len(names))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if to_left else cell.rjust(width)
            for cell, width, to_left in zip(cells, widths, left, strict=True)
        ]
        return "  ".join(padded).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([title, "", line(names), rule, *[line(row) for row in rows]])


def show(value: float | None, digits: int = 0, unit: str = "") -> str:
    """Return a number with thousands separators, or a dash where there is none."""
    return "-" if value is None else f"{value:,.{digits}f}{unit}"


def times(ratio: float | None) -> str:
    """Return a ratio as it is said: `2.31x`."""
    return "-" if ratio is None else f"{ratio:.2f}x"
