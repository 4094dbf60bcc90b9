"""An ASGI application that answers with the level of the logger `hybrid` in its worker, as a number."""

from __future__ import annotations

import logging
from typing import Any


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    level = b"%d" % logging.getLogger("hybrid").level
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(level))]})
    await send({"type": "http.response.body", "body": level})
