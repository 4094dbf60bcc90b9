"""gevent's `StreamServer`: one greenlet for every connection."""

from __future__ import annotations

from gevent.server import StreamServer

from benchmarks.handlers import sync_echo
from benchmarks.peers import BACKLOG, HOST, announce


def serve() -> None:
    """Serve the sync handler for ever."""
    server = StreamServer((HOST, 0), sync_echo, backlog=BACKLOG)
    server.start()
    announce(server.server_port)
    server.serve_forever()
