"""WSGI and ASGI applications that count the requests they have got whole, and answer with what they got.

They answer /close with `Connection: close`, and /pieces in pieces of unknown number.
"""

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


def _pieces(target: bytes, answer: bytes) -> list[bytes]:
    if target != b"/pieces":
        return [answer]
    return [answer[start : start + 1000] for start in range(0, len(answer), 1000)] + [b""]


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    body = environ["wsgi.input"].read()
    target = environ["REQUEST_URI"].encode("latin-1")
    if not target.startswith(b"/"):  # a URL, or the asterisk
        query = environ["QUERY_STRING"]
        target = f"{environ['PATH_INFO'] or '*'}{'?' if query else ''}{query}".encode("latin-1")
    answer = _answer(environ["REQUEST_METHOD"], target, body)
    closing = [("Connection", "close")] if target == b"/close" else []
    start_response("200 OK", [("Content-Type", "text/plain"), *closing])
    return _pieces(target, answer)


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
    closing = [(b"connection", b"close")] if target == b"/close" else []
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain"), *closing]})
    *first, last = _pieces(target, answer)
    for piece in first:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": last})
