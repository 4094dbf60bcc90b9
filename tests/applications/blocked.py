"""Applications that block their loop at a gate (see `gated`) when they are asked to, and else say who they are."""

from __future__ import annotations

import os
import socket
from typing import Any

from gated import pass_gate


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Block at the gate for `/block`."""
    assert scope["type"] == "http"
    if scope["path"] == "/block":
        pass_gate()
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"%d" % os.getpid()})


def handle(sock: socket.socket, address: object) -> None:
    """Block at the gate for a line `block`."""
    if sock.recv(100) == b"block\n":
        pass_gate()
    sock.sendall(b"%d" % os.getpid())
