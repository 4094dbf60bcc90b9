"""Lines to a stream: with colours and effects if it is a terminal, else plain.

`rich` knows which colours a terminal has, and obeys NO_COLOR. It is imported for a terminal only: that takes 50 ms,
which is half as long as all the rest of `hybrid status`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TextIO

from hybrid.console.layout import Line, Style, plain

if TYPE_CHECKING:
    from rich.console import Console

_LOOKS: Final = {
    Style.PLAIN: "",
    Style.STRONG: "bold",
    Style.FAINT: "dim",
    Style.GOOD: "green",
    Style.WARNING: "yellow",
    Style.BAD: "bold red",
    Style.SELECTED: "reverse",
}


def is_terminal(stream: TextIO) -> bool:
    """Whether a stream is a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


def width_of(stream: TextIO) -> int | None:
    """Return the width of a terminal in cells; None for a stream that is none, or has no size."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):
        return None


def write(lines: Sequence[Line], stream: TextIO) -> None:
    """Write lines. May block as long as the reader of the stream does not read. Raises `OSError`."""
    stream.write(Painter(stream).text(lines) if is_terminal(stream) else "".join(f"{plain(one)}\n" for one in lines))
    stream.flush()


class Painter:
    """Turns lines into the text that a terminal shows in their styles."""

    def __init__(self, stream: TextIO) -> None:
        """`stream`: the terminal."""
        self._console = _console(stream)

    def text(self, lines: Sequence[Line], end: str = "\n") -> str:
        """Return the lines, each with `end` behind it. All are painted at once, which is five times as quick."""
        from rich.text import Text

        pieces: list[str | tuple[str, str]] = []
        for line in lines:
            pieces += [(span.text, _LOOKS[span.style]) for span in line]
            pieces.append("\n")
        with self._console.capture() as painted:
            self._console.print(Text.assemble(*pieces), soft_wrap=True, highlight=False, end="")
        return painted.get().replace("\n", end)


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    return Console(file=stream, force_terminal=True, highlight=False, markup=False, emoji=False)
