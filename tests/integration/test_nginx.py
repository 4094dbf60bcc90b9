"""Behind a real nginx: with the configuration of docs/nginx.md, over TCP and a UNIX socket, and with a stock one."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.clients import TIMEOUT
from support.loops import LOOPS
from support.nginx import documented, needs_nginx, proxied
from support.process import HybridProcess
from support.service import eventually, serving
from support.wsgi import read_answer, send_request
from websockets.sync.client import connect

pytestmark = needs_nginx

LOOPS_HERE = [loop for loop in ("epoll", "uvloop", "gevent") if loop in LOOPS]
PLACES = [(loop, interface) for loop in LOOPS_HERE for interface in ("wsgi", "asgi")]
UPSTREAMS = [(*place, upstream) for place in PLACES for upstream in ("tcp", "unix")]
ASGI = [upstream for upstream in UPSTREAMS if "asgi" in upstream]
TCP = [upstream for upstream in UPSTREAMS if "tcp" in upstream]
every_place = pytest.mark.parametrize("place", PLACES, ids="-".join)
every_upstream = pytest.mark.parametrize("upstream", ["tcp", "unix"])
every_loop = pytest.mark.parametrize("loop", LOOPS_HERE)
of_asgi = pytest.mark.parametrize("behind", ASGI, indirect=True, ids="-".join)
over_tcp = pytest.mark.parametrize("behind", TCP, indirect=True, ids="-".join)
one_loop = pytest.mark.parametrize("loop", LOOPS_HERE[:1])

CLIENT = "127.0.0.9"  # not the address of nginx, which is trusted

# the content of Debian's /etc/nginx/proxy_params and of most tutorials
STOCK = """
server {{
    listen 80;
    location / {{
        proxy_pass http://{upstream};
        proxy_set_header Host $host;
        proxy_set_header X-Real-IP $remote_addr;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
    }}
}}
"""
FORGED = (
    "x-forwarded-host: evil.example",
    "forwarded: for=6.6.6.6;host=evil.example;proto=https",
    "x-forwarded-for: 6.6.6.6",
    "x-forwarded-proto: https",
    "x-forwarded-port: 666",
    "x-forwarded-prefix: /evil",
    "x-real-ip: 6.6.6.6",
)


@contextlib.contextmanager
def behind_nginx(
    place: tuple[str, str],
    cwd: Path,
    upstream: str = "tcp",
    site: str | None = None,
    *options: str,
    kept: str = "4s",
) -> Iterator[tuple[HybridProcess, tuple[str, int]]]:
    """Serve the application behind nginx; yield the service and nginx's address. `site` is a template for other sites.

    `kept`: how long nginx keeps an idle connection to the service, if the site is the documented one.
    """
    loop, interface = place
    path = f"unix:{cwd / 'socket'}"
    bind, trusted = ("127.0.0.1:0", "127.0.0.1") if upstream == "tcp" else (path, "unix")
    arguments = ("--bind", bind, "--workers", "1", "--loop", loop, "--access-log", "%(h)s %(U)s %(s)s %(X)s", *options)
    target = f"behind_nginx:{interface}"
    with serving(target, *arguments, "--forwarded-allow-ips", trusted, cwd=cwd) as process:
        where = "{}:{}".format(*process.address) if upstream == "tcp" else path
        text = documented(where) if site is None else site.format(upstream=where)
        with proxied(text.replace("keepalive_timeout 4s", f"keepalive_timeout {kept}"), cwd / "nginx") as address:
            yield process, address


@pytest.fixture(scope="module", params=UPSTREAMS, ids="-".join)
def behind(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[HybridProcess, tuple[str, int]]]:
    """One service behind the documented nginx for all tests with default options."""
    loop, interface, upstream = request.param
    with behind_nginx((loop, interface), tmp_path_factory.mktemp("behind"), upstream) as found:
        yield found


@pytest.fixture(scope="module", params=PLACES, ids="-".join)
def behind_stock(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """Yield the address of one stock nginx for all tests of it."""
    with behind_nginx(request.param, tmp_path_factory.mktemp("stock"), "tcp", STOCK) as (_, address):
        yield address


@contextlib.contextmanager
def client_of(address: tuple[str, int]) -> Iterator[socket.socket]:
    with socket.create_connection(address, TIMEOUT, source_address=(CLIENT, 0)) as sock:
        yield sock


def asked(address: tuple[str, int], target: str, *fields: str) -> Any:
    with client_of(address) as sock:
        send_request(sock, target, *fields, "connection: close")
        answer = read_answer(sock)
    assert answer.status == 200, answer
    return json.loads(answer.body) if target == "/facts" else answer.body.decode()


def test_the_application_is_told_of_the_client(behind: tuple[HybridProcess, tuple[str, int]]) -> None:
    process, address = behind
    found = asked(address, "/facts")
    assert (found["client"], found["scheme"], found["host"]) == ([CLIENT, 0], "http", "test")
    lines = [f"{CLIENT} /facts 200 whole"]  # no other test requests these facts from this service
    eventually(lambda: [line for line in process.stdout.splitlines() if "/facts" in line] == lines, "the line of it")


def test_behind_a_stock_nginx_a_clients_own_headers_are_not_trusted(behind_stock: tuple[str, int]) -> None:
    plain = asked(behind_stock, "/facts")
    assert plain["client"] == [CLIENT, 0]
    assert asked(behind_stock, "/facts", *FORGED) == plain
    assert asked(behind_stock, "/facts", 'forwarded: for="open') == plain


@pytest.mark.parametrize("behind_stock", PLACES[:1], indirect=True, ids="-".join)
def test_links_of_an_application_cannot_be_forged_behind_a_stock_nginx(behind_stock: tuple[str, int]) -> None:
    assert asked(behind_stock, "/link", *FORGED) == "http://test/link"


@pytest.mark.parametrize("behind", UPSTREAMS[:1], indirect=True, ids="-".join)
def test_links_of_an_application_cannot_be_forged(behind: tuple[HybridProcess, tuple[str, int]]) -> None:
    assert asked(behind[1], "/link", *FORGED) == "http://test/link"


@one_loop
def test_a_host_that_the_documented_nginx_removes_cannot_be_forged_even_if_hosts_are_trusted(
    loop: str, tmp_path: Path
) -> None:
    with behind_nginx((loop, "wsgi"), tmp_path, "tcp", None, "--forwarded-host") as (_, address):
        assert asked(address, "/link", *FORGED) == "http://test/link"


@every_upstream
@every_place
def test_connections_to_the_service_are_kept(place: tuple[str, str], upstream: str, tmp_path: Path) -> None:
    """The worker accepts one connection at a time: a request on a second one would wait for an hour."""
    options = ("--max-connections", "1", "--keep-alive-timeout", "1h")
    with behind_nginx(place, tmp_path, upstream, None, *options, kept="1h") as (_, address):
        for _ in range(3):
            asked(address, "/facts")
        with client_of(address) as sock:
            for _ in range(3):
                send_request(sock, "/facts")
                assert read_answer(sock).status == 200


@of_asgi
def test_a_websocket_passes(behind: tuple[HybridProcess, tuple[str, int]]) -> None:
    host, port = behind[1]
    fields = {"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Host": "evil.example"}
    with (
        client_of((host, port)) as sock,
        connect(f"ws://{host}:{port}/", sock=sock, additional_headers=fields, open_timeout=TIMEOUT) as client,
    ):
        found = json.loads(client.recv(timeout=TIMEOUT))
    assert (found["client"], found["scheme"], found["host"]) == ([CLIENT, 0], "ws", "127.0.0.1")


def stream_begins(address: tuple[str, int], path: str) -> None:
    """See the first event of a stream before the second is made; then see the second."""
    with client_of(address) as sock:
        send_request(sock, path)
        _read_until(sock, b"data: first\n\n")
        asked(address, "/release")
        _read_until(sock, b"data: second\n\n")


def _read_until(sock: socket.socket, end: bytes) -> None:
    received = b""
    while end not in received:
        part = sock.recv(65536)
        assert part, received
        received += part


@pytest.mark.parametrize("path", ["/events/buffering-off", "/asked-for"])
@of_asgi
def test_a_stream_passes_at_once(behind: tuple[HybridProcess, tuple[str, int]], path: str) -> None:
    stream_begins(behind[1], path)


@every_loop
def test_a_stream_of_a_wsgi_application_passes_at_once(loop: str, tmp_path: Path) -> None:
    threads = () if loop == "gevent" else ("--threads", "2")
    with behind_nginx((loop, "wsgi"), tmp_path, "tcp", None, *threads) as (_, address):
        stream_begins(address, "/events/buffering-off")


@over_tcp
def test_an_upload_passes(behind: tuple[HybridProcess, tuple[str, int]]) -> None:
    with client_of(behind[1]) as sock:
        send_request(sock, "/upload", method="POST", body=b"x" * 1_000_000)
        assert read_answer(sock).body == b"1000000"
