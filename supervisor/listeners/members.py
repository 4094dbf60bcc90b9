"""Opens the sockets of one TCP or UDP address: the first one, unless another service has the address, and more.

All have SO_REUSEPORT. `group` decides which of them gets a connection.
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
    """Return one more member of the group of `member`; for TCP, the kernel uses it at once.

    Raises `OSError`: EADDRINUSE if another user created `member`. Never blocks.
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
    """Make a TCP socket listen again after shutdown(2), in all processes that share it. Raises `OSError`.

    It kept its port, unless the kernel had chosen that. In a group it becomes the last member.
    """
    try:
        sock.bind(where)
    except OSError as error:
        if error.errno != errno.EINVAL:  # EINVAL: it is still bound. Otherwise `listen` would choose another port
            raise
    sock.listen(backlog)


def _open_first_stream(where: Where, backlog: int, ipv6_only: bool) -> socket.socket:
    """Open the first member, unless a socket listens there, in either family if it is for both.

    With SO_REUSEPORT, bind(2) succeeds beside any group of the same user: two services would share the port unnoticed.
    Without it, bind(2) fails, so a socket without it is tried first. At worst, two services that start within the same
    millisecond both fail. For port 0 the kernel looks for a free port, and a port with a group is not free
    (`inet_csk_find_open_port`).
    """
    if where[1][1] != 0:
        _open(where, socket.SOCK_STREAM, backlog, ipv6_only, shared=False).close()
    return _open(where, socket.SOCK_STREAM, backlog, ipv6_only, shared=True)


def _open_first_datagram(where: Where, ipv6_only: bool) -> socket.socket:
    """Open the first member, unless a socket receives there.

    Here the probe socket stays open until the member is bound, so that no moment remains in which two services could
    get the same port. (TCP needs SO_REUSEADDR too, which would defeat this; and for port 0 `udp_lib_get_port` does
    count a port with a group as free.)
    """
    with _open(where, socket.SOCK_DGRAM, 0, ipv6_only, shared=False) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return _open((where[0], probe.getsockname()), socket.SOCK_DGRAM, 0, ipv6_only, shared=True)


def _resolve(bind: TcpBind | UdpBind, kind: socket.SocketKind) -> Where:
    try:
        found = socket.getaddrinfo(bind.host, bind.port, type=kind, flags=socket.AI_PASSIVE)
    except UnicodeError:  # an empty or too long label: the codec "idna" rejects it before any lookup
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
    return found[0][0], found[0][4]


def _open(where: Where, kind: socket.SocketKind, backlog: int, ipv6_only: bool, *, shared: bool) -> socket.socket:
    family, address = where
    sock = _new(family, kind)
    try:
        if family == socket.AF_INET6:  # overrides net.ipv6.bindv6only
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
    if is_stream:  # ignore connections of an earlier service in TIME_WAIT
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # connections inherit it (`sk_clone_lock`, net/core/sock.c), which saves a system call for each
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.bind(address)
    if is_stream:
        sock.listen(backlog)


def _resemble(sock: socket.socket, member: socket.socket) -> None:
    """Copy the options that the kernel compares before it groups two sockets (`inet_reuseport_add_sock`)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if member.family == socket.AF_INET6:
        only = member.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
    device = b""
    with contextlib.suppress(OSError):  # not supported by the kernel, so not compared
        device = member.getsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, _LONGEST_DEVICE).rstrip(b"\0")
    if device:
        sock.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, device + b"\0")
