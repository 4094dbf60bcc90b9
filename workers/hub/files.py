"""`Socket.sendfile`: sendfile(2) if the file allows it, else read and send.

It belongs to `sockets`, and uses the private names of `Socket`.
"""

from __future__ import annotations

import errno
import io
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybrid.workers.hub.sockets import Socket

_CHUNK = 1 << 20  # bytes per sendfile(2), so that a fast peer does not keep the loop busy
_BLOCK = 65_536  # bytes per read of a file that sendfile(2) refuses


def send(sock: Socket, file: Any, offset: int, count: int | None) -> int:
    """Send `count` bytes of `file` (None: all) from `offset`; return how many were sent. See `Socket.sendfile`."""
    _check(sock, file, count)
    try:
        source = file.fileno()
        os.fstat(source)
    except (AttributeError, io.UnsupportedOperation, OSError):
        return _send_by_reading(sock, file, offset, count)
    sent = 0
    try:
        while count is None or sent < count:
            block = _CHUNK if count is None else min(_CHUNK, count - sent)
            try:
                step = os.sendfile(sock._fd, source, offset + sent, block)
            except BlockingIOError:
                sock._wait_writable(sock._patience)
                continue
            except OSError as error:
                if sent == 0 and error.errno in (errno.EINVAL, errno.ENOSYS, errno.ESPIPE):
                    return _send_by_reading(sock, file, offset, count)
                raise
            if step == 0:
                break
            sent += step
            if sock._is_due():
                sock._give_way()
        return sent
    finally:
        if sent:
            _leave_at(file, offset + sent)


def _check(sock: Socket, file: Any, count: int | None) -> None:
    if "b" not in getattr(file, "mode", "b"):
        raise ValueError("file should be opened in binary mode")
    if not sock.type & socket.SOCK_STREAM:
        raise ValueError("only SOCK_STREAM type sockets are supported")
    if count is not None and not isinstance(count, int):
        raise TypeError(f"count must be a positive integer (got {count!r})")
    if count is not None and count <= 0:
        raise ValueError(f"count must be a positive integer (got {count!r})")
    if sock._patience == 0:
        raise ValueError("non-blocking sockets are not supported")


def _send_by_reading(sock: Socket, file: Any, offset: int, count: int | None) -> int:
    if offset:
        file.seek(offset)
    sent = 0
    try:
        while count is None or sent < count:
            block = memoryview(file.read(_BLOCK if count is None else min(_BLOCK, count - sent)))
            if not block:
                break
            while block:
                step = sock.send(block)
                sent += step
                block = block[step:]
        return sent
    finally:
        if sent:
            _leave_at(file, offset + sent)


def _leave_at(file: Any, position: int) -> None:
    """Set the position of a file behind the bytes that were sent; a pipe has none."""
    with suppress(AttributeError, io.UnsupportedOperation):
        file.seek(position)
