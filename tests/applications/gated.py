"""Applications whose loading waits at a gate: a FIFO, named by GATE, that opens when somebody opens it for writing.

`gated_import:handle` waits while it is imported, `gated:handle` when its attribute is looked up: imported, and not
yet ready.
"""

from __future__ import annotations

import os
import socket
from typing import Any


def pass_gate() -> None:
    """Say that we are at the gate, and wait until it is open."""
    os.write(2, b"at the gate: %d\n" % os.getpid())  # in one piece: others write at the same time
    os.close(os.open(os.environ["GATE"], os.O_RDONLY))


def _handle(sock: socket.socket, address: object) -> None:
    sock.sendall(b"%d" % os.getpid())


def __getattr__(name: str) -> Any:
    if name != "handle":
        raise AttributeError(name)
    pass_gate()
    return _handle
