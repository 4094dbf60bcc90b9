"""Output of the application as records of our log: what it prints, logs and warns of.

Descriptors 1 and 2 of the process are a pipe to the supervisor by now, which logs each line: of programs that the
application starts, of C code, of a crash. This module is about Python code. Its lines are logged here, because only
this process knows which request it serves meanwhile. Nothing waits for a reader: see `hybrid.workers.contract.lines`.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import logging
import sys
from threading import get_ident  # on gevent: of the greenlet

from hybrid.workers.contract import log

LONGEST = 8192
"""Bytes of a line; a longer one is logged in pieces."""
CONTINUES = " [continues]"
"""The end of a piece that others follow."""
_MOST_THREADS = 64  # threads with an unfinished line
_log = logging.getLogger("hybrid")


def capture(level: str) -> None:
    """Log what the application writes to `sys.stdout` and `sys.stderr`, logs, and warns of.

    Call it once per process, before the import of the application. Root is set to `level`. An application that
    configures `logging` itself replaces that, and the lines of its handlers are captured as output.
    """
    for stream in (sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # closed at the start
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.stdout, sys.stderr = _stream("stdout", 1), _stream("stderr", 2)
    log.share_with_root(level)
    logging.captureWarnings(True)


def _stream(name: str, fd: int) -> io.TextIOWrapper:
    lines = Lines(name, fd)
    atexit.register(lines.finish)
    return io.TextIOWrapper(lines, encoding="utf-8", errors="backslashreplace", newline="\n", write_through=True)


class Lines(io.RawIOBase):
    """A binary stream that logs each line. Threads may use it at the same time: each has lines of its own."""

    def __init__(self, name: str, fd: int) -> None:
        """`name`: that of the stream; `fd`: the descriptor that programs inherit in its place."""
        self.name = f"<{name}>"
        self.mode = "wb"
        self._stream = name
        self._fd = fd
        self._rests: dict[int, bytes] = {}  # thread -> its unfinished line

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor for programs. What is written to it becomes lines of the log too."""
        return self._fd

    def write(self, data: object) -> int:
        """Log the lines that are complete. Does not block; takes everything."""
        written = bytes(data)  # type: ignore[call-overload]
        me = get_ident()
        *lines, rest = (self._rests.pop(me, b"") + written).split(b"\n")
        for line in lines:
            self._log_line(line)
        while len(rest) > LONGEST:
            self._log_text(rest[:LONGEST], CONTINUES)
            rest = rest[LONGEST:]
        if rest:
            if len(self._rests) >= _MOST_THREADS:  # of threads that have ended, mostly
                self.finish()
            self._rests[me] = rest
        return len(written)

    def finish(self) -> None:
        """Log the unfinished lines."""
        rests, self._rests = self._rests, {}
        for rest in rests.values():
            self._log_line(rest)

    def _log_line(self, line: bytes) -> None:
        line = line.removesuffix(b"\r")
        while len(line) > LONGEST:
            self._log_text(line[:LONGEST], CONTINUES)
            line = line[LONGEST:]
        self._log_text(line, "")

    def _log_text(self, line: bytes, end: str) -> None:
        """Log a text whatever the level of the log is."""
        text = line.decode("utf-8", "backslashreplace") + end
        _log.handle(
            _log.makeRecord(_log.name, logging.INFO, "", 0, "%s", (text,), None, extra={"stream": self._stream})
        )
