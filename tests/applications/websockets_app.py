"""An ASGI application that does on a WebSocket what the path says, and notes how each ended."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
ACCEPT = {"type": "websocket.accept"}
PIECE = b"x" * 65_536
_room: set[Send] = set()  # of everybody in the chat


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] != "websocket":
        raise ValueError(f"nothing here for {scope['type']}")
    assert (await receive())["type"] == "websocket.connect"
    await COMMANDS[scope["path"]](scope, receive, send)


def note(line: str) -> None:
    with open(os.environ["NOTES"], "a") as file:  # noqa: PTH123 - one write for each line
        file.write(line + "\n")


async def echo(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await send(ACCEPT)
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})
    note(f"{event['code']} {event['reason']}".strip())


async def chat(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """What anybody says is sent to everybody."""
    await send(ACCEPT)
    _room.add(send)
    try:
        while (event := await receive())["type"] == "websocket.receive":
            await asyncio.gather(*(tell({"type": "websocket.send", "text": event["text"]}) for tell in _room))
    finally:
        _room.discard(send)


async def last_offer(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await send({**ACCEPT, "subprotocol": scope["subprotocols"][-1], "headers": [(b"x-offered", b"yes")]})
    await receive()


async def close(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await send(ACCEPT)
    await send({"type": "websocket.close", "code": 4001, "reason": "tschüß"})
    note(f"{(await receive())['code']}")


async def leave(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await send(ACCEPT)


async def fail(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await send(ACCEPT)
    raise ValueError("on purpose")


async def refuse(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    await send({"type": "websocket.close"})


async def deny(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    fields = [(b"www-authenticate", b"Basic"), (b"content-type", b"text/plain")]
    await send({"type": "websocket.http.response.start", "status": 401, "headers": fields})
    await send({"type": "websocket.http.response.body", "body": b"who ", "more_body": True})
    await send({"type": "websocket.http.response.body", "body": b"are you?"})


async def flood(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Send without end, and note how much went out."""
    await send(ACCEPT)
    count = 0
    try:
        while True:
            await send({"type": "websocket.send", "bytes": PIECE})
            count += 1
    except OSError:
        note(f"sent {count}")


async def deaf(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Receive nothing until the worker stops."""
    await send(ACCEPT)
    await asyncio.Event().wait()


async def undecided(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Wait for the end without an answer to the handshake."""
    note("undecided")
    note(f"{(await receive())['type']}")


COMMANDS = {
    f"/{command.__name__}": command
    for command in (echo, chat, last_offer, close, leave, fail, refuse, deny, flood, deaf, undecided)
}
