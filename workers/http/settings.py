"""HTTP settings as plain data, passed from the command line to the workers."""

from __future__ import annotations

import dataclasses

from hybrid.workers.contract.records import record


@record(frozen=True, slots=True)
class Limits:
    """The limits for one client. Sizes are bytes, times are seconds; 0 switches a limit off."""

    max_request_line: int = 8190
    """Longest request target."""
    max_header_bytes: int = 32_768
    """Request line and header fields together."""
    max_headers: int = 100
    """Number of header fields, including trailers."""
    max_body_size: int = 0
    """Longest request body."""
    header_timeout: float = 10.0
    """From the first byte of a request, or from the accept, to the end of its header fields."""
    min_body_rate: int = 240
    """Minimum bytes per second of a body while the application waits for it, after `BODY_GRACE` seconds."""
    keep_alive_timeout: float = 5.0
    """How long an idle connection stays open."""
    idle_close_delay: float = 0.5
    """How long an idle connection stays open once the whole service stops."""
    send_timeout: float = 30.0
    """How long a client may read nothing while data waits for it."""
    max_requests_per_connection: int = 10_000
    """Requests after which the connection is closed."""
    max_pipelined: int = 16
    """Requests that may queue behind the current one before reading pauses."""
    h2_max_concurrent_streams: int = 100
    """Requests of an HTTP/2 connection that may be open at once."""
    websocket_max_size: int = 16 * 1024 * 1024
    """Longest WebSocket message, after decompression."""
    websocket_ping_interval: float = 20.0
    """Silence after which a ping is sent."""
    websocket_ping_timeout: float = 20.0
    """How long a pong may take; after that the connection is closed with 1011."""
    tls_handshake_timeout: float = 10.0
    """How long a TLS handshake may take."""


@record(frozen=True, slots=True)
class Tls:
    """Certificate and rules of TLS. The files are read before privileges are dropped, so these are their contents."""

    certificate: bytes
    """PEM: the certificate and its chain."""
    key: bytes = dataclasses.field(repr=False)
    """PEM: the private key."""
    password: str | None = dataclasses.field(default=None, repr=False)
    """Password of the private key."""
    client_ca: bytes | None = None
    """PEM: the authorities that sign accepted client certificates; None: clients are not asked for one."""
    client_certificate: str = "none"
    """`none`, `optional` or `required`."""
    ciphers: str | None = None
    """OpenSSL's list for TLS 1.2; None: Python's."""
    sni_hook: str | None = None
    """`module:attribute` of a function `hook(server_name) -> ssl.SSLContext | None`."""


@record(frozen=True, slots=True)
class HttpSettings:
    """How WSGI and ASGI applications are served."""

    limits: Limits = dataclasses.field(default_factory=Limits)
    server_header: bool = True
    date_header: bool = True
    root_path: str = ""
    """Mount point of the application: `SCRIPT_NAME`, `root_path`."""
    underscore_headers: bool = False
    """True if header fields with an underscore in their name are passed to the application."""
    forwarded_allow_ips: tuple[str, ...] = ()
    """Trusted proxies: addresses, networks, `unix`, or `*`."""
    forwarded_headers: str = "x-forwarded"
    """The family of headers that these proxies write: `x-forwarded` or `forwarded` (RFC 7239)."""
    forwarded_host: bool = False
    """True if a proxy's host replaces the request's `Host`."""
    proxy_protocol: bool = False
    """True if every connection begins with a PROXY header, version 1 or 2."""
    access_log: str | None = None
    """`common`, `combined`, `json` or a format; None: no access log."""
    access_log_skip: tuple[str, ...] = ()
    """Paths whose requests are not in the access log; one that ends with a slash: all paths that begin with it."""
    request_id_header: str | None = None
    """The header field for the id of a request; None: requests have no ids."""
    label_header: str | None = None
    """The header field of a response that has its label, and that is not sent; None: there is none."""
    access_fd: int = 1
    """Descriptor for the lines of the access log; set by the worker."""
    threads: int | None = None
    """Threads for WSGI requests; 0: none, requests run in greenlets; None: the default of the loop."""
    lifespan: str = "auto"
    """`auto`, `on` or `off`."""
    pathsend: bool = False
    """True if ASGI applications may let the server send files (`http.response.pathsend`)."""
    http: str = "auto"
    """`1`: HTTP/1 only; `2`: HTTP/2 only; `auto`: both, by ALPN and by the first bytes of a connection."""
    rebalance: str = "auto"
    """`auto`: clients of a worker with far more connections than its siblings are sent away; `off`: they stay."""
    websocket_compression: bool = True
    """True if per-message deflate is offered."""
    tls: Tls | None = None
