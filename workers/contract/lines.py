"""A descriptor that whole lines are written to. No line waits for a reader, and none is torn by another process.

Several processes write to one file, pipe or socket. What keeps their lines whole depends on its kind:

- A regular file opened with O_APPEND: one write(2) is one line, because the inode is locked meanwhile
  (`ext4_buffered_write_iter` in fs/ext4/file.c; not on NFS). The processes that inherited a file opened otherwise share
  its position, which is locked too.
- A pipe: one write(2) is one line if there is room for all of it, because the pipe is locked meanwhile (`pipe_write` in
  fs/pipe.c). A line of up to PIPE_BUF bytes always has that property (pipe(7)).
- A socket, such as journald's: one write(2) of up to 32 KiB is one buffer (`unix_stream_sendmsg` in
  net/unix/af_unix.c).
- A terminal: poll(2) tells that there is room, but not for how much, and O_NONBLOCK would be set for the shell, too. So
  it is opened again, without blocking. If that is not allowed, as for a worker of another account, and for anything
  else: byte by byte, each only if there is room.
"""

from __future__ import annotations

import array
import enum
import fcntl
import os
import posix
import select
import stat
import termios
from collections.abc import Callable
from typing import Any, Final

LONGEST = 32 * 1024
"""Bytes of the longest line."""
PIPE_BUF = select.PIPE_BUF
"""Bytes of a line that a pipe always takes whole."""
WHY_LOST_IN_FILE = "they could not be written (is the disk full?)"
"""Why lines of a regular file are lost, most likely, in words."""


class Losses:
    """Counts the lines that this process could not write. A fork begins with the count of its parent."""

    __slots__ = ("lines",)

    def __init__(self) -> None:
        self.lines = 0


LOSSES: Final = Losses()
"""Those of the log and of the access log."""


class _Kind(enum.Enum):
    FILE = "a regular file"
    PIPE = "a pipe"
    SOCKET = "a socket"
    OTHER = "a terminal, or a device"


class LineWriter:
    """Writes lines to a descriptor that belongs to another object. No method blocks, and none raises `OSError`."""

    def __init__(self, fd: int, poll: Callable[[], Any]) -> None:
        """`poll` makes an object such as `select.poll` does."""
        self._kind = _kind_of(fd)
        self._own = _reopened(fd) if self._kind is _Kind.OTHER else None
        self._fd = fd if self._own is None else self._own
        self._poll = poll()
        self._poll.register(self._fd, select.POLLOUT)
        self._is_torn = False  # the last line is incomplete

    def __del__(self) -> None:
        """Close what was opened again."""
        own: int | None = getattr(self, "_own", None)  # not there if the constructor has failed
        if own is not None:
            posix.close(own)

    @property
    def why_lost(self) -> str:
        """Why a line is lost, most likely, in words."""
        return WHY_LOST_IN_FILE if self._kind is _Kind.FILE else "nobody read them"

    def takes(self, size: int) -> bool:
        """Return True if a line of `size` bytes stays whole now."""
        return size <= PIPE_BUF or self._kind is not _Kind.PIPE or size <= _room(self._fd)

    def write(self, line: bytes) -> bool:
        """Write a line with its newline; return False if it is lost, at least in part."""
        data = b"\n" + line if self._is_torn else line
        written = self._write(data)
        if written:
            self._is_torn = written < len(data)
        return written == len(data)

    def _write(self, data: bytes) -> int:
        """Return the number of bytes written."""
        step = 1 if self._kind is _Kind.OTHER and self._own is None else len(data)
        start = 0
        try:
            while start < len(data) and self._poll.poll(0):
                written = os.write(self._fd, data[start : start + step])
                start += written
                if written < step and step == len(data):  # ENOSPC follows, or a full buffer of a non-blocking pipe
                    break
        except OSError:  # EPIPE, EBADF, ENOSPC, EAGAIN, EIO of a closed terminal: cannot be reported
            pass
        return start


def _kind_of(fd: int) -> _Kind:
    try:
        mode = os.fstat(fd).st_mode
    except OSError:  # closed: every write fails
        return _Kind.OTHER
    if stat.S_ISREG(mode):
        return _Kind.FILE
    if stat.S_ISFIFO(mode):
        return _Kind.PIPE
    return _Kind.SOCKET if stat.S_ISSOCK(mode) else _Kind.OTHER


def _reopened(fd: int) -> int | None:
    """Open a terminal again, without blocking; None for anything else, or if that is not allowed."""
    try:
        if not os.isatty(fd):
            return None
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # EACCES, EIO of a terminal that is gone, no /proc
        return None


def _room(fd: int) -> int:
    """Return how many bytes a pipe certainly takes at once, if no other process writes at the same moment.

    A write that does not fit into the rest of a page begins another one, so that half of each page may be wasted.
    """
    unread = array.array("i", [0])
    try:
        fcntl.ioctl(fd, termios.FIONREAD, unread)
        return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) - 2 * unread[0] - 2 * PIPE_BUF
    except OSError:
        return PIPE_BUF
