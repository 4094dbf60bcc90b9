"""Blocks new handshakes on a listening socket, by a classic BPF filter that drops each SYN and nothing else.

At a stop, closing the socket would reset connections whose handshake is complete but which no worker has accepted.
Listening on would let in further ones, which are reset at the end. The client sends a dropped SYN again after a second
(RFC 6298, section 2.1), and reaches a closed port, or the successor.
"""

from __future__ import annotations

import socket

from hybrid.supervisor.listeners.bpf import Instruction, attach

SO_ATTACH_FILTER = 26
"""From asm-generic/socket.h; the `socket` module does not know it."""

# linux/bpf_common.h; the filter of a TCP socket sees the packet from its TCP header on (RFC 9293, section 3.1)
_LOAD_BYTE, _AND, _JUMP_IF_EQUAL, _RETURN = 0x30, 0x54, 0x15, 0x06
_FLAGS, _SYN, _ACK = 13, 0x02, 0x10
_ALL = 0xFFFFFFFF
_PROGRAM: list[Instruction] = [
    (_LOAD_BYTE, 0, 0, _FLAGS),
    (_AND, 0, 0, _SYN | _ACK),
    (_JUMP_IF_EQUAL, 0, 1, _SYN),
    (_RETURN, 0, 0, 0),
    (_RETURN, 0, 0, _ALL),
]


class HandshakesError(Exception):
    """The kernel refused the filter; connections still come in."""


def ignore(listener: socket.socket) -> None:
    """Begin no further handshake on `listener`, in any process that shares it. Never blocks.

    Raises `HandshakesError`.
    """
    try:
        attach(listener, SO_ATTACH_FILTER, _PROGRAM)
    except OSError as error:
        raise HandshakesError(f"the kernel refuses a filter: {error.strerror}") from error
