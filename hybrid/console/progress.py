"""One line that tells how far a request is: rewritten on a terminal, a new line for each change elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, TextIO

from hybrid.console.layout import cut
from hybrid.console.painting import is_terminal, width_of
from hybrid.console.quantities import count
from hybrid.console.views import number, text

_CLEAR = "\r\x1b[K"


def progress_text(request: str, fields: Mapping[str, Any]) -> str:
    """Return the progress of a request in words; fields that are not known are not shown."""
    words = [f"{request}:"]
    if service := text(fields.get("service")):
        words.append(service)
    ready, of = number(fields.get("ready")), number(fields.get("of"))
    if ready is not None:
        # a restart is of one worker or companion, whose name the command line has
        noun = "" if request == "restart" else "worker " if of == 1 else "workers "
        words.append(f"{count(ready)} of {count(of)} {noun}ready")
    if (left := number(fields.get("left"))) is not None:
        words.append(f"{count(left)} process{'' if left == 1 else 'es'} left")
    if (pid := number(fields.get("pid"))) is not None:
        words.append(f"started pid {count(pid)}, which does not serve yet")
    return " ".join(words) if len(words) > 1 else f"{request}: accepted"


class ProgressLine:
    """The line; use it as a context manager, which finishes it. A stream that fails is not written to again."""

    def __init__(self, stream: TextIO | None) -> None:
        """`stream`: None if there is none, as stderr in `2>&-`."""
        self._stream = stream
        self._is_terminal = stream is not None and is_terminal(stream)
        self._shown = ""

    def show(self, line: str) -> None:
        """Show `line` in the place of the last one."""
        if line == self._shown:
            return
        self._shown = line
        if self._is_terminal and self._stream is not None:
            self._write(_CLEAR + cut(line, (width_of(self._stream) or 80) - 1))
        else:
            self._write(f"{line}\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_terminal and self._shown:
            self._write(_CLEAR)
            self._shown = ""

    def _write(self, text: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:  # the progress is not worth failing for
            self._stream = None
