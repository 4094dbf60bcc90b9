"""Applications and requests with repeated fields: every scope and environ is fresh, and belongs to one request."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clients import connected
from support.echo import Answer, on_loop, read_answers
from support.http import FakeTransport, asgi_adapter, connect, in_callback, until
from support.hub import run_on, turns
from support.loops import MATRIX
from support.pipeline import read_body
from support.repeats import FIRST, series
from support.wsgi import PLACES, serving_wsgi

from hybrid.workers.apps.asgi.interface import Asgi
from hybrid.workers.apps.wsgi.interface import Wsgi
from hybrid.workers.common.connections import Connections
from hybrid.workers.http.exchange import Likeness
from hybrid.workers.http.h1.connection import HttpConnection
from hybrid.workers.http.settings import HttpSettings
from hybrid.workers.runtime import Runtime

LIMIT = settings(max_examples=80 if MATRIX else 32, deadline=None)
Seen = list[dict[str, Any]]
Make = Callable[[Seen, Runtime, HttpSettings], Any]
Outcome = tuple[Seen, list[Answer], bool]
VARIANTS = (
    HttpSettings(server_header=False, date_header=False, threads=0),
    HttpSettings(server_header=False, date_header=False, threads=0, root_path="/root", underscore_headers=True),
    HttpSettings(server_header=False, date_header=False, threads=0, forwarded_allow_ips=("127.0.0.1",)),
)


def _asgi(seen: Seen, runtime: Runtime, settings: HttpSettings) -> Asgi:
    """An application that modifies everything in its scope, and waits now and then."""

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        seen.append(copy.deepcopy(scope))
        path = scope["path"]
        for value in scope.values():
            if isinstance(value, (dict, list)):
                value.clear()
        for key in scope:
            scope[key] = "ruined"
        scope["mine"] = "ruined"
        if len(path) % 2:
            await asyncio.sleep(0)
        while (await receive())["more_body"]:
            pass
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": path.encode()})

    adapter = Asgi(application, runtime, Connections(), settings)
    adapter.state = {"key": "value"}
    return adapter


def _wsgi(seen: Seen, runtime: Runtime, settings: HttpSettings) -> Wsgi:
    """The same for WSGI; it responds in every possible way."""

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        seen.append({key: value for key, value in environ.items() if key not in ("wsgi.input", "wsgi.early_hints")})
        path, body = environ["PATH_INFO"], environ["wsgi.input"].read()
        for key in environ:
            environ[key] = "ruined"
        environ["HTTP_MINE"] = environ["mine"] = "ruined"
        if len(path) % 2:
            runtime.sleep(0)  # type: ignore[attr-defined]
        write = start_response("200 OK", [("X-Path", path)])
        pieces = [path.encode("latin-1"), body]
        match len(path) % 4:
            case 0:
                return [b"".join(pieces)]
            case 1:
                return iter(pieces)
            case 2:
                return pieces
        write(b"early")
        return pieces[:1]

    return Wsgi(application, runtime, Connections(), settings)


async def _serve(make: Make, runtime: Runtime, variant: HttpSettings, parts: Sequence[bytes]) -> Outcome:
    """Send the parts on one connection; return the application's input, the responses, and True if it was closed."""
    seen: Seen = []
    adapter = make(seen, runtime, variant)
    connection, transport = _open(adapter)
    for part in parts:
        if transport.closing or transport.ended:
            break
        await until(lambda: not transport.is_paused, "the server reads on")
        await in_callback(connection.data_received, part)
        await turns(6)
    closed = transport.closing or transport.ended
    whole = not connection.reader.is_within_request
    if not transport.closing:
        await transport.ends()
        await until(lambda: transport.closing, "the server closes too")
    await turns()
    if isinstance(adapter, Asgi):
        adapter.tasks.close()
        await turns()
    method = "method" if isinstance(adapter, Asgi) else "REQUEST_METHOD"
    heads = frozenset(number for number, facts in enumerate(seen) if facts[method] == "HEAD")
    return seen, read_answers(bytes(transport.received), heads), closed or not whole


def _open(adapter: Any) -> tuple[HttpConnection, FakeTransport]:
    connection, transport = connect(adapter)
    connection.trusts_proxy = adapter.context.proxies is not None
    return connection, transport


def _check(make: Make, variant: HttpSettings, requests: list[bytes]) -> None:
    """Compare a series of requests with each of them on a connection of its own."""

    async def main(runtime: Runtime) -> None:
        expected: Outcome = ([], [], False)
        for request in requests:
            seen, answers, closed = await _serve(make, runtime, variant, [request])
            expected = (expected[0] + seen, expected[1] + answers, closed)
            if closed:
                break
        assert await _serve(make, runtime, variant, requests) == expected

    run_on("epoll", main)


@given(series(), st.sampled_from(VARIANTS))
@LIMIT
def test_scopes_are_the_same_as_for_separate_requests(requests: list[bytes], variant: HttpSettings) -> None:
    """Whatever the application does to earlier scopes, and behind a trusted proxy."""
    _check(_asgi, variant, requests)


