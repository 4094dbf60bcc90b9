"""`HttpFields`: the part of a `Service` that is about WSGI and ASGI applications, TLS and proxies, and its checks.

The defaults are those of `hybrid.workers.http.settings`, field by field under the same names.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import re
from collections.abc import Sequence
from typing import Final

from hybrid.config.checks import (
    DAY,
    ConfigError,
    Range,
    check_choices,
    check_paths,
    check_ranges,
    check_switches,
)
from hybrid.config.targets import TargetError, check_reference
from hybrid.workers.http.settings import HttpSettings, Limits

ACCESS_LOGS: Final = ("common", "combined", "json")
CLIENT_CERTIFICATES: Final = ("none", "optional", "required")
LIFESPANS: Final = ("auto", "on", "off")
FORWARDED_HEADERS: Final = ("x-forwarded", "forwarded")
_LIMITS: Final = Limits()
_HTTP: Final = HttpSettings()
_NOT_IN_A_PATH = re.compile(r"[\x00-\x20\x7f?#]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class HttpFields:
    """How web applications are served. Durations are seconds, sizes bytes; 0 switches a limit off."""

    factory: bool = False
    """Whether the target is a factory: it is called without arguments, and its result is served."""
    root_path: str = _HTTP.root_path
    """Where the application is mounted, e.g. `/shop`: WSGI's `SCRIPT_NAME`, ASGI's `root_path`."""
    threads: int | None = _HTTP.threads
    """Threads of each worker for WSGI requests; 0: none, requests run in greenlets; None: what suits the loop."""
    lifespan: str = _HTTP.lifespan
    """ASGI's start and stop events: `auto` (if the application knows them), `on` (it must) or `off`."""
    server_header: bool = _HTTP.server_header
    """Whether answers say `Server`."""
    date_header: bool = _HTTP.date_header
    """Whether answers say `Date`."""
    underscore_headers: bool = _HTTP.underscore_headers
    """Whether header fields with an underscore in their name reach the application; it may take them for others."""
    pathsend: bool = _HTTP.pathsend
    """Whether ASGI's `http.response.pathsend` is offered: files go by sendfile(2), past middleware that compresses."""
    websocket_compression: bool = _HTTP.websocket_compression
    """Whether WebSockets may be compressed (per-message deflate, RFC 7692)."""
    websocket_ping_interval: float = _LIMITS.websocket_ping_interval
    """Silence on a WebSocket after which it is pinged."""
    websocket_ping_timeout: float = _LIMITS.websocket_ping_timeout
    """How long the answer to a ping may take."""

    max_request_line: int = _LIMITS.max_request_line
    """Longest request target."""
    max_header_bytes: int = _LIMITS.max_header_bytes
    """Longest request head: request line and header fields together."""
    max_headers: int = _LIMITS.max_headers
    """Header fields of a request, trailers included."""
    max_body_size: int = _LIMITS.max_body_size
    """Longest request body."""
    header_timeout: float = _LIMITS.header_timeout
    """How long a request head may take to arrive."""
    min_body_rate: int = _LIMITS.min_body_rate
    """Slowest request body that is waited for, in bytes per second."""
    keep_alive_timeout: float = _LIMITS.keep_alive_timeout
    """How long a connection may be idle between two requests."""
    idle_close_delay: float = _LIMITS.idle_close_delay
    """How long an idle connection stays open once the whole service stops; 0: for `keep_alive_timeout`."""
    send_timeout: float = _LIMITS.send_timeout
    """How long a client may take nothing of an answer that waits for it."""
    max_requests_per_connection: int = _LIMITS.max_requests_per_connection
    """Requests until a connection is closed."""
    max_pipelined: int = _LIMITS.max_pipelined
    """Requests of a connection that may wait behind the one that is answered."""
    websocket_max_size: int = _LIMITS.websocket_max_size
    """Longest WebSocket message, after decompression."""

    certfile: str | os.PathLike[str] | None = None
    """PEM file of the certificate and its chain, perhaps with the key; with it, TLS is spoken on all addresses."""
    keyfile: str | os.PathLike[str] | None = None
    """PEM file of the private key, if it is not in `certfile`."""
    keyfile_password: str | None = dataclasses.field(default=None, repr=False)
    """Password of the private key."""
    ca_certs: str | os.PathLike[str] | None = None
    """PEM file of the authorities whose client certificates are accepted."""
    client_certificate: str | None = None
    """`none`, `optional` or `required`; None: `required` if `ca_certs` is given, else `none`."""
    ciphers: str | None = None
    """OpenSSL's list of ciphers for TLS 1.2."""
    sni_hook: str | None = None
    """`module:attribute` of a function `hook(server_name) -> ssl.SSLContext | None`, imported in the worker."""
    tls_handshake_timeout: float = _LIMITS.tls_handshake_timeout
    """How long a TLS handshake may take."""

    forwarded_allow_ips: str | Sequence[str] = _HTTP.forwarded_allow_ips
    """Proxies whose forwarding headers are believed: addresses, networks, `unix` for UNIX sockets, or `*` for all."""
    forwarded_headers: str = _HTTP.forwarded_headers
    """The headers that these proxies write: `x-forwarded` or `forwarded`; the others are ignored."""
    forwarded_host: bool = _HTTP.forwarded_host
    """Whether the host that a proxy reports replaces the request's `Host`."""
    proxy_protocol: bool = _HTTP.proxy_protocol
    """Whether every connection begins with a PROXY header, version 1 or 2."""

    access_log: str | None = _HTTP.access_log
    """`common`, `combined`, `json`, or a format with `%(name)s` fields; None: no access log."""

    @property
    def trusted_proxies(self) -> tuple[str, ...]:
        """`forwarded_allow_ips` as a tuple; a text of several, separated by commas, is taken apart."""
        given = self.forwarded_allow_ips
        texts = (given,) if isinstance(given, str) else tuple(given)
        return tuple(entry for text in texts for part in text.split(",") if (entry := part.strip()))

    @property
    def client_certificate_wanted(self) -> str:
        """`client_certificate`, decided."""
        return self.client_certificate or ("none" if self.ca_certs is None else "required")


