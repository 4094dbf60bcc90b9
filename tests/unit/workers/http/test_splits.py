"""However the network cuts requests, applications get the same input and give the same responses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from support.echo import Answer, pieces, read_answers
from support.http import connect, in_callback, until
from support.hub import run_on, turns
from support.loops import MATRIX
from support.requests import Request, cut, points, requests

from hybrid.workers.apps.asgi.interface import Asgi
from hybrid.workers.apps.wsgi.interface import Wsgi
from hybrid.workers.common.connections import Connections
from hybrid.workers.http.settings import HttpSettings
from hybrid.workers.runtime import Runtime

SETTINGS = HttpSettings(server_header=False, date_header=False, threads=0)
LIMIT = settings(max_examples=60 if MATRIX else 25, deadline=None)
Seen = list[Any]
several = st.lists(requests(), min_size=1, max_size=4)


def _asgi(seen: Seen, runtime: Runtime) -> Asgi:
    async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            assert message["type"] == "http.request"
            body += message["body"]
            more = message["more_body"]
        seen.append((scope, body))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body[:10], "more_body": True})
        await send({"type": "http.response.body", "body": body[10:]})

    return Asgi(application, runtime, Connections(), SETTINGS)


def _wsgi(seen: Seen, runtime: Runtime) -> Wsgi:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        body = environ["wsgi.input"].read()
        seen.append(({key: value for key, value in environ.items() if isinstance(value, str)}, body))
        start_response("200 OK", [("X-Length", str(len(body)))])
        return [body[:10], body[10:]]

    return Wsgi(application, runtime, Connections(), SETTINGS)


def _serve(make: Callable[[Seen, Runtime], Any], asked: list[Request], parts: list[bytes]) -> tuple[Seen, list[Answer]]:
    """Send the parts; return the application's input, and the responses."""
    seen: Seen = []
    heads = frozenset(number for number, request in enumerate(asked) if request.method == "HEAD")

    async def main(runtime: Runtime) -> bytes:
        connection, transport = connect(make(seen, runtime))
        for part in parts:
            await until(lambda: not transport.is_paused, "the server reads on")
            await in_callback(connection.data_received, part)
        await until(lambda: len(seen) == len(asked) or transport.closing, "all requests are served")
        await turns()
        assert not transport.closing, bytes(transport.received)
        await transport.ends()
        await until(lambda: transport.closing, "the server closes too")
        await turns()
        return bytes(transport.received)

    return seen, read_answers(run_on("epoll", main), heads)


def _check(make: Callable[[Seen, Runtime], Any], asked: list[Request], where: list[int]) -> None:
    data = b"".join(request.wire for request in asked)
    whole = _serve(make, asked, [data])
    assert [body for _, body in whole[0]] == [request.content for request in asked]
    assert [answer.status for answer in whole[1]] == [200] * len(asked)
    assert _serve(make, asked, cut(data, where)) == whole


@given(several, points)
@LIMIT
def test_an_asgi_application_sees_no_difference(asked: list[Request], where: list[int]) -> None:
    """Scopes, bodies and responses are the same as for uncut requests."""
    _check(_asgi, asked, where)


@given(several, points)
@LIMIT
def test_a_wsgi_application_sees_no_difference(asked: list[Request], where: list[int]) -> None:
    """Environs, bodies and responses are the same as for uncut requests."""
    _check(_wsgi, asked, where)


@given(several, st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_input_may_arrive_byte_by_byte(asked: list[Request], size: int) -> None:
    """The smallest possible pieces make no difference."""
    data = b"".join(request.wire for request in asked)
    assert _serve(_asgi, asked, pieces(data, size)) == _serve(_asgi, asked, [data])
