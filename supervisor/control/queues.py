"""How many connections wait in the accept queue of a listening socket, asked of the kernel.

A TCP socket answers by TCP_INFO (tcp(7)): a listening one has its queue in the field for unacknowledged segments, and
the limit in the next one (`tcp_get_info`, net/ipv4/tcp.c). A UNIX socket is named by its inode, and netlink answers
(sock_diag(7)). Both work from any process, without rights.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Final

from hybrid.workers.contract.records import record

_LISTEN: Final = 10  # TCP_LISTEN, include/net/tcp_states.h
_TCP_INFO: Final = struct.Struct("=B23xII")  # struct tcp_info: tcpi_state, tcpi_unacked, tcpi_sacked

# linux/netlink.h, linux/sock_diag.h, linux/unix_diag.h
_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST: Final = 1
_UDIAG_SHOW_RQLEN: Final = 0x10
_UNIX_DIAG_RQLEN: Final = 4
_ANY_COOKIE: Final = 0xFFFFFFFF
_HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence number, port
_ASK: Final = struct.Struct("=BBHIIIII")  # struct unix_diag_req: family, protocol, pad, states, inode, show, cookie
_REPLY: Final = struct.Struct("=BBBBIII")  # struct unix_diag_msg: family, type, state, pad, inode, cookie
_ATTRIBUTE: Final = struct.Struct("=HH")  # struct nlattr: length, type
_LENGTHS: Final = struct.Struct("=II")  # struct unix_diag_rqlen
_ALL_STATES: Final = 0xFFFFFFFF
_MOST_REPLY: Final = 4096  # bytes


@record(frozen=True, slots=True)
class AcceptQueue:
    """The accept queue of a listening socket."""

    waiting: int
    """Connections that no process has accepted yet."""
    limit: int
    """The backlog that is in force: with more waiting, connections are refused, dropped or have to wait."""


def accept_queue(sock: socket.socket) -> AcceptQueue | None:
    """Return the queue of a listening TCP or UNIX stream socket; None for others, or if the kernel does not tell.

    Never blocks, never raises. The first question about a UNIX socket may have the kernel load a module.
    """
    try:  # first: to ask a socket object for its family takes longer than to ask the kernel for the queue
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    except OSError:  # not TCP, or closed
        return _of_another_kind(sock)
    if len(info) != _TCP_INFO.size:
        return None
    state, waiting, limit = _TCP_INFO.unpack(info)
    return AcceptQueue(waiting, limit) if state == _LISTEN else None


def _of_another_kind(sock: socket.socket) -> AcceptQueue | None:
    try:
        if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
            return None
        return _of_unix(os.fstat(sock.fileno()).st_ino)
    except (OSError, struct.error):  # closed; no netlink here; EMFILE
        return None


def _of_unix(inode: int) -> AcceptQueue | None:
    ask = _ASK.pack(socket.AF_UNIX, 0, 0, _ALL_STATES, inode, _UDIAG_SHOW_RQLEN, _ANY_COOKIE, _ANY_COOKIE)
    header = _HEADER.pack(_HEADER.size + len(ask), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as link:
        link.sendto(header + ask, socket.MSG_DONTWAIT, (0, 0))
        reply = link.recv(_MOST_REPLY, socket.MSG_DONTWAIT)  # the kernel has answered within sendto(2)
    _, kind, _, _, _ = _HEADER.unpack_from(reply)
    if kind != _SOCK_DIAG_BY_FAMILY:  # NLMSG_ERROR: no such socket in this network namespace
        return None
    _, _, state, _, found, _, _ = _REPLY.unpack_from(reply, _HEADER.size)
    if state != _LISTEN or found != inode & 0xFFFFFFFF:
        return None
    return _lengths_in(reply, _HEADER.size + _REPLY.size)


def _lengths_in(reply: bytes, at: int) -> AcceptQueue | None:
    while at + _ATTRIBUTE.size <= len(reply):
        length, kind = _ATTRIBUTE.unpack_from(reply, at)
        if kind == _UNIX_DIAG_RQLEN:
            return AcceptQueue(*_LENGTHS.unpack_from(reply, at + _ATTRIBUTE.size))
        at += max((length + 3) & ~3, _ATTRIBUTE.size)  # aligned to 4 bytes; at least one step
    return None
