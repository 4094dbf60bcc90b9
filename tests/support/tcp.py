"""TCP sockets as the kernel lists them: sock_diag(7), which is asked for one port and answers in some milliseconds.

/proc/net/tcp is no list to count by. It takes seconds to read on a loaded machine after a load test, for it has a row
for each of the thousands of connections in TIME_WAIT. Each page begins at a place in a table that has changed since:
rows come twice, others never.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import struct
from collections.abc import Iterator, Set
from pathlib import Path

from support.descriptors import sockets

ESTABLISHED, TIME_WAIT, LISTEN, NEW_REQUEST = 1, 6, 10, 12
ACCEPTED = frozenset(range(1, 12)) - {TIME_WAIT, LISTEN}
"""The states of a connection that a process may hold, from the accept to the end of both streams."""
_LOWEST = 10_000  # port; those below are for servers that people know
_SOCK_DIAG_BY_FAMILY, _NETLINK_SOCK_DIAG = 20, 4  # linux/sock_diag.h, linux/netlink.h
_REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_ASKED = struct.Struct("=BBBBI")  # struct inet_diag_req_v2: family, protocol, extensions, padding, states; then:
_SOCKET = struct.Struct(">HH32x12x")  # struct inet_diag_sockid: both ports, the rest is not compared
_INODE = struct.Struct("=68xI")  # struct inet_diag_msg


def unused_port() -> int:
    """Return a port that no socket has, on any address, and that the kernel gives to none that asks for any port.

    One that was just given to a socket of ours is given to another process as soon as ours is closed. The choice is not
    that of `random`, which begins each test in the same state in all processes of pytest-xdist.
    """
    ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])  # the first one: ip(7)
    while True:
        port = _LOWEST + secrets.randbelow(ephemeral - _LOWEST)
        with (
            contextlib.suppress(OSError),
            socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True),
        ):
            return port


def sockets_at(port: int, states: Set[int]) -> set[int]:
    """Return the inodes of the sockets with that local port, on whatever address, that are in one of the states.

    A socket that is there, in these states, all the time is in it. Those that nobody holds have no inode.
    """
    found: set[int] = set()
    for family in (socket.AF_INET, socket.AF_INET6):
        found.update(_dump(family, port, sum(1 << state for state in states)))
    return found - {0}


def _dump(family: int, port: int, states: int) -> Iterator[int]:
    body = _ASKED.pack(family, socket.IPPROTO_TCP, 0, 0, states) + _SOCKET.pack(port, 0)
    head = _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as sock:
        sock.send(head + body)
        while True:
            data = sock.recv(1 << 16)
            while data:
                length, kind, *_ = _HEADER.unpack_from(data)
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    number = -struct.unpack_from("=i", data, _HEADER.size)[0]
                    raise OSError(number, os.strerror(number))
                yield _INODE.unpack_from(data, _HEADER.size)[0]
                data = data[(length + 3) & ~3 :]


def connections(pid: int, port: int, states: Set[int] = frozenset({ESTABLISHED})) -> int:
    """Return how many connections to the port the process has accepted and not closed that are in one of the states.

    By default those that neither side has ended. The process should be stopped, or it may accept and close meanwhile.
    """
    return len(held(pid) & sockets_at(port, states))


def held(pid: int) -> set[int]:
    """Return the inodes of the sockets that a process holds; none if it has ended."""
    return {int(name.removeprefix("socket:[").rstrip("]")) for name in sockets(pid)}
