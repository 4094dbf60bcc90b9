"""Opening the sockets of one TCP or UDP address: the first, unless another service is there, and others beside it.

All have SO_REUSEPORT. Which of them a connection goes to is decided in `group`.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import Any

from hybrid.supervisor.listeners.addresses import TcpBind, UdpBind

SO_BINDTODEVICE = 25
"""From asm-generic/socket.h; the `socket` module does not know it."""
_LONGEST_DEVICE = 16  # bytes of an interface's name and its NUL: IFNAMSIZ, linux/if.h

Where = tuple[socket.AddressFamily, tuple[Any, ...]]
"""Address family and socket address."""


def open_first(bind: TcpBind | UdpBind, backlog: int) -> socket.socket:
    """Return the first member of the group of `bind`, bound (and listening, if TCP), non-blocking.

    Raises `OSError` (`socket.gaierror` among them). Blocks while a host name is resolved.
    """
    if isinstance(bind, TcpBind):
        return _open_first_stream(_resolve(bind, socket.SOCK_STREAM), backlog, bind.ipv6_only)
    return _open_first_datagram(_resolve(bind, socket.SOCK_DGRAM), bind.ipv6_only)


def open_beside(member: socket.socket, backlog: int) -> socket.socket:
    """Return one more member of the group of `member`; for TCP it belongs to the group as soon as this returns.

    Raises `OSError`: EADDRINUSE if another user has made `member`. Never blocks.
    """
    sock = _new(member.family, member.type)
    try:
        _resemble(sock, member)
        _bind(sock, member.getsockname(), backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def listen_again(sock: socket.socket, where: Any, backlog: int) -> None:
    """Have a TCP socket listen that was shut down, in all processes that share it. Raises `OSError`.

    It has kept its port, unless the kernel had chosen it. In a group it is the last member from now on.
    """
    try:
        sock.bind(where)
    except OSError as error:
        if error.errno != errno.EINVAL:  # it is bound; else `listen` would choose another port
            raise
    sock.listen(backlog)


def _open_first_stream(where: Where, backlog: int, ipv6_only: bool) -> socket.socket:
    """Open the first member, unless a socket listens there, in either family if it is for both.

    With SO_REUSEPORT set, bind(2) succeeds beside any other group of the same user: two services would share the
    port unnoticed. A socket without it is refused, so one is tried first. Two services that start
    within the same millisecond refuse each other at worst. For port 0 the kernel looks for a free port, and a port
    with a group is not free (`inet_csk_find_open_port`).
    """
    if where[1][1] != 0:
        _open(where, socket.SOCK_STREAM, backlog, ipv6_only, shared=False).close()
    return _open(where, socket.SOCK_STREAM, backlog, ipv6_only, shared=True)


def _open_first_datagram(where: Where, ipv6_only: bool) -> socket.socket:
    """Open the first member, unless a socket receives there.

    Here the one that is tried first stays until the member has joined it, so that no moment remains in which two
    services could get the same port. (TCP needs SO_REUSEADDR too, which would make this useless there; and for
    port 0 `udp_lib_get_port` does count a port with a group as free.)
    """
    with _open(where, socket.SOCK_DGRAM, 0, ipv6_only, shared=False) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return _open((where[0], probe.getsockname()), socket.SOCK_DGRAM, 0, ipv6_only, shared=True)


def _resolve(bind: TcpBind | UdpBind, kind: socket.SocketKind) -> Where:
    try:
        found = socket.getaddrinfo(bind.host, bind.port, type=kind, flags=socket.AI_PASSIVE)
    except UnicodeError:  # a label that is empty or too long: the codec "idna" refuses it before any look-up
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
    return found[0][0], found[0][4]


def _open(where: Where, kind: socket.SocketKind, backlog: int, ipv6_only: bool, *, shared: bool) -> socket.socket:
    family, address = where
    sock = _new(family, kind)
    try:
        if family == socket.AF_INET6:  # whatever the system's default (net.ipv6.bindv6only)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, ipv6_only)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        _bind(sock, address, backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _new(family: int, kind: int) -> socket.socket:
    sock = socket.socket(family, kind)
    sock.setblocking(False)
    return sock


def _bind(sock: socket.socket, address: Any, backlog: int) -> None:
    is_stream = sock.type == socket.SOCK_STREAM
    if is_stream:  # connections of an earlier service in TIME_WAIT do not count
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # for the connections, which inherit it (`sk_clone_lock`, net/core/sock.c): a system call less for each
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.bind(address)
    if is_stream:
        sock.listen(backlog)


def _resemble(sock: socket.socket, member: socket.socket) -> None:
    """Give `sock` what the kernel compares before it puts two sockets into one group (`inet_reuseport_add_sock`)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if member.family == socket.AF_INET6:
        only = member.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
    device = b""
    with contextlib.suppress(OSError):  # a kernel without network devices by name has none to compare
        device = member.getsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, _LONGEST_DEVICE).rstrip(b"\0")
    if device:
        sock.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, device + b"\0")
