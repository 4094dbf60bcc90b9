"""The log format of all our processes, and a stderr that cannot stop them.

    2026-11-23 06:00:00.123 INFO  web/0 gen=1 pid=4711 ready on epoll

A supervisor that blocks in write(2) because its stderr is not read cannot supervise. So a record is written only when
poll(2) reports that the descriptor has room, and in pieces that a pipe takes whole (PIPE_BUF, pipe(7)). Other records
are counted, and the count is written first when there is room again.
"""

from __future__ import annotations

import json
import logging
import os
import re
import select
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

LOGGER_NAME = "hybrid"
_PIPE_BUF = select.PIPE_BUF
_FIELDS = ("service", "slot", "generation")
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")  # C0 but tab and newline, DEL, C1, line ends


class TextFormatter(logging.Formatter):
    """One line per record: time, level, service/slot, generation, pid, message; an indented traceback follows."""

    def __init__(self, labels: Mapping[str, object]) -> None:
        super().__init__()
        self._labels = labels

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text without a final newline."""
        labels = {**self._labels, **_labels_of(record)}
        name = str(labels.get("service", "-"))
        if "slot" in labels:
            name += f"/{labels['slot']} gen={labels.get('generation', 0)}"
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        message = _printable(record.getMessage())
        text = f"{stamp}.{int(record.msecs):03d} {record.levelname:<8} {name} pid={_pid_of(record)} {message}"
        if record.exc_info and record.exc_info[0] is not None:
            details = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
            text += "\n    " + _printable(details)
        return text


def _printable(text: str) -> str:
    """Return text with indented lines, and with terminal control characters escaped.

    A client may have written it, through the message of an exception: it must not forge a log line or a command to the
    terminal.
    """
    if _CONTROLS.search(text) is not None:
        text = _CONTROLS.sub(_escaped, text)
    return text.replace("\n", "\n    ")


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


class JsonFormatter(logging.Formatter):
    """One JSON object per line, with the same data as the text form."""

    def __init__(self, labels: Mapping[str, object]) -> None:
        super().__init__()
        self._labels = labels

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields: dict[str, Any] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            **self._labels,
            **_labels_of(record),
            "pid": _pid_of(record),
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[0] is not None:
            fields["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(fields, default=str)


def _labels_of(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name in _FIELDS if (value := getattr(record, name, None)) is not None}


def _pid_of(record: logging.LogRecord) -> int | None:
    """Return the pid of the process a record is about: `subject_pid` if the supervisor set it."""
    subject: int | None = getattr(record, "subject_pid", None)
    return subject if subject is not None else record.process


class StderrHandler(logging.Handler):
    """Writes records to a descriptor, and never waits for it."""

    def __init__(self, fd: int = 2) -> None:
        super().__init__()
        self._fd = fd
        self._poll = unpatched("poll")()
        self._poll.register(fd, select.POLLOUT)
        self._lost = 0  # records lost since the last one that was written

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record if there is room, else count it. Never raises or blocks."""
        try:
            lines = self.format(record) + "\n"
        except Exception:  # noqa: BLE001 - a bad format string must not end a supervisor
            lines = f"{record.levelname} (unformattable log record) {record.msg!r}\n"
        if self._lost:
            lines = f"({self._lost} log records lost: nobody read them)\n{lines}"
        self._lost = 0 if self._write(lines.encode("utf-8", "backslashreplace")) else self._lost + 1

    def _write(self, data: bytes) -> bool:
        for start in range(0, len(data), _PIPE_BUF):
            try:
                if not self._poll.poll(0):
                    return False
                os.write(self._fd, data[start : start + _PIPE_BUF])
            except OSError:  # EPIPE, EBADF, EIO of a closed terminal: cannot be reported
                return False
        return True


def unpatched(name: str) -> Callable[[], Any]:
    """Return `select.poll` (or its like) without gevent's patch, which would switch greenlets."""
    saved: dict[str, dict[str, Any]] = getattr(__import__("sys").modules.get("gevent.monkey"), "saved", {})
    found: Callable[[], Any] = saved.get("select", {}).get(name) or getattr(select, name)
    return found


_FORMATTERS: dict[str, Callable[[Mapping[str, object]], logging.Formatter]] = {
    "text": TextFormatter,
    "json": JsonFormatter,
}


def configure(form: str, level: str, labels: Mapping[str, object], fd: int = 2) -> logging.Logger:
    """Make the logger `hybrid` write to `fd` in `form` (`text` or `json`) with `labels` on every line.

    Called once per process: by the supervisor, and by each worker after its fork. Does not touch the root logger, which
    belongs to the application. Raises `ValueError` for an unknown form or level.
    """
    if form not in _FORMATTERS:
        raise ValueError(f"unknown log format {form!r}: use one of {', '.join(_FORMATTERS)}")
    logger = logging.getLogger(LOGGER_NAME)
    for old in list(logger.handlers):
        logger.removeHandler(old)
    handler = StderrHandler(fd)
    handler.setFormatter(_FORMATTERS[form](labels))
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    logger.propagate = False
    return logger


def relabel(form: str, labels: Mapping[str, object]) -> None:
    """Set the labels of a process that was forked after `configure` and after the import of the application.

    Changes of the application to the logger, its handlers or its level stay.
    """
    for handler in logging.getLogger(LOGGER_NAME).handlers:
        if isinstance(handler, StderrHandler):
            handler.setFormatter(_FORMATTERS[form](labels))
