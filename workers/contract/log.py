"""The log of all our processes: its two forms, and a handler that never waits for the reader.

    2026-11-23 06:00:00.123 INFO  web/0 gen=1 pid=4711 ready on epoll

A supervisor that blocks in write(2) because its stderr is not read cannot supervise. So a record is written only if
poll(2) reports that the descriptor has room (`lines`). Other records are counted, and the count is written first when
there is room again.
"""

from __future__ import annotations

import contextvars
import importlib
import json
import logging
import re
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from hybrid.workers.contract.lines import LONGEST, LOSSES, PIPE_BUF, LineWriter

LOGGER_NAME = "hybrid"
REQUEST_ID: contextvars.ContextVar[str | None] = contextvars.ContextVar("hybrid.request_id", default=None)
"""The id of the request that the current context serves; set only with `--request-id-header`."""
_FIELDS = ("service", "slot", "generation")
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")  # C0 but tab and newline, DEL, C1, line ends
_OF_ALL_RECORDS = frozenset({*vars(logging.makeLogRecord({})), "request_id", "message", "asctime"})
_NO_CAP = 1 << 30
_CAPS = (8192, 4096, 2048, 1024, 512, 256, 64)  # characters that texts are cut to until a line fits


class Formatter(logging.Formatter):
    """The base of both forms. Labels are on every line; those of a record itself win."""

    def __init__(self, labels: Mapping[str, object]) -> None:
        super().__init__()
        self._labels = labels

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text without a final newline."""
        return self._formatted(record, _NO_CAP)

    def fitting(self, record: logging.LogRecord, most: int) -> bytes:
        """Return the record as a line of at most `most` bytes, with its newline. Long texts are cut, with a mark."""
        line = _encoded(self.format(record))
        for cap in _CAPS:
            if len(line) <= most:
                break
            line = _encoded(self._formatted(record, cap))
        return line

    def _formatted(self, record: logging.LogRecord, cap: int) -> str:
        raise NotImplementedError


class TextFormatter(Formatter):
    """One line per record: time, level, service/slot, generation, pid, message; an indented traceback follows."""

    def _formatted(self, record: logging.LogRecord, cap: int) -> str:
        labels = {**self._labels, **_labels_of(record)}
        name = str(labels.get("service", "-"))
        if "slot" in labels:
            name += f"/{labels['slot']} gen={labels.get('generation', 0)}"
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        place = f"{name} pid={_pid_of(record)}"
        if (request_id := _request_id_of(record)) is not None:
            place += f" request={_printable(request_id)}"
        if (source := _source_of(record)) is not None:
            place += f" {_printable(source)}:"
        message = _printable(_cut(record.getMessage(), cap))
        text = f"{stamp}.{int(record.msecs):03d} {record.levelname:<8} {place} {message}"
        for details in (_traceback_of(record), record.stack_info):
            if details:
                text += "\n    " + _printable(_cut(details.rstrip("\n"), cap))
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


class JsonFormatter(Formatter):
    """One JSON object per line, with the same data as the text form."""

    def _formatted(self, record: logging.LogRecord, cap: int) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields: dict[str, Any] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            **self._labels,
            **_labels_of(record),
            "pid": _pid_of(record),
        }
        texts = {
            "request_id": _request_id_of(record),
            "logger": None if record.name == LOGGER_NAME else record.name,
            "stream": _stream_of(record),
            "message": record.getMessage(),
            "traceback": _traceback_of(record),
            "stack": record.stack_info,
        }
        fields |= {name: _cut(text, cap) for name, text in texts.items() if text is not None}
        extra = _extra_of(record)
        if extra and cap == _NO_CAP:
            return _with_extra(fields, extra)
        return json.dumps(fields, default=str)


def _with_extra(fields: dict[str, Any], extra: dict[str, object]) -> str:
    try:
        return json.dumps({**fields, "extra": extra}, default=str, allow_nan=False)
    except (ValueError, TypeError, RecursionError):  # NaN, keys of a strange type, a cycle
        return json.dumps({**fields, "extra": {name: str(value) for name, value in extra.items()}}, default=str)


def _labels_of(record: logging.LogRecord) -> dict[str, object]:
    if record.name != LOGGER_NAME:  # an application may use the same names for something else
        return {}
    return {name: value for name in _FIELDS if (value := getattr(record, name, None)) is not None}


def _pid_of(record: logging.LogRecord) -> int | None:
    """Return the pid of the process a record is about: `subject_pid` if the supervisor set it."""
    subject: int | None = getattr(record, "subject_pid", None) if record.name == LOGGER_NAME else None
    return subject if subject is not None else record.process


def _request_id_of(record: logging.LogRecord) -> str | None:
    """Return the id of the request that a record is about; None if there is none."""
    told = getattr(record, "request_id", None)
    return told if isinstance(told, str) else REQUEST_ID.get()


def _stream_of(record: logging.LogRecord) -> str | None:
    """Return the stream that a captured line was written to; None for other records."""
    return getattr(record, "stream", None) if record.name == LOGGER_NAME else None


def _source_of(record: logging.LogRecord) -> str | None:
    """Return who has written a captured record: a logger of the application, or a stream."""
    return _stream_of(record) if record.name == LOGGER_NAME else record.name


def _traceback_of(record: logging.LogRecord) -> str | None:
    if record.exc_info and record.exc_info[0] is not None:
        return "".join(traceback.format_exception(*record.exc_info))
    return record.exc_text or None  # of a record that was pickled


def _extra_of(record: logging.LogRecord) -> dict[str, object]:
    """Return what the application has given as `extra`."""
    if record.name == LOGGER_NAME:
        return {}
    return {name: value for name, value in vars(record).items() if name not in _OF_ALL_RECORDS}


def _cut(text: str, cap: int) -> str:
    """Return a text of about `cap` characters: its beginning and its end, which is where tracebacks say most."""
    if len(text) <= cap:
        return text
    end = cap // 2
    return f"{text[: cap - end]}... ({len(text) - cap} characters cut) ...{text[-end:]}"


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace") + b"\n"


class LineHandler(logging.Handler):
    """Writes records to a descriptor, and never waits for it."""

    formatter: Formatter | None

    def __init__(self, fd: int = 2) -> None:
        super().__init__()
        self._writer = LineWriter(fd, unpatched("poll"))
        self._lost = 0  # records lost since the last one that was written

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record if there is room, else count it. Never raises or blocks."""
        if self._lost:
            if not self._write(_notice("%d log records lost: %s", self._lost, self._writer.why_lost)):
                self._lose()
                return
            self._lost = 0
        if not self._write(record):
            self._lose()

    def _lose(self) -> None:
        self._lost += 1
        LOSSES.lines += 1

    def _write(self, record: logging.LogRecord) -> bool:
        line = self._line(record, LONGEST)
        if not self._writer.takes(len(line)):
            line = self._line(record, PIPE_BUF)
        return self._writer.write(line)

    def _line(self, record: logging.LogRecord, most: int) -> bytes:
        assert self.formatter is not None, "set by `configure`"
        try:
            return self.formatter.fitting(record, most)
        except Exception:  # noqa: BLE001 - a bad format string, or a bad argument, must not end a supervisor
            text = f"(unformattable log record) {_repr(record.msg)}"
            return self.formatter.fitting(_notice("%s", text, level=record.levelno), most)


