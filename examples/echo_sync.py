"""An echo service in blocking style, as for `gevent.server.StreamServer`: one greenlet for every connection.

    hybrid run --workers auto --loop epoll --bind 127.0.0.1:9000 examples.echo_sync:handle
    nc 127.0.0.1 9000

With `--loop gevent` the same handler gets a gevent socket, on the other loops one of hybrid's. The code looks blocking,
but while it waits the worker serves others.
"""

from __future__ import annotations

import socket


def handle(sock: socket.socket, address: tuple[str, int]) -> None:
    """Welcome the client, then echo every line until it sends `quit` or closes."""
    sock.sendall(b"Welcome to the echo server! Type quit to exit.\r\n")
    with sock.makefile("rb") as lines:
        for line in lines:
            if line.strip().lower() == b"quit":
                break
            sock.sendall(line)
