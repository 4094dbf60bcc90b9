"""The demonstration's long-lived parts over plain ASGI messages: the events and the WebSocket."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from support.asgi import DEADLINE, Exchange

from hybrid.demonstration import app as demo


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "TICK", 0.001)


async def _next_event(exchange: Exchange) -> dict[str, Any]:
    while True:
        part = await exchange.sent.get()
        text = part.get("body", b"").decode()
        if text.startswith("data: "):
            assert text.endswith("\n\n")
            told: dict[str, Any] = json.loads(text.removeprefix("data: "))
            return told


@pytest.mark.usefixtures("events")
def test_events_tell_the_time_and_the_worker_until_the_client_goes() -> None:
    async def scenario() -> None:
        async with asyncio.timeout(DEADLINE):
            exchange = Exchange(demo.handle, "/events")
            serving = asyncio.ensure_future(exchange.serve())
            start = await exchange.sent.get()
            first, second = await _next_event(exchange), await _next_event(exchange)
            exchange.disconnect()
            await serving
        assert (b"content-type", b"text/event-stream; charset=utf-8") in start["headers"]
        assert second["answers"] == first["answers"] + 1
        assert len(first["time"].split(":")) == 3

    asyncio.run(scenario())


@pytest.mark.usefixtures("events")
def test_the_event_stream_ends_cleanly_when_the_server_stops() -> None:
    """A disconnect is announced, but the connection still accepts data: the stream ends normally."""

    async def scenario() -> None:
        async with asyncio.timeout(DEADLINE):
            exchange = Exchange(demo.handle, "/events")
            serving = asyncio.ensure_future(exchange.serve())
            await _next_event(exchange)
            exchange.disconnect()
            exchange.gone = False
            await serving
        messages = [exchange.sent.get_nowait() for _ in range(exchange.sent.qsize())]
        assert not messages[-1].get("more_body", False)

    asyncio.run(scenario())


@pytest.mark.usefixtures("events")
def test_a_stream_that_is_cancelled_leaves_no_task_behind() -> None:
    async def scenario() -> None:
        async with asyncio.timeout(DEADLINE):
            exchange = Exchange(demo.handle, "/events")
            serving = asyncio.ensure_future(exchange.serve())
            await _next_event(exchange)
            serving.cancel()
            await asyncio.wait((serving,))
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait((task,))
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scenario())


def converse(path: str, *messages: dict[str, Any]) -> list[dict[str, Any]]:
    """Connect a WebSocket, send `messages`, close; return the messages of the application."""
    sent: list[dict[str, Any]] = []
    coming = iter([{"type": "websocket.connect"}, *messages, {"type": "websocket.disconnect", "code": 1000}])

    async def receive() -> dict[str, Any]:
        return next(coming)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(demo.handle({"type": "websocket", "path": path, "headers": []}, receive, send))  # type: ignore[arg-type]
    return sent


def test_a_websocket_gets_back_text_as_text_and_bytes_as_bytes() -> None:
    accept, *echoes = converse(
        "/ws",
        {"type": "websocket.receive", "text": "ö"},
        {"type": "websocket.receive", "text": None, "bytes": b"\0"},
        {"type": "websocket.receive", "text": "", "bytes": None},
    )
    assert accept == {"type": "websocket.accept"}
    assert echoes == [
        {"type": "websocket.send", "text": "ö"},
        {"type": "websocket.send", "bytes": b"\0"},
        {"type": "websocket.send", "text": ""},
    ]


def test_a_websocket_elsewhere_is_refused_before_it_is_accepted() -> None:
    assert converse("/who") == [{"type": "websocket.close"}]