def check_http(fields: HttpFields, loop: object) -> None:
    """Check all of `fields`; `loop` is the name of the service's loop. Raises `ConfigError`."""
    check_switches(fields, *_SWITCHES)
    check_choices(fields, {"lifespan": LIFESPANS})
    check_ranges(fields, _RANGES)
    _check_threads(fields.threads, loop)
    _check_root_path(fields.root_path)
    _check_tls(fields)
    _check_proxies(fields)
    _check_access_log(fields.access_log)


_SWITCHES: Final = (
    "factory",
    "server_header",
    "date_header",
    "underscore_headers",
    "pathsend",
    "websocket_compression",
    "forwarded_host",
    "proxy_protocol",
)
_TIME: Final = Range(0, DAY, False, " (seconds; 0: no limit)")
_COUNT: Final = Range(0, 1_000_000_000, True, " (0: no limit)")
_SIZE: Final = Range(0, 1 << 30, True, " (bytes; 0: no limit)")
_THREADS: Final = Range(0, 1024, True)
_RANGES: Final = {
    "max_request_line": _SIZE,
    "max_header_bytes": _SIZE,
    "max_headers": _COUNT,
    "max_body_size": Range(0, 1 << 43, True, " (bytes; 0: no limit)"),
    "header_timeout": _TIME,
    "min_body_rate": Range(0, 1 << 30, True, " (bytes per second; 0: no limit)"),
    "keep_alive_timeout": _TIME,
    "idle_close_delay": _TIME,
    "send_timeout": _TIME,
    "max_requests_per_connection": _COUNT,
    "max_pipelined": _COUNT,
    "websocket_max_size": _SIZE,
    "websocket_ping_interval": Range(0, DAY, False, " (seconds; 0: no pings)"),
    "websocket_ping_timeout": _TIME,
    "tls_handshake_timeout": _TIME,
}  # field -> allowed values


