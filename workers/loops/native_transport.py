"""The loop's own transport for a protocol: on asyncio and uvloop, and on gevent if the protocol steps tasks."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Any

from hybrid.workers.loops.bounded_reads import BoundedReads
from hybrid.workers.runtime import Accepted

SHUTDOWN = 2.0  # seconds for a TLS peer to answer the end of the stream with its own
_log = logging.getLogger("hybrid")


def open_transport(
    loop: Any,
    protocol: Any,
    accepted: Accepted,
    closed: Callable[[], None],
    tls: ssl.SSLContext | None = None,
    tls_timeout: float = 60.0,
) -> Callable[[], object]:
    """Give an accepted connection to `protocol`; return a function that ends it early. `closed()` is called once.

    `tls_timeout` bounds the handshake, in seconds. A connection that ends before it is logged and forgotten.
    """
    sock = accepted.telling_socket(closed, loop)
    options = (
        {} if tls is None else {"ssl": tls, "ssl_handshake_timeout": tls_timeout, "ssl_shutdown_timeout": SHUTDOWN}
    )
    opened: list[asyncio.Transport] = []
    is_plain = tls is None

    async def connect() -> None:
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: BoundedReads(protocol, sock, is_plain), sock, **options
            )
        except (OSError, ssl.SSLError) as error:
            sock.close()
            _log.debug("no connection with %s: %s", accepted.address, error)
        except BaseException:
            sock.close()
            raise
        else:
            sock.serves(transport)
            opened.append(transport)

    task = loop.create_task(connect())

    def end() -> None:
        if opened:
            opened[0].abort()
        else:
            # later: a task that is cancelled before its first step would leave the descriptor open
            loop.call_soon(task.cancel)

    return end