def _repr(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - code of the application
        return f"<{type(value).__name__}>"


def _notice(text: str, *arguments: object, level: int = logging.WARNING) -> logging.LogRecord:
    """Return a record about the log itself."""
    return logging.LogRecord(LOGGER_NAME, level, "", 0, text, arguments, None)


def unpatched(name: str, module: str = "select") -> Callable[..., Any]:
    """Return a function of a module of the standard library, e.g. `select.poll`, without gevent's patch of it.

    gevent's would switch greenlets.
    """
    saved: dict[str, dict[str, Any]] = getattr(sys.modules.get("gevent.monkey"), "saved", {})
    found: Callable[..., Any] = saved.get(module, {}).get(name) or getattr(importlib.import_module(module), name)
    return found


_FORMATTERS: dict[str, Callable[[Mapping[str, object]], Formatter]] = {
    "text": TextFormatter,
    "json": JsonFormatter,
}


def configure(form: str, level: str, labels: Mapping[str, object], fd: int = 2) -> logging.Logger:
    """Make the logger `hybrid` write to `fd` in `form` (`text` or `json`) with `labels` on every line.

    Called once per process: by the supervisor, and by each worker after its fork. Does not touch the root logger, which
    belongs to the application: see `share_with_root`. Raises `ValueError` for an unknown form or level.
    """
    if form not in _FORMATTERS:
        raise ValueError(f"unknown log format {form!r}: use one of {', '.join(_FORMATTERS)}")
    logger = logging.getLogger(LOGGER_NAME)
    for old in list(logger.handlers):
        logger.removeHandler(old)
    handler = LineHandler(fd)
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
        if isinstance(handler, LineHandler):
            handler.setFormatter(_FORMATTERS[form](labels))


def share_with_root(level: str) -> None:
    """Let the handler of `configure` log the records of all loggers, at `level` and above."""
    root = logging.getLogger()
    for handler in logging.getLogger(LOGGER_NAME).handlers:
        if isinstance(handler, LineHandler):
            root.addHandler(handler)
    root.setLevel(level.upper())