@given(series(), st.sampled_from(VARIANTS))
@LIMIT
def test_environs_are_the_same_as_for_separate_requests(requests: list[bytes], variant: HttpSettings) -> None:
    """Whatever the application does to earlier environs, and behind a trusted proxy."""
    _check(_wsgi, variant, requests)


@pytest.mark.parametrize("make", [_asgi, _wsgi])
@pytest.mark.parametrize("variant", VARIANTS)
def test_many_repeats_are_equal(make: Make, variant: HttpSettings) -> None:
    """The same target, another one, another method, other fields and back."""
    other = FIRST.replace(b"X: b", b"X: c")
    kinds = [FIRST, FIRST.replace(b"/a", b"/%62c"), FIRST.replace(b"GET", b"HEAD"), other, FIRST]
    _check(make, variant, [request for request in kinds for _ in range(4)])


@pytest.mark.parametrize("make", [_asgi, _wsgi])
def test_connections_do_not_mix(make: Make) -> None:
    """Clients and fields stay with their connections, however the requests alternate."""
    seen: Seen = []

    async def main(runtime: Runtime) -> None:
        adapter = make(seen, runtime, VARIANTS[0])
        opened = []
        for number in range(3):
            connection = HttpConnection(adapter.context)
            connection.client = (f"10.0.0.{number}", number)
            opened.append((connection, FakeTransport(connection)))
        for _ in range(5):
            for number, (connection, _) in enumerate(opened):
                await in_callback(connection.data_received, FIRST.replace(b"X: b", b"X: %d" % number))
                await turns()
        for _, transport in opened:
            await transport.ends()
        await turns()
        if isinstance(adapter, Asgi):
            adapter.tasks.close()
            await turns()

    run_on("epoll", main)
    found = [
        (facts["client"][1], int(facts["headers"][1][1]))
        if "client" in facts
        else (int(facts["REMOTE_PORT"]), int(facts["HTTP_X"]))
        for facts in seen
    ]
    assert found == [(0, 0), (1, 1), (2, 2)] * 5


def test_a_repeat_has_no_body_and_then_a_disconnect() -> None:
    messages = []

    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        messages.append(await receive())
        if len(messages) == 4:
            messages.append(await receive())
            return
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    async def main() -> None:
        adapter = asgi_adapter(application)
        _, transport = connect(adapter)
        for _ in range(4):
            await transport.sends(FIRST)
        await transport.vanishes()
        await until(lambda: len(messages) == 5, "the application hears of the end")
        adapter.tasks.close()
        await turns()

    on_loop(main)
    assert messages == [{"type": "http.request", "body": b"", "more_body": False}] * 4 + [{"type": "http.disconnect"}]


def test_trailers_are_sent_for_repeats_too() -> None:
    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "trailers": True})
        await send({"type": "http.response.body", "body": b"body"})
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]})

    async def main() -> None:
        adapter = asgi_adapter(application, VARIANTS[0])
        connection, transport = connect(adapter)
        for _ in range(4):
            await transport.sends(FIRST.replace(b"X: b", b"TE: trailers"))
        assert connection.reader.repeated is not None
        assert connection.reader.repeated.likeness is not Likeness.NONE
        answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nx-sum: 1\r\n\r\n"
        assert transport.received == answer * 4
        adapter.tasks.close()
        await turns()

    on_loop(main)


# --- threads


@pytest.mark.parametrize(("loop", "threads"), PLACES)
def test_pipelined_requests_get_their_own_results_wherever_they_run(loop: str, threads: int) -> None:
    """Several clients at once; requests alone and in packets; the fields change now and then."""

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        told = f"{environ['PATH_INFO']} {environ['HTTP_X']} {environ['REMOTE_PORT']} {environ.get('mine')}"
        for key in environ:
            environ[key] = "ruined"
        environ["mine"] = "ruined"
        start_response("200 OK", [])
        return [told.encode()]

    def requests(client: int) -> Iterator[tuple[list[bytes], list[str]]]:
        """Yield packets of requests, and their expected results."""
        number = 0
        for size in (1, 1, 1, 1, 4, 1, 1, 3, 1, 1, 1, 1):
            numbers = range(number, number + size)
            number += size
            asked = [(f"/{client}/{each // 3}", f"{client}.{each // 8}") for each in numbers]
            yield (
                [f"GET {path} HTTP/1.1\r\nHost: a\r\nX: {field}\r\n\r\n".encode() for path, field in asked],
                [f"{path} {field}" for path, field in asked],
            )

    with serving_wsgi(application, loop, threads) as server:
        with ExitStack() as stack:
            socks = [stack.enter_context(connected(server.address)) for _ in range(3)]
            readers = [stack.enter_context(sock.makefile("rb")) for sock in socks]
            for turn in zip(*(requests(client) for client in range(3)), strict=True):
                for sock, (packet, _) in zip(socks, turn, strict=True):
                    sock.sendall(b"".join(packet))
                for sock, reader, (_, asked) in zip(socks, readers, turn, strict=True):
                    port = sock.getsockname()[1]
                    assert [read_body(reader).decode() for _ in asked] == [f"{each} {port} None" for each in asked]
        assert server.log == []