def _check_threads(threads: object, loop: object) -> None:
    if threads is None:
        return
    if not _THREADS.contains(threads):
        raise ConfigError("threads", f"{threads!r}: use {_THREADS}")
    if threads and loop == "gevent":
        raise ConfigError("threads", f"{threads!r}: requests run in greenlets on gevent: leave --threads out")


def _check_root_path(path: object) -> None:
    if not isinstance(path, str):
        raise ConfigError("root_path", f"{path!r}: give a path as text, e.g. '/shop'")
    if path and (path[0] != "/" or path[-1] == "/" or _NOT_IN_A_PATH.search(path)):
        raise ConfigError("root_path", f"{path!r}: begin with a slash and end without one, e.g. '/shop'")


def _check_tls(fields: HttpFields) -> None:
    check_paths(fields, "certfile", "keyfile", "ca_certs")
    check_choices(fields, {"client_certificate": (None, *CLIENT_CERTIFICATES)})
    for field in ("keyfile_password", "ciphers", "sni_hook"):
        value = getattr(fields, field)
        if value is not None and not (isinstance(value, str) and value):
            raise ConfigError(field, "give a text that is not empty")  # not the value: it may be the password
    if fields.sni_hook is not None:
        try:
            check_reference(fields.sni_hook)
        except TargetError:
            text = f"{fields.sni_hook!r}: write module:attribute, e.g. myapp.tls:choose"
            raise ConfigError("sni_hook", text) from None
    for field in ("keyfile", "keyfile_password", "ca_certs", "ciphers", "sni_hook"):
        if getattr(fields, field) is not None and fields.certfile is None:
            raise ConfigError(field, "TLS needs a certificate: give --certfile too")
    wanted = fields.client_certificate_wanted
    if wanted != "none" and fields.ca_certs is None:
        raise ConfigError("client_certificate", f"{wanted!r}: give the authorities that are accepted, --ca-certs")
    if wanted == "none" and fields.ca_certs is not None:
        raise ConfigError("client_certificate", "'none': leave it out, or --ca-certs: they are for client certificates")


def _check_proxies(fields: HttpFields) -> None:
    given = fields.forwarded_allow_ips
    if not isinstance(given, str | Sequence) or not all(isinstance(entry, str) for entry in given):
        raise ConfigError("forwarded_allow_ips", f"{given!r}: give addresses as text, e.g. '127.0.0.1'")
    for entry in fields.trusted_proxies:
        if entry not in ("*", "unix"):
            _check_network(entry)
    check_choices(fields, {"forwarded_headers": FORWARDED_HEADERS})
    for field in ("forwarded_headers", "forwarded_host"):
        if getattr(fields, field) != getattr(_HTTP, field) and not fields.trusted_proxies:
            raise ConfigError(field, "no proxy is trusted: name yours with --forwarded-allow-ips too")


def _check_network(entry: str) -> None:
    try:
        ipaddress.ip_network(entry)
    except ValueError:
        reason = "use addresses and networks such as 10.0.0.0/8, `unix`, or * for everybody"
        try:
            network = ipaddress.ip_network(entry, strict=False)
        except ValueError:
            pass
        else:  # 10.0.0.1/8: an address inside of a network
            reason = f"write {network} for the network, or the address without /{network.prefixlen}"
        raise ConfigError("forwarded_allow_ips", f"{entry!r}: {reason}") from None


def _check_access_log(log: object) -> None:
    if log is None or log in ACCESS_LOGS or (isinstance(log, str) and "%(" in log):
        return
    raise ConfigError("access_log", f"{log!r}: use {', '.join(ACCESS_LOGS)}, or a format with fields such as %(h)s")
