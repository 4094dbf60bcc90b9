"""The options of `hybrid run` for WSGI and ASGI applications: HTTP, WebSockets, limits, TLS, proxies, access log."""

from __future__ import annotations

import click

from hybrid.cli.headings import DEFAULTS, Heading
from hybrid.config.http import CLIENT_CERTIFICATES, FORWARDED_HEADERS, LIFESPANS

_http = Heading.HTTP
_limits = Heading.LIMITS
_tls = Heading.TLS
_proxies = Heading.PROXIES

_HTTP = [
    _http.option(
        "--root-path",
        "Where the application is mounted, e.g. /shop: SCRIPT_NAME in WSGI, root_path in ASGI.",
        default=DEFAULTS["root_path"],
        metavar="/PATH",
        show_default="at the root",
    ),
    _http.option(
        "--threads",
        "Threads of each worker for WSGI requests. 0: none, each request runs in a greenlet. Not for gevent.",
        type=int,
        metavar="N",
        show_default="a small pool on asyncio and uvloop, 0 on the others",
    ),
    _http.option(
        "--lifespan",
        "ASGI's events at the start and the stop of a worker. on: the application has to know them; auto: it may.",
        type=click.Choice(LIFESPANS),
        default=DEFAULTS["lifespan"],
    ),
    _http.switch("--server-header", "Say Server in answers."),
    _http.switch("--date-header", "Say Date in answers."),
    _http.switch(
        "--underscore-headers",
        "Let header fields with an underscore in their name reach the application, which may take them for those with "
        "a dash.",
    ),
    _http.switch(
        "--pathsend",
        "Offer ASGI's http.response.pathsend: files go by sendfile, and middleware such as Starlette's GZipMiddleware "
        "does not see their content.",
    ),
    _http.switch("--websocket-compression", "Offer per-message deflate on WebSockets."),
    _http.duration("--websocket-ping-interval", "Silence on a WebSocket after which it is pinged. 0: no pings."),
    _http.duration("--websocket-ping-timeout", "How long the answer to a ping may take; then the WebSocket is closed."),
]

_LIMITS = [
    _limits.count("--max-connections", "Connections one worker serves at once; more wait in its queue."),
    _limits.size("--max-request-line", "Longest request target."),
    _limits.size("--max-header-bytes", "Longest request head: request line and header fields together."),
    _limits.count("--max-headers", "Header fields of a request, trailers included."),
    _limits.size("--max-body-size", "Longest request body."),
    _limits.duration("--header-timeout", "How long a request head may take to arrive."),
    _limits.size("--min-body-rate", "Slowest request body that is waited for, in bytes per second.", "BYTES"),
    _limits.duration("--keep-alive-timeout", "How long a connection may be idle between two requests."),
    _limits.duration(
        "--idle-close-delay",
        "How long an idle connection stays open once the whole service stops, for a request that is on its way; a few "
        "round trips. Ctrl-C closes idle connections at once, a reload after --keep-alive-timeout. 0: after "
        "--keep-alive-timeout in any case but Ctrl-C.",
    ),
    _limits.duration("--send-timeout", "How long a client may take nothing of an answer that waits for it."),
    _limits.count("--max-requests-per-connection", "Requests until a connection is closed."),
    _limits.count("--max-pipelined", "Requests of a connection that may wait behind the one that is answered."),
    _limits.size("--websocket-max-size", "Longest WebSocket message, after decompression."),
]

_TLS = [
    _tls.file("--certfile", "PEM file of the certificate and its chain. With it, TLS is spoken on all addresses."),
    _tls.file("--keyfile", "PEM file of the private key, if it is not in the certificate's."),
    _tls.option(
        "--keyfile-password",
        "Password of the private key. Prefer the environment variable: a command line can be read by all users.",
        metavar="TEXT",
    ),
    _tls.file("--ca-certs", "PEM file of the authorities whose client certificates are accepted."),
    _tls.option(
        "--client-certificate",
        "Whether clients have to show a certificate.",
        type=click.Choice(CLIENT_CERTIFICATES),
        show_default="required with --ca-certs, else none",
    ),
    _tls.option("--ciphers", "OpenSSL's list of ciphers for TLS 1.2.", metavar="LIST", show_default="Python's"),
    _tls.option(
        "--sni-hook",
        "A function hook(server_name) that returns the ssl.SSLContext for a name, or None for the usual one.",
        metavar="MODULE:NAME",
    ),
    _tls.duration("--tls-handshake-timeout", "How long a TLS handshake may take. 0: no limit."),
]

_PROXIES = [
    _proxies.option(
        "--forwarded-allow-ips",
        "Proxies that are trusted to tell the client's address and the scheme: addresses, networks, unix for UNIX "
        "sockets, * for all peers. Separated by commas; may be repeated.",
        multiple=True,
        metavar="ADDRESSES",
        show_default="nobody",
    ),
    _proxies.option(
        "--forwarded-headers",
        "The headers that these proxies write: X-Forwarded-For and -Proto, or Forwarded. The others come from clients "
        "and are ignored. A Forwarded that cannot be parsed is answered with 400.",
        type=click.Choice(FORWARDED_HEADERS),
        default=DEFAULTS["forwarded_headers"],
    ),
    _proxies.switch(
        "--forwarded-host",
        "Let X-Forwarded-Host, or host in Forwarded, replace the request's Host. Only if the proxy sets or removes it: "
        "nginx hands on a client's.",
    ),
    _proxies.switch(
        "--proxy-protocol",
        "Every connection begins with a PROXY header, version 1 or 2, also before TLS; others are closed. It is taken "
        "from everybody, or only from --forwarded-allow-ips if there are any; whether the HTTP headers behind it are "
        "believed depends on the client it names.",
    ),
]

_ACCESS_LOG = [
    Heading.LOG.option(
        "--access-log",
        "Write a line for every request to stdout, refused ones included, and for every WebSocket at its end: common, "
        "combined, json, or a format with fields such as %(h)s. Without FORMAT: combined.",
        metavar="[FORMAT]",
        alone="combined",
    ),
]

OPTIONS = [*_HTTP, *_LIMITS, *_TLS, *_PROXIES, *_ACCESS_LOG]
