"""A server of plain ASGI messages: one request to an application, without a socket."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Application = Callable[..., Awaitable[None]]
DEADLINE = 20.0  # seconds


@dataclasses.dataclass(frozen=True)
class Answer:
    """What an application has answered, as a client sees it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


class Exchange:
    """One HTTP request: its messages to the application, and what came back so far."""

    def __init__(
        self,
        app: Application,
        path: str,
        *,
        method: str = "GET",
        root_path: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._app = app
        given = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items()]
        self._scope = {"type": "http", "method": method, "path": path, "root_path": root_path, "headers": given}
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._incoming.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.gone = False  # the client has hung up: what is sent now raises, as ASGI 2.4 says

    def disconnect(self) -> None:
        """Let the client hang up."""
        self.gone = True
        self._incoming.put_nowait({"type": "http.disconnect"})

    async def serve(self) -> None:
        """Call the application; returns when it does."""
        await self._app(self._scope, self._incoming.get, self._send)

    async def run(self) -> Answer:
        """Call the application and return its whole answer."""
        async with asyncio.timeout(DEADLINE):
            await self.serve()
        start, *parts = [self.sent.get_nowait() for _ in range(self.sent.qsize())]
        assert start["type"] == "http.response.start"
        assert [part.get("more_body", False) for part in parts] == [True] * (len(parts) - 1) + [False]
        headers = {name.decode(): value.decode() for name, value in start["headers"]}
        assert len(headers) == len(start["headers"]), "a header is there twice"
        return Answer(start["status"], headers, b"".join(part["body"] for part in parts))

    async def _send(self, message: dict[str, Any]) -> None:
        if self.gone:
            raise BrokenPipeError("the client is gone")
        self.sent.put_nowait(message)


def get(
    app: Application,
    path: str,
    *,
    method: str = "GET",
    root_path: str = "",
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Return the answer of `app` to one request, in an event loop of its own."""

    async def exchange() -> Answer:
        return await Exchange(app, path, method=method, root_path=root_path, headers=headers).run()

    return asyncio.run(exchange())
