"""`wsgi.file_wrapper` (PEP 3333, "Optional Platform-Specific File Handling"), and which files the kernel may send."""

from __future__ import annotations

import io
import os
import stat
import tempfile
from typing import Any, NamedTuple

_BUFFERED = (io.BufferedReader, io.BufferedRandom)
_NAMED: Any = getattr(tempfile, "_TemporaryFileWrapper", None)  # returned by NamedTemporaryFile: only a proxy


class FileWrapper:
    """Iterates over a file in blocks; the server uses sendfile(2) instead if possible."""

    def __init__(self, file: Any, block_size: int = 65_536) -> None:
        self.file = file
        self.block_size = block_size
        if hasattr(file, "close"):
            self.close = file.close

    def __iter__(self) -> FileWrapper:
        return self

    def __next__(self) -> bytes:
        data: bytes = self.file.read(self.block_size)
        if data:
            return data
        raise StopIteration


class Extent(NamedTuple):
    """A part of a file, in bytes."""

    fd: int
    offset: int
    size: int


def extent_of(file: Any) -> Extent | None:
    """Return the unread part of a regular file that sendfile(2) may send instead; None for anything else.

    None also for size 0: files of /proc report it although they have content, available only by reading (proc(5)). Only
    exact types count: an object that merely has a `fileno`, such as a GzipFile, or a `read` of its own, returns other
    bytes than its descriptor. Raises nothing.
    """
    if type(file) is _NAMED:
        file = file.file
    raw = file.raw if type(file) in _BUFFERED else file
    if type(raw) is not io.FileIO:
        return None
    try:
        if type(file) is io.BufferedRandom:
            file.flush()
        fd = raw.fileno()
        status = os.fstat(fd)
        offset = file.tell()  # of the file object, which may have read ahead
    except (OSError, ValueError):  # closed, or not seekable
        return None
    if not stat.S_ISREG(status.st_mode) or not status.st_size or not raw.readable():
        return None
    return Extent(fd, offset, max(0, status.st_size - offset))
