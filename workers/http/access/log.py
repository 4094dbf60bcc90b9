"""The access log: writes one line per response to a file descriptor, and never waits for it.

A reader of standard output may be slow, stuck or gone; the worker goes on serving. `record` has the contents of a line,
`line` its formats.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import stat
from collections.abc import Callable, Mapping

from hybrid.workers.contract import log
from hybrid.workers.contract.lines import LOSSES, WHY_LOST_IN_FILE
from hybrid.workers.http.access.line import check_format, formatter, names_answer_fields
from hybrid.workers.http.access.record import AccessRecord

__all__ = ["AccessLog", "AccessRecord", "check_format", "formatter"]

# the file system or the kernel has no room now, and may have some later
_PASSING = {errno.EAGAIN, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOBUFS, errno.ENOMEM}
_SECONDS_BETWEEN_WARNINGS = 10.0

_log = logging.getLogger("hybrid")


class AccessLog:
    """Writes records to one descriptor; one per worker, made after its fork, used in one thread.

    Every line is one write(2). A line without room is dropped and counted, and the count is logged to `hybrid` when
    there is room again. A partially written line is finished before the next one. When the reader is gone, the access
    log switches itself off and logs that once.

    How it avoids blocking: a pipe or a terminal is reopened in non-blocking mode, which leaves the descriptor shared
    with the supervisor and other workers alone (O_NONBLOCK belongs to the open file, open(2)). If that is not allowed,
    and for sockets, poll(2) is called before each write; a worker can then still block in the rare case that another
    one fills a pipe between the two calls. Regular files are written to directly.
    """

    def __init__(self, form: str, labels: Mapping[str, object], fd: int = 1) -> None:
        """Write to `fd` in `form`; JSON lines include `labels` and the process id.

        Raises `ValueError` for an unknown form and `OSError` if `fd` is closed.
        """
        self.wants_heads = names_answer_fields(form)
        """True if the form uses `AccessRecord.head`."""
        self._format = formatter(form, {**labels, "pid": os.getpid()})
        mode = os.fstat(fd).st_mode
        self._why_lost = WHY_LOST_IN_FILE if stat.S_ISREG(mode) else "they were not read"
        self._own = _reopened(fd) if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) else None
        self._fd = fd if self._own is None else self._own
        self._poll: Callable[[int], list[object]] | None = None
        if self._own is None and not stat.S_ISREG(mode):
            poller = log.unpatched("poll")()
            poller.register(fd, select.POLLOUT)
            self._poll = poller.poll
        self._tail = b""  # the unwritten end of a partially written line
        self._on = True
        self._untold = 0  # lines lost since the last warning
        self._quiet_until = 0.0
        self.lost = 0
        """Lines dropped so far."""

    def write(self, record: AccessRecord) -> None:
        """Write one line, or count it as lost. Neither blocks nor raises."""
        if not self._on:
            return
        line = self._format(record).encode("ascii", "replace") + b"\n"
        tail = self._tail
        taken = self._send(tail + line) - len(tail)
        if taken > 0:
            self._tail = line[taken:]
            if self._untold:
                self._tell(record.time)
        else:
            self._tail = tail[len(tail) + taken :]
            self.lost += 1
            self._untold += 1
            LOSSES.lines += 1

    def close(self) -> None:
        """Try once to finish a partial line, log the number of lost lines, close files opened here, but not `fd`."""
        if self._on and self._tail:
            self._send(self._tail)
        if self._untold:
            self._tell(self._quiet_until)
        self._on = False
        if self._own is not None:
            os.close(self._own)
            self._own = None

    def _send(self, data: bytes) -> int:
        """Return the number of bytes written."""
        try:
            if self._poll is None or self._poll(0):
                return os.write(self._fd, data)
        except OSError as error:
            if error.errno not in _PASSING:
                self._on = False
                _log.error("access log switched off, its output is gone: %s", error.strerror)
        return 0

    def _tell(self, now: float) -> None:
        if now >= self._quiet_until:
            _log.warning("%d lines of the access log lost: %s", self._untold, self._why_lost)
            self._untold = 0
            self._quiet_until = now + _SECONDS_BETWEEN_WARNINGS


def _reopened(fd: int) -> int | None:
    """Reopen the file behind a descriptor in non-blocking mode; None if that is refused.

    The kernel refuses after privileges were dropped (EACCES), and for a named pipe without a reader (ENXIO, fifo(7)).
    """
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
