"""No new handshakes on a listening socket: a classic-BPF filter that drops each SYN, and nothing else.

At a stop, closing the socket would reset connections whose handshake the kernel has completed and which no worker has
accepted yet; going on to listen would let further ones in, to be reset at the end. A dropped SYN is sent again after a
second (RFC 6298, section 2.1), and finds a closed port, or the successor.
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
    """The kernel did not take the filter; connections go on to come in."""


def ignore(listener: socket.socket) -> None:
    """Let no further handshake begin on `listener`, in any process that shares it. Never blocks.

    Raises `HandshakesError`.
    """
    try:
        attach(listener, SO_ATTACH_FILTER, _PROGRAM)
    except OSError as error:
        raise HandshakesError(f"the kernel refuses a filter: {error.strerror}") from error
