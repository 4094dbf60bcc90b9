"""WSGI and ASGI applications that count the requests they have got whole, and answer with what they got."""

from __future__ import annotations

from typing import Any

calls = 0


def _answer(method: str, target: bytes, body: bytes) -> bytes:
    """Method, target and body; or, for /calls, how many requests came before."""
    global calls
    if target == b"/calls":
        return b"%d" % calls
    calls += 1
    return b"%b %b %b" % (method.encode("ascii"), target, body)


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    body = environ["wsgi.input"].read()
    answer = _answer(environ["REQUEST_METHOD"], environ["REQUEST_URI"].encode("latin-1"), body)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answer]


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        more = message["more_body"]
    target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    answer = _answer(scope["method"], target, body)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": answer})
