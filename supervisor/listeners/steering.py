"""Selects the members of an SO_REUSEPORT group that get new connections, by a classic BPF program for the group.

The program returns the index of a member; for an unknown index the kernel falls back to its hash
(`reuseport_select_sock`, net/core/sock_reuseport.c). Members never leave the group while the supervisor holds them, so
an index is a slot. It works without privileges, and can be replaced at any time through any member. A connection costs
two instructions per slot at most; with all members wanted there is no program at all.

TCP chooses at random. UDP uses the sender's address, so that the datagrams of a sender go to one worker.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from hybrid.supervisor.listeners.bpf import Instruction, attach

SO_ATTACH_REUSEPORT_CBPF = 51
SO_DETACH_REUSEPORT_BPF = 68
"""Both from asm-generic/socket.h; the `socket` module does not know them."""

# linux/bpf_common.h and linux/filter.h
_LOAD_WORD, _LOAD_HALF, _LOAD_BYTE = 0x20, 0x28, 0x30  # BPF_LD | BPF_ABS with BPF_W, BPF_H or BPF_B
_COPY_A_TO_X = 0x07  # BPF_MISC | BPF_TAX
_ADD_X, _MULTIPLY, _SHIFT_RIGHT, _MODULO = 0x0C, 0x24, 0x74, 0x94  # BPF_ALU
_JUMP, _JUMP_IF_EQUAL = 0x05, 0x15  # BPF_JMP with BPF_JA, or with BPF_JEQ | BPF_K
_RETURN, _RETURN_A = 0x06, 0x16
_RANDOM = 0xFFFFF000 + 56  # SKF_AD_OFF + SKF_AD_RANDOM
_NETWORK_HEADER = 0xFFF00000  # SKF_NET_OFF
_GOLDEN = 2654435761  # 2**32 / golden ratio: neighbouring ports end up far apart


def _sender(address: int, port: int) -> list[Instruction]:
    """Return instructions that load the sender's address and port, at these offsets of the network header."""
    return [
        (_LOAD_WORD, 0, 0, _NETWORK_HEADER + address),
        (_COPY_A_TO_X, 0, 0, 0),
        (_LOAD_HALF, 0, 0, _NETWORK_HEADER + port),
    ]


_SENDER_V4, _SENDER_V6 = _sender(12, 20), _sender(20, 40)


class SteeringError(Exception):
    """The kernel refused the program; connections still go to all members."""


def steer(member: socket.socket, slots: Sequence[int]) -> None:
    """Distribute new connections (datagrams) of the group of `member` equally over `slots`. Never blocks.

    Raises `SteeringError`.
    """
    try:
        attach(member, SO_ATTACH_REUSEPORT_CBPF, program(slots, _choice_for(member)))
    except OSError as error:
        raise _refused(error) from error


def release(member: socket.socket) -> None:
    """Let the kernel distribute over the whole group of `member` by its hash again. Raises `SteeringError`."""
    try:
        member.setsockopt(socket.SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, 0)
    except FileNotFoundError:
        pass  # no program is attached
    except OSError as error:
        raise _refused(error) from error


def program(slots: Sequence[int], choice: Sequence[Instruction]) -> list[Instruction]:
    """Return the program that computes `choice` modulo the count of `slots`, and returns that slot."""
    if len(slots) == 1:
        return [(_RETURN, 0, 0, slots[0])]
    chosen = [*choice, (_MODULO, 0, 0, len(slots))]
    if list(slots) == list(range(len(slots))):
        return [*chosen, (_RETURN_A, 0, 0, 0)]
    for index, slot in enumerate(slots):
        chosen += [(_JUMP_IF_EQUAL, 0, 1, index), (_RETURN, 0, 0, slot)]
    return [*chosen, (_RETURN, 0, 0, slots[0])]  # never reached, but the verifier requires a final return


def _choice_for(member: socket.socket) -> list[Instruction]:
    if member.type == socket.SOCK_STREAM:
        return [(_LOAD_WORD, 0, 0, _RANDOM)]
    # The source port and the (last four bytes of the) source address. With options or extension headers, which are
    # rare, the choice is still a function of the packet.
    if member.family == socket.AF_INET:
        sender = _SENDER_V4
    elif member.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        sender = _SENDER_V6
    else:  # of both families: the header's first four bits are the version
        sender = [
            (_LOAD_BYTE, 0, 0, _NETWORK_HEADER),
            (_SHIFT_RIGHT, 0, 0, 4),
            (_JUMP_IF_EQUAL, 0, len(_SENDER_V4) + 1, 4),
            *_SENDER_V4,
            (_JUMP, 0, 0, len(_SENDER_V6)),
            *_SENDER_V6,
        ]
    return [
        *sender,
        (_ADD_X, 0, 0, 0),
        (_MULTIPLY, 0, 0, _GOLDEN),
        (_SHIFT_RIGHT, 0, 0, 16),
    ]


def _refused(error: OSError) -> SteeringError:
    return SteeringError(f"the kernel refuses to steer connections: {error.strerror}")
