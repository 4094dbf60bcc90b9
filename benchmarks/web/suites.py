"""What the HTTP suites measure, as data: applications, servers, what is asked, and who is compared with whom."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from benchmarks import servers
from benchmarks.applications.transfer_wsgi import BODY, SIZE
from benchmarks.web import certificate, peers
from benchmarks.web.clients import Client, Kind, Requests, Streams, WebSockets
from benchmarks.web.exchange import Exchange

LOOPS = ("epoll", "uvloop", "asyncio", "gevent", "poll", "select")
_APPLICATIONS = "benchmarks.applications"
_HELLO = Exchange("/", b"Hello, World!")
_KINDS = {
    Kind.SAME: "the same head each time",
    Kind.VARIED: "each head differs",
    Kind.CLOSE: "a new connection each time",
}


@dataclasses.dataclass(frozen=True)
class Row:
    """A server, and the names of the servers it is compared with."""

    command: servers.Command
    against: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Suite:
    """One table."""

    title: str
    rows: list[Row]
    client: Client
    per: str = "request"
    """What is counted."""


def _ours(target: str, interface: str, against: tuple[str, ...], *options: str, suffix: str = "") -> list[Row]:
    """One application with hybrid on every loop, its limits at their defaults."""
    words = ("--interface", interface, *options)
    return [Row(servers.hybrid(f"hybrid {loop}{suffix}", target, loop=loop, options=words), against) for loop in LOOPS]


def _wsgi(folder: Path, kind: Kind) -> Suite:
    app = f"{_APPLICATIONS}.hello_wsgi:app"
    others = [
        peers.granian("granian", app, "wsgi"),
        peers.granian("granian 1 thread", app, "wsgi", "--blocking-threads", "1"),
        peers.bjoern("bjoern", app),
        peers.gunicorn("gunicorn gevent", app, "gevent"),
        peers.gunicorn("gunicorn sync", app, "sync"),
    ]
    against = ("granian", "granian 1 thread", "bjoern", "gunicorn gevent", "gunicorn sync")
    rows = [*_ours(app, "wsgi", against), *map(Row, others)]
    return Suite(f"Hello over WSGI, {_KINDS[kind]}", rows, Requests(_HELLO, kind=kind))


def _asgi(folder: Path, kind: Kind) -> Suite:
    app = f"{_APPLICATIONS}.hello_asgi:app"
    against = ("granian", "uvicorn", "hypercorn", "gunicorn asgi")
    rows = [*_ours(app, "asgi", against), *_asgi_peers(app)]
    return Suite(f"Hello over ASGI, {_KINDS[kind]}", rows, Requests(_HELLO, kind=kind))


def _asgi_peers(app: str) -> list[Row]:
    return [
        Row(peers.granian("granian", app, "asgi")),
        Row(peers.uvicorn("uvicorn", app)),
        Row(peers.hypercorn("hypercorn", app)),
        Row(peers.gunicorn("gunicorn asgi", app, "asgi")),
    ]


def _fastapi(folder: Path) -> Suite:
    app = f"{_APPLICATIONS}.api_fastapi:app"
    rows = [*_ours(app, "auto", ("uvicorn", "granian", "hypercorn", "gunicorn asgi")), *_asgi_peers(app)]
    return Suite("A FastAPI endpoint with validation", rows, Requests(_order(), (_wrong_order(),)))


def _order() -> Exchange:
    order = {"product": "teapot", "quantity": 3, "unit_price": 12.5, "tags": ["kitchen", "blue"]}
    receipt = {"customer": 7, "product": "teapot", "total": 33.75, "currency": "CHF", "tags": ["kitchen", "blue"]}
    return Exchange(
        "/customers/7/orders?currency=CHF&discount=0.1",
        json.dumps(receipt, separators=(",", ":")).encode(),
        method="POST",
        kind="application/json",
        body=json.dumps(order).encode(),
    )


def _wrong_order() -> Exchange:
    """A quantity of zero is refused: the validation does take place."""
    wrong = _order().body.replace(b'"quantity": 3', b'"quantity": 0')
    return dataclasses.replace(_order(), body=wrong, status=422, answer=b"")


def _upload(folder: Path) -> Suite:
    kind = "application/octet-stream"
    digest = hashlib.sha256(BODY).hexdigest().encode()
    measured = Exchange("/upload", b"%d" % SIZE, method="POST", kind=kind, body=BODY)
    checked = dataclasses.replace(measured, path="/digest", answer=digest)
    return Suite("Upload of 1 MiB (a request a second is 1 MiB/s)", _transfer_rows(), Requests(measured, (checked,)))


def _download(folder: Path) -> Suite:
    measured = Exchange("/download", BODY)
    return Suite("Download of 1 MiB (a request a second is 1 MiB/s)", _transfer_rows(), Requests(measured))


def _transfer_rows() -> list[Row]:
    wsgi, asgi = f"{_APPLICATIONS}.transfer_wsgi:app", f"{_APPLICATIONS}.transfer_asgi:app"
    others = [
        peers.granian("granian wsgi", wsgi, "wsgi"),
        peers.bjoern("bjoern", wsgi),
        peers.gunicorn("gunicorn gevent", wsgi, "gevent"),
        peers.gunicorn("gunicorn sync", wsgi, "sync"),
        peers.granian("granian asgi", asgi, "asgi"),
        peers.uvicorn("uvicorn", asgi),
        peers.hypercorn("hypercorn", asgi),
        peers.gunicorn("gunicorn asgi", asgi, "asgi"),
    ]
    return [
        *_ours(wsgi, "wsgi", ("granian wsgi", "bjoern", "gunicorn gevent", "gunicorn sync"), suffix=" wsgi"),
        *_ours(asgi, "asgi", ("granian asgi", "uvicorn", "hypercorn", "gunicorn asgi"), suffix=" asgi"),
        *map(Row, others),
    ]


def _websocket(folder: Path) -> Suite:
    app = f"{_APPLICATIONS}.echo_websocket:app"
    others = [
        peers.uvicorn("uvicorn websockets", app, "--ws", "websockets"),
        peers.uvicorn("uvicorn websockets-sansio", app, "--ws", "websockets-sansio"),
        peers.granian("granian", app, "asgi"),
        peers.hypercorn("hypercorn", app),
        peers.gunicorn("gunicorn asgi", app, "asgi"),
    ]
    against = tuple(command.name for command in others)
    rows = [*_ours(app, "asgi", against), *map(Row, others)]
    return Suite("WebSocket echo, messages of 64 bytes", rows, WebSockets(), per="message")


def _https(folder: Path) -> Suite:
    app = f"{_APPLICATIONS}.hello_asgi:app"
    files = certificate.make(folder)
    common = ("--certfile", str(files.certificate), "--keyfile", str(files.key))
    others = [
        peers.uvicorn("uvicorn", app, "--ssl-certfile", str(files.certificate), "--ssl-keyfile", str(files.key)),
        peers.granian(
            "granian", app, "asgi", "--ssl-certificate", str(files.certificate), "--ssl-keyfile", str(files.key)
        ),
        peers.hypercorn("hypercorn", app, *common),
        peers.gunicorn("gunicorn asgi", app, "asgi", *common),
    ]
    rows = [*_ours(app, "asgi", ("uvicorn", "granian"), *common), *map(Row, others)]
    return Suite("Hello over ASGI and TLS 1.3", rows, Requests(_HELLO, secure=True))


def _h2(folder: Path) -> Suite:
    wsgi, asgi = f"{_APPLICATIONS}.hello_wsgi:app", f"{_APPLICATIONS}.hello_asgi:app"
    others = [
        peers.granian("granian wsgi", wsgi, "wsgi"),
        peers.granian("granian asgi", asgi, "asgi"),
        peers.uvicorn("uvicorn zttp", asgi, "--http", "zttp", "--http2"),
        peers.hypercorn("hypercorn", asgi),
    ]
    rows = [
        *_ours(wsgi, "wsgi", ("granian wsgi",), suffix=" wsgi"),
        *_ours(asgi, "asgi", ("granian asgi", "uvicorn zttp", "hypercorn"), suffix=" asgi"),
    ]
    return Suite(
        "Hello over HTTP/2, 32 requests at once on each connection", [*rows, *map(Row, others)], Streams(_HELLO)
    )


def _named(interface: str) -> list[tuple[str, Kind]]:
    return [(interface if kind is Kind.SAME else f"{interface}-{kind.value}", kind) for kind in Kind]


SUITES: dict[str, Callable[[Path], Suite]] = {  # name on the command line -> what makes it; files go into the folder
    **{name: functools.partial(_wsgi, kind=kind) for name, kind in _named("wsgi")},
    **{name: functools.partial(_asgi, kind=kind) for name, kind in _named("asgi")},
    "fastapi": _fastapi,
    "upload": _upload,
    "download": _download,
    "websocket": _websocket,
    "https": _https,
    "h2": _h2,
}
