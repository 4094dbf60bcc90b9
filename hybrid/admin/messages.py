"""Requests and responses of the admin application, without the details of ASGI."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import parse_qsl

Scope = Mapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MOST_BODY: Final = 16 * 1024
"""Bytes of a request's body."""
PATIENCE: Final = 5.0
"""Seconds in which a client must take a part of a response."""
TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"
logger = logging.getLogger("hybrid")
_ALWAYS: Final = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


class BodyTooLongError(Exception):
    """The body of a request has more than `MOST_BODY` bytes."""


class Request:
    """A request."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.scheme: str = scope["scheme"]
        self.headers: dict[str, str] = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        """Names in lower case; of fields that occur twice the last."""
        self.query: dict[str, str] = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        self._receive = receive

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies; none if they cannot be read."""
        try:
            return {name: morsel.value for name, morsel in SimpleCookie(self.headers.get("cookie", "")).items()}
        except CookieError:
            return {}

    async def body(self) -> bytes:
        """Return the body. Raises `BodyTooLongError`, and `ConnectionError` if the client is gone."""
        whole = b""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ConnectionResetError("the client is gone")
            part: bytes = message.get("body", b"")
            whole += part
            if len(whole) > MOST_BODY:
                raise BodyTooLongError
            if not message.get("more_body", False):
                return whole

    async def fields(self) -> dict[str, Any]:
        """Return the body as a JSON object or a form. Raises as `body`, and `ValueError` if it is neither."""
        body = await self.body()
        if self.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return dict(parse_qsl(body.decode("latin-1")))
        try:
            found = json.loads(body)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        if not isinstance(found, dict):
            raise ValueError("no JSON object")
        return found

    async def gone(self) -> None:
        """Return once the client is gone."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


@dataclass(frozen=True, slots=True)
class Response:
    """A response: a body, or parts of one that come over time."""

    status: int = 200
    content_type: str = TEXT
    body: bytes | AsyncIterator[bytes] = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    async def send(self, send: Send, *, is_head: bool = False) -> None:
        """Send it."""
        fields = {"content-type": self.content_type, **_ALWAYS, **self.headers}
        if isinstance(self.body, bytes):
            fields["content-length"] = str(len(self.body))
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": encoded})
        if isinstance(self.body, bytes):
            await send({"type": "http.response.body", "body": b"" if is_head else self.body})
            return
        if not is_head:
            await self._send_parts(self.body, send)
        await send({"type": "http.response.body", "body": b""})

    async def _send_parts(self, parts: AsyncIterator[bytes], send: Send) -> None:
        """Send the parts as they come; stop at a client that does not take one within `PATIENCE`."""
        try:
            async for part in parts:
                async with asyncio.timeout(PATIENCE):
                    await send({"type": "http.response.body", "body": part, "more_body": True})
        except TimeoutError:
            logger.debug("a client does not read: its response ends here")
        finally:
            if isinstance(parts, AsyncGenerator):
                await parts.aclose()


def text(status: int, body: str, **headers: str) -> Response:
    """Return a response of plain text."""
    return Response(
        status, TEXT, f"{body}\n".encode(), {name.replace("_", "-"): value for name, value in headers.items()}
    )


def as_json(value: object, status: int = 200) -> Response:
    """Return a response of JSON."""
    return Response(status, JSON, json.dumps(value, separators=(",", ":")).encode())
