"""File responses: by sendfile(2) if the connection is a plain socket, otherwise read and written in blocks."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import TYPE_CHECKING, Any

from hybrid.workers.http.exchange import ClientGoneError

if TYPE_CHECKING:
    from hybrid.workers.http.h1.exchange import Http1Exchange

_PIECE = 1 << 20  # bytes per sendfile(2), so that a fast client does not hog the loop
_BLOCK = 1 << 17  # bytes per read(2), where sendfile cannot be used
_UNABLE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSOCK})


async def send(exchange: Http1Exchange, count: int, fd: int, offset: int) -> None:
    """Send `count` bytes of the file `fd` from `offset` as the last piece of the body, after its head.

    Waits for the client. Raises `OSError` if the file cannot be read, `ClientGoneError` if the client disconnects.
    """
    if count and exchange.is_plain and exchange.connection.transport.get_extra_info("sslcontext") is None:
        await _send_directly(exchange, fd, offset, count)
    else:
        await _copy(exchange, fd, offset, count)
    exchange.write(b"", more=False)


async def _wait_for_room(exchange: Http1Exchange) -> None:
    while exchange.connection.paused and not exchange.gone:
        await exchange.news()
    if exchange.gone:
        raise ClientGoneError("the client is gone")


async def _copy(exchange: Http1Exchange, fd: int, offset: int, count: int) -> None:
    while count:
        block = os.pread(fd, min(_BLOCK, count), offset)
        if not block:
            raise OSError(errno.EIO, "the file was truncated while it was sent")
        offset += len(block)
        count -= len(block)
        exchange.write(block, more=True)
        await _wait_for_room(exchange)
        if not offset % _PIECE:
            await asyncio.sleep(0)


async def _send_directly(exchange: Http1Exchange, fd: int, offset: int, count: int) -> None:
    """Let the kernel send the file, after everything before it."""
    connection = exchange.connection
    transport = connection.transport
    low, high = transport.get_write_buffer_limits()
    transport.set_write_buffer_limits(0, 0)
    try:
        if transport.get_write_buffer_size() and not connection.paused:
            connection.pause_writing()
        await _wait_for_room(exchange)
        with _duplicate(transport) as sock:
            while count:
                try:
                    sent = os.sendfile(sock.fileno(), fd, offset, min(_PIECE, count))
                except BlockingIOError:
                    await _wait_writable(exchange, sock)
                    continue
                except OSError as error:
                    if error.errno in _UNABLE:
                        await _copy(exchange, fd, offset, count)
                        return
                    connection.drop()
                    raise ClientGoneError(str(error)) from None
                if not sent:
                    raise OSError(errno.EIO, "the file was truncated while it was sent")
                exchange.count_sent(sent)
                offset += sent
                count -= sent
                if sent == _PIECE:
                    await asyncio.sleep(0)
    finally:
        transport.set_write_buffer_limits(high, low)


def _duplicate(transport: Any) -> socket.socket:
    """Return a second descriptor of the connection: the loop refuses to watch the descriptor of its own transport."""
    return socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))


async def _wait_writable(exchange: Http1Exchange, sock: socket.socket) -> None:
    """Wait for room in the socket, at most until the send timeout."""
    loop = exchange.connection.context.loop
    writable = exchange.news()  # also resolved when the client disconnects, which this descriptor would not report
    loop.add_writer(sock.fileno(), lambda: None if writable.done() else writable.set_result(None))
    timeout = exchange.connection.context.settings.limits.send_timeout or None
    try:
        async with asyncio.timeout(timeout):
            await writable
    except TimeoutError:
        exchange.connection.cut()
        raise ClientGoneError("the client reads no data") from None
    finally:
        loop.remove_writer(sock.fileno())
        exchange.forget(writable)
    if exchange.gone:
        raise ClientGoneError("the client is gone")
