"""The servers that hybrid is compared with, each used bare, as its own documentation shows it.

``python -m benchmarks.peers NAME`` serves on a free port and says ``listening on 127.0.0.1:PORT`` on stderr.
All have the same backlog and run the same handlers; each module has one function, ``serve``, which never returns.
bjoern is here too, with the application it is told; the other HTTP servers are commands (``benchmarks.web.peers``).
"""

from __future__ import annotations

import sys

HOST = "127.0.0.1"
BACKLOG = 2048  # connections; hybrid's default


def announce(port: int) -> None:
    """Say on stderr that the server accepts connections."""
    print(f"listening on {HOST}:{port}", file=sys.stderr, flush=True)
