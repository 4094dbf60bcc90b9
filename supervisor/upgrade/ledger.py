"""The ledger: what one supervisor's workers count, for another one to read: of a predecessor, or of its successor.

A memfd of two halves. Each has a number, a size and a CRC-32 in front. The writer takes the halves in turns, so one of
them is whole at any moment, also if the writer is killed within a write. One process writes; any number read. The
content is JSON.

The writer holds a lock on the file (fcntl(2), F_SETLK), which the kernel releases at its death. So a reader knows
whether the content may still change.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import zlib
from collections.abc import Mapping
from typing import Any, Final

FILE_NAME: Final = "hybrid-ledger"
HALF: Final = 4 << 20
"""Bytes of a half, which take memory only where they are written; a slot takes about 200."""
_HEAD: Final = struct.Struct("=QII")  # number, size, CRC-32

Content = Mapping[str, Any]


class LedgerError(Exception):
    """A ledger cannot be written or read; the text says why. What was written or read last still holds."""


class Ledger:
    """One end of a ledger. No method blocks."""

    def __init__(self, fd: int) -> None:
        """Take over a descriptor."""
        self._fd = fd
        self._number = 0  # of the last content that was written or read
        self._content: Content = {}

    @classmethod
    def create(cls) -> Ledger:
        """Return an empty ledger. Raises `LedgerError`."""
        try:
            return cls(os.memfd_create(FILE_NAME, os.MFD_CLOEXEC))
        except OSError as error:  # EMFILE, ENFILE, ENOMEM
            raise LedgerError(_reason(error)) from error

    def fileno(self) -> int:
        """Return the descriptor; -1 once closed."""
        return self._fd

    def claim(self) -> None:
        """Be the writer, until this process closes the ledger or ends. Raises `LedgerError` if another one is."""
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LedgerError(_reason(error)) from error

    @property
    def is_final(self) -> bool:
        """True if no process writes any more. A content read after this is the last one."""
        if self._fd == -1:
            return True
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.lockf(self._fd, fcntl.LOCK_UN)
        except OSError:  # EAGAIN or EACCES: it is locked (fcntl(2))
            return False
        return True

    def write(self, content: Content) -> None:
        """Replace the content. Raises `LedgerError`: too long, or no memory; then the last one stays."""
        data = json.dumps(content, separators=(",", ":")).encode("ascii")
        if self._fd == -1:
            raise LedgerError("it is closed")
        if len(data) > HALF - _HEAD.size:
            raise LedgerError(f"it has {len(data)} bytes, and {HALF - _HEAD.size} is the limit")
        number = self._number + 1
        head = _HEAD.pack(number, len(data), _check(number, data))
        try:
            written = os.pwrite(self._fd, head + data, number % 2 * HALF)
        except OSError as error:  # ENOMEM, ENOSPC
            raise LedgerError(_reason(error)) from error
        if written != len(head) + len(data):
            raise LedgerError(f"only {written} of {len(head) + len(data)} bytes have room")
        self._number = number

    def read(self) -> Content:
        """Return the newest content that is whole; {} before the first one.

        Raises `LedgerError` if something was written and none is whole. Once closed, returns what was read last.
        """
        if self._fd == -1:
            return self._content
        try:
            for half in (0, 1):
                self._read(half * HALF)
            if self._number == 0 and os.fstat(self._fd).st_size:
                raise LedgerError("neither half is whole")
        except OSError as error:
            raise LedgerError(_reason(error)) from error
        return self._content

    def _read(self, offset: int) -> None:
        """Take the content of a half if it is whole and newer. Raises `OSError`."""
        head = os.pread(self._fd, _HEAD.size, offset)
        if len(head) < _HEAD.size:
            return
        number, size, check = _HEAD.unpack(head)
        if number <= self._number or size > HALF:
            return
        data = os.pread(self._fd, size, offset + _HEAD.size)
        if len(data) == size and _check(number, data) == check:
            self._number, self._content = number, json.loads(data)

    def close(self) -> None:
        """Close the descriptor; what was read last stays. May be called twice, and in children."""
        fd, self._fd = self._fd, -1
        if fd != -1:
            os.close(fd)


def _check(number: int, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(number.to_bytes(8, "little")))


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
