"""Applications that break the listening sockets of their worker when they are asked to, and else say who they are."""

from __future__ import annotations

import _socket
import os
import socket
import stat
from collections.abc import Callable
from typing import Any


def listening() -> list[int]:
    """Return the descriptors of listening and of datagram sockets in this process."""
    return [int(name) for name in os.listdir("/proc/self/fd") if _is_listening(int(name))]  # noqa: PTH208


def _is_listening(fd: int) -> bool:
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return False
        sock = _socket.socket(fileno=fd)  # gevent's would make a watcher
    except OSError:
        return False
    try:
        is_bound = sock.type == socket.SOCK_DGRAM and bool(sock.getsockname())
        return is_bound or bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    finally:
        sock.detach()


def close() -> None:
    for fd in listening():
        os.close(fd)


def replace() -> None:
    """Close them, and have their numbers be another file's."""
    read, _ = os.pipe()
    for fd in listening():
        os.dup2(read, fd)


def shut_down() -> None:
    for fd in listening():
        sock = _socket.socket(fileno=fd)
        try:
            sock.shutdown(socket.SHUT_RDWR)
        finally:
            sock.detach()


DEEDS: dict[str, Callable[[], object]] = {"close": close, "replace": replace, "shut_down": shut_down}


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    DEEDS.get(environ["PATH_INFO"][1:], int)()
    start_response("200 OK", [])
    return [b"%d" % os.getpid()]


async def handle(reader: Any, writer: Any) -> None:
    DEEDS.get((await reader.readline()).decode().strip(), int)()
    writer.write(b"%d" % os.getpid())
    writer.close()


async def answer(data: bytes, address: Any, transport: Any) -> None:
    if data == b"close":
        transport.sendto(b"%d" % os.getpid(), address)
        close()
    else:
        transport.sendto(b"%d" % os.getpid(), address)
