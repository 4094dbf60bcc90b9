"""`HttpFields`: the options of a `Service` about WSGI and ASGI applications.

The defaults are those of `hybrid.workers.http.settings`, field by field under the same names.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Final

from hybrid.config.checks import DAY, ConfigError
from hybrid.config.declaring import Section, option
from hybrid.config.kinds import Bytes, BytesPerSecond, Choice, Count, Seconds, Switch, Text
from hybrid.workers.http.settings import HttpSettings, Limits

HTTP_VERSIONS: Final = ("auto", "1", "2")
LIFESPANS: Final = ("auto", "on", "off")
_DEFAULT: Final = HttpSettings()
_DEFAULT_LIMITS: Final = Limits()
_NOT_IN_A_PATH = re.compile(r"[\x00-\x20\x7f?#]")
_HTTP: Final = Section.HTTP
_LIMITS: Final = Section.LIMITS
_TIME: Final = Seconds(0, DAY, zero="no limit")
_COUNT: Final = Count(0, 1_000_000_000, zero="no limit")
_SIZE: Final = Bytes(0, 1 << 30, zero="no limit")


def _why_no_root_path(path: object) -> str | None:
    if not isinstance(path, str):
        return f"{path!r}: give a path as text, e.g. '/shop'"
    if path and (path[0] != "/" or path[-1] == "/" or _NOT_IN_A_PATH.search(path)):
        return f"{path!r}: begin with a slash and end without one, e.g. '/shop'"
    return None


@dataclasses.dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)  # `Service` makes all its methods
class HttpFields:
    """How web applications are served. Durations are seconds, sizes bytes; 0 switches a limit off."""

    root_path: str = option(
        _DEFAULT.root_path,
        Text("/PATH"),
        _HTTP,
        "Where the application is mounted, e.g. /shop: SCRIPT_NAME in WSGI, root_path in ASGI.",
        shown="at the root",
        check=_why_no_root_path,
    )
    threads: int | None = option(
        _DEFAULT.threads,
        Count(0, 1024),
        _HTTP,
        "Threads of each worker for WSGI requests. 0: none, each request runs in a greenlet. Not for gevent.",
        shown="a small pool on asyncio and uvloop, 0 on the others",
    )
    lifespan: str = option(
        _DEFAULT.lifespan,
        Choice(LIFESPANS),
        _HTTP,
        "ASGI's events at the start and the stop of a worker. on: the application must support them; auto: it may.",
    )
    http: str = option(
        _DEFAULT.http,
        Choice(HTTP_VERSIONS),
        _HTTP,
        "Versions of HTTP. auto: HTTP/1, and HTTP/2 for clients that negotiate it by TLS or begin with it; 1 or 2: "
        "only this one. HTTP/2 needs the package ngh2.",
    )
    server_header: bool = option(_DEFAULT.server_header, Switch(), _HTTP, "Send a Server header.")
    date_header: bool = option(_DEFAULT.date_header, Switch(), _HTTP, "Send a Date header.")
    underscore_headers: bool = option(
        _DEFAULT.underscore_headers,
        Switch(),
        _HTTP,
        "Pass header fields with an underscore in their name to the application, which may confuse them with those "
        "that have a dash.",
    )
    pathsend: bool = option(
        _DEFAULT.pathsend,
        Switch(),
        _HTTP,
        "Offer ASGI's http.response.pathsend: files are sent by sendfile(2), and middleware such as Starlette's "
        "GZipMiddleware does not see their content.",
    )
    websocket_compression: bool = option(
        _DEFAULT.websocket_compression, Switch(), _HTTP, "Offer per-message deflate on WebSockets."
    )
    websocket_ping_interval: float = option(
        _DEFAULT_LIMITS.websocket_ping_interval,
        Seconds(0, DAY, zero="no pings"),
        _HTTP,
        "Silence on a WebSocket after which it is pinged. 0: no pings.",
    )
    websocket_ping_timeout: float = option(
        _DEFAULT_LIMITS.websocket_ping_timeout,
        _TIME,
        _HTTP,
        "How long to wait for the pong before the WebSocket is closed.",
    )

    max_request_line: int = option(_DEFAULT_LIMITS.max_request_line, _SIZE, _LIMITS, "Longest request target.")
    max_header_bytes: int = option(
        _DEFAULT_LIMITS.max_header_bytes,
        _SIZE,
        _LIMITS,
        "Longest request head: request line and header fields together.",
    )
    max_headers: int = option(
        _DEFAULT_LIMITS.max_headers, _COUNT, _LIMITS, "Header fields of a request, trailers included."
    )
    max_body_size: int = option(
        _DEFAULT_LIMITS.max_body_size, Bytes(0, 1 << 43, zero="no limit"), _LIMITS, "Longest request body."
    )
    header_timeout: float = option(
        _DEFAULT_LIMITS.header_timeout, _TIME, _LIMITS, "How long a request head may take to arrive."
    )
    min_body_rate: int = option(
        _DEFAULT_LIMITS.min_body_rate,
        BytesPerSecond(0, 1 << 30, zero="no limit"),
        _LIMITS,
        "Slowest accepted rate of a request body, in bytes per second.",
    )
    keep_alive_timeout: float = option(
        _DEFAULT_LIMITS.keep_alive_timeout,
        _TIME,
        _LIMITS,
        "How long a connection may be idle between two requests.",
    )
    idle_close_delay: float = option(
        _DEFAULT_LIMITS.idle_close_delay,
        _TIME,
        _LIMITS,
        "How long an idle connection stays open when the whole service stops, for a request that is on its way; a few "
        "round trips. Ctrl-C closes idle connections at once, a reload after --keep-alive-timeout. 0: after "
        "--keep-alive-timeout, except for Ctrl-C.",
    )
    send_timeout: float = option(
        _DEFAULT_LIMITS.send_timeout,
        _TIME,
        _LIMITS,
        "How long a client may read nothing while response data is waiting for it.",
    )
    max_requests_per_connection: int = option(
        _DEFAULT_LIMITS.max_requests_per_connection, _COUNT, _LIMITS, "Requests after which a connection is closed."
    )
    max_pipelined: int = option(
        _DEFAULT_LIMITS.max_pipelined,
        _COUNT,
        _LIMITS,
        "Pipelined requests of a connection that may wait behind the current one.",
    )
    h2_max_concurrent_streams: int = option(
        _DEFAULT_LIMITS.h2_max_concurrent_streams,
        _COUNT,
        _LIMITS,
        "Requests of an HTTP/2 connection at once.",
    )
    websocket_max_size: int = option(
        _DEFAULT_LIMITS.websocket_max_size, _SIZE, _LIMITS, "Longest WebSocket message, after decompression."
    )


def check_http(fields: HttpFields, loop: str) -> None:
    """Check that the options are compatible with each other and with the loop. Raises `ConfigError`."""
    if fields.threads and loop == "gevent":
        raise ConfigError("threads", f"{fields.threads!r}: requests run in greenlets on gevent: leave --threads out")
