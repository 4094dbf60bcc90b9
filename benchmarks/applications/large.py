"""A greeting, and 100 MiB in pieces for clients that do not read them: over WSGI and over ASGI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

BODY = b"Hello, World!"
_PIECE = bytes(65_536)
_PIECES = 1600
_KIND = "text/plain"


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Give `/large` piece by piece; greet everywhere else."""
    if environ["PATH_INFO"] == "/large":
        start_response("200 OK", [("Content-Type", _KIND)])
        return (_PIECE for _ in range(_PIECES))
    start_response("200 OK", [("Content-Type", _KIND), ("Content-Length", str(len(BODY)))])
    return [BODY]


async def asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Give `/large` piece by piece; greet everywhere else."""
    if scope["type"] != "http":
        raise ValueError(f"no application for {scope['type']}")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", _KIND.encode())]})
    if scope["path"] == "/large":
        for _ in range(_PIECES):
            await send({"type": "http.response.body", "body": _PIECE, "more_body": True})
        await send({"type": "http.response.body"})
    else:
        await send({"type": "http.response.body", "body": BODY})
