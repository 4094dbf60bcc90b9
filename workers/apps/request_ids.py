"""Applications wrapped for request ids: they find the id, log with it, and send it with their responses.

Used with `--request-id-header` only. The wrappers set `REQUEST_ID` in the context of the request and leave it there:
the context ends with the request, and errors that the application raises are logged in it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from hybrid.workers.contract.log import REQUEST_ID
from hybrid.workers.tasks.cpython import mark_coroutine_function

KEY = "hybrid.request_id"
"""The key of the id in an environ and in a scope."""
_HEADS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})


def wsgi(application: Callable[..., Iterable[bytes]], name: str) -> Callable[..., Iterable[bytes]]:
    """Return a WSGI application that knows the ids of its requests; `name`: of the header field, as it is sent."""
    key = "HTTP_" + name.upper().replace("-", "_")
    lower = name.lower()

    def with_ids(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        given = environ[KEY] = environ[key]
        REQUEST_ID.set(given)

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            others = [field for field in headers if field[0].lower() != lower]
            return start_response(status, [*others, (name, given)], *more)

        return application(environ, start)

    return with_ids


def asgi(application: Callable[..., Awaitable[None]], name: str) -> Callable[..., Awaitable[None]]:
    """Return an ASGI application that knows the ids of its requests and WebSockets."""
    key = name.lower().encode("ascii")

    async def with_ids(scope: dict[str, Any], receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        given = next(value for field, value in scope["headers"] if field == key)
        scope[KEY] = text = given.decode("ascii")
        REQUEST_ID.set(text)

        def send_with_id(message: dict[str, Any]) -> Any:
            if message.get("type") in _HEADS:
                others = [field for field in message.get("headers") or () if bytes(field[0]).lower() != key]
                message = {**message, "headers": [*others, (key, given)]}
            return send(message)

        mark_coroutine_function(send_with_id)
        await application(scope, receive, send_with_id)

    return with_ids
