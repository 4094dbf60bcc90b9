"""Classic BPF programs, and attaching one to a socket (bpf(2), socket(7), linux/filter.h)."""

from __future__ import annotations

import ctypes
import socket
from collections.abc import Sequence

Instruction = tuple[int, int, int, int]
"""code, jump if true, jump if false, operand."""


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("len", ctypes.c_uint16), ("filter", ctypes.POINTER(_Instruction)))


def attach(sock: socket.socket, option: int, program: Sequence[Instruction]) -> None:
    """Attach a program to `sock` by one of the SO_ATTACH_ options. Never blocks. Raises `OSError`."""
    array = (_Instruction * len(program))(*(_Instruction(*item) for item in program))
    sock.setsockopt(socket.SOL_SOCKET, option, bytes(_Program(len(program), array)))
