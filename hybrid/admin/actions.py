"""The changes that the dashboard offers: reload, scale, restart.

A response has a line of JSON for each progress, then one with `result` or `error`. The work goes on if the client goes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from hybrid.admin.access import Need
from hybrid.admin.line import Line
from hybrid.admin.messages import Request, Response, text
from hybrid.admin.routing import POSTS, Route
from hybrid.control.errors import ControlError

LINES: Final = "application/x-ndjson"
LONGEST: Final = 600.0
"""Seconds until an action is no longer waited for; the supervisor's own limits are shorter."""
_FIELDS: Final[Mapping[str, Mapping[str, type]]] = {
    "reload": {"service": str},
    "scale": {"service": str, "by": int},
    "restart": {"service": str, "slot": int},
}


class Actions:
    """The routes of the actions."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self.routes: Mapping[str, Route] = {
            f"/actions/{name}": Route(self._handler(name), Need.ACT, POSTS) for name in _FIELDS
        }

    def _handler(self, name: str) -> Any:
        async def handle(request: Request) -> Response:
            return await self._act(name, request)

        return handle

    async def _act(self, name: str, request: Request) -> Response:
        if not request.headers.get("content-type", "").startswith("application/json"):
            return text(415, "send JSON")
        try:
            given = await request.fields()
        except ValueError:
            return text(400, "the body is no JSON object")
        if (reason := why_not(name, given)) is not None:
            return text(400, reason)
        return Response(200, LINES, self._run(name, given))

    async def _run(self, name: str, given: Mapping[str, Any]) -> AsyncIterator[bytes]:
        lines: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

        async def ask() -> None:
            try:
                lines.put_nowait({"result": await self._line.ask(name, LONGEST, tell, **given)})
            except ControlError as error:
                lines.put_nowait({"error": str(error)})

        def tell(progress: Mapping[str, Any]) -> None:
            if lines.qsize() < _MOST_WAITING:
                lines.put_nowait({"progress": progress})

        asking = asyncio.get_running_loop().create_task(ask())
        try:
            while True:
                line = await lines.get()
                yield json.dumps(line).encode() + b"\n"
                if "progress" not in line:
                    return
        finally:
            asking.cancel()


_MOST_WAITING: Final = 100  # progress lines that wait for a client; further ones are left out


def why_not(name: str, given: Mapping[str, Any]) -> str | None:
    """Return why the fields of an action are wrong; None if they are right."""
    fields = _FIELDS[name]
    if unknown := sorted(given.keys() - fields.keys()):
        return f"{name} knows no {', '.join(unknown)}"
    for field, kind in fields.items():
        if field not in given:
            return f"{name} needs {field}"
        if type(given[field]) is not kind:  # a bool is no number here
            return f"{field} must be {'a number' if kind is int else 'a text'}"
    return None
