"""Connecting a cooperative socket; host names are resolved in a thread.

`connect` belongs to `sockets`, and uses the private names of `Socket`.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Sequence
from threading import get_ident
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybrid.workers.hub.sockets import Socket

_connect_ex = socket.socket.connect_ex  # bound now: a program may put another class, even `Socket`, in its place


def connect(sock: Socket, address: Any) -> int:
    """Connect `sock`; return 0 or an errno. Parks. Raises `TimeoutError`, `BlockingIOError`, `OSError`."""
    ends = sock._deadline()
    code = _connect_ex(sock, _resolved(sock, address))
    if code not in (errno.EINPROGRESS, errno.EAGAIN, errno.EINTR):
        return code
    if sock._patience == 0:
        raise BlockingIOError(errno.EINPROGRESS, os.strerror(errno.EINPROGRESS))
    if code == errno.EAGAIN:  # a UNIX listener with a full backlog refuses now and reports no room later
        return code
    sock._wait_writable(sock._remaining(ends))
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def _resolved(sock: Socket, address: Any) -> Any:
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or is_numeric(address[0]):
        return address
    if get_ident() != sock._runtime.thread:
        return socket.getaddrinfo(address[0], address[1], sock.family, sock.type, sock.proto)[0][4]
    return sock._runtime.resolve(*address[:2], family=sock.family, type=sock.type, proto=sock.proto)[0][4]


def is_numeric(host: Sequence[Any] | str) -> bool:
    """Return True if `host` needs no name server."""
    if host in ("", "<broadcast>"):
        return True
    try:
        ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return False
    return True
