"""The queue of the calls that a generation offloads to one pool: a UNIX socket that listens, owned by the supervisor.

Its address is abstract (unix(7)): no file is left behind. It has a random key, so nobody else can take it, and offload
workers accept callers of their own account only. Until the first call there is no socket; callers know the address.
"""

from __future__ import annotations

import secrets
import socket
from typing import Final

DEFAULT: Final = "cpu"
"""The pool of calls that name none."""
_BACKLOG: Final = 4096  # the kernel limits it to net.core.somaxconn


def new_key() -> str:
    """Return a random key, for one service."""
    return secrets.token_hex(16)


def address(key: str, generation: int, pool: str) -> bytes:
    """Return the address of a generation's queue for a pool; that has at most 32 characters (107 bytes in all)."""
    return b"\0hybrid-offload-%s-%d-%s" % (key.encode("ascii"), generation, pool.encode("ascii"))


def listen(key: str, generation: int, pool: str) -> socket.socket:
    """Open the queue of a generation for a pool. Raises `OSError` (EMFILE, ENFILE, ENOMEM)."""
    queue = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        queue.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)  # calls come with the account that sent them
        queue.bind(address(key, generation, pool))
        queue.listen(_BACKLOG)
    except OSError:
        queue.close()
        raise
    return queue
