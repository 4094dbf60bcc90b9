"""Pages of a bare ASGI application: bodies of every kind, every extension, every way to wait and to fail."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Scope = dict[str, Any]
TEXT = (b"content-type", b"text/plain")
BLOCK = bytes(range(256)) * 256  # 64 KiB
NOTES = os.environ.get("NOTES", os.devnull)


async def page(scope: Scope, receive: Receive, send: Send) -> None:
    """Call the page that the path names."""
    name = scope["path"].removeprefix(scope["root_path"]).strip("/").replace("-", "_") or "hello"
    function = PAGES.get(name, missing)
    await function(scope, receive, send)


async def answer(send: Send, body: Any = b"", status: int = 200, *headers: Any) -> None:
    """Send a whole answer."""
    await send({"type": "http.response.start", "status": status, "headers": [TEXT, *headers]})
    await send({"type": "http.response.body", "body": body})


def query(scope: Scope) -> str:
    """What stands behind the question mark, up to the first `&`."""
    return str(scope["query_string"].decode().partition("&")[0])


def remember(scope: Scope, what: str) -> None:
    """Write down what an application has seen that its client cannot see."""
    with open(f"{NOTES}.seen", "a") as file:  # noqa: PTH123
        file.write(f"{scope['path']} {what}\n")


async def read(receive: Receive) -> bytes:
    """Return the whole body."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return body


async def missing(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, b"no such page", 404)


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, f"hello from {os.getpid()}".encode())


async def show(scope: Scope, receive: Receive, send: Send) -> None:
    """The scope; the last header field is the referee's."""
    shown = {
        name: scope[name] for name in ("http_version", "method", "scheme", "path", "root_path", "client", "server")
    }
    shown["raw_path"] = scope["raw_path"].decode()
    shown["query_string"] = scope["query_string"].decode()
    shown["headers"] = [(name.decode(), value.decode("latin-1")) for name, value in scope["headers"][:-1]]
    shown["tls"] = scope["extensions"].get("tls")
    await answer(send, json.dumps(shown).encode())


# --- bodies


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Give each piece back as it comes."""
    await send({"type": "http.response.start", "status": 200, "headers": [TEXT]})
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
        await send({"type": "http.response.body", "body": message.get("body", b""), "more_body": more})


async def upload(scope: Scope, receive: Receive, send: Send) -> None:
    digest = hashlib.sha256()
    more = True
    while more:
        message = await receive()
        digest.update(message.get("body", b""))
        more = message.get("more_body", False)
    await answer(send, digest.hexdigest().encode())


async def download(scope: Scope, receive: Receive, send: Send) -> None:
    """As many blocks as the query says."""
    await send({"type": "http.response.start", "status": 200, "headers": [TEXT]})
    try:
        for _ in range(int(query(scope))):
            await send({"type": "http.response.body", "body": BLOCK, "more_body": True})
    except OSError:
        remember(scope, "OSError")
        raise
    await send({"type": "http.response.body"})


async def kinds(scope: Scope, receive: Receive, send: Send) -> None:
    """Pieces of all types of bytes, changed as soon as they are sent."""
    changing = bytearray(b"two ")
    view = bytearray(b"three ")
    await send({"type": "http.response.start", "status": 200, "headers": ([b"a", b"list"], (b"b", b"tuple"))})
    await send({"type": "http.response.body", "body": b"one ", "more_body": True})
    await send({"type": "http.response.body", "body": changing, "more_body": True})
    changing[:] = b"xxxx"
    await send({"type": "http.response.body", "body": memoryview(view), "more_body": True})
    view[:] = b"xxxxxx"
    await send({"type": "http.response.body", "more_body": True})
    await send({"type": "http.response.body", "body": memoryview(b"f.o.u.r")[::2], "more_body": False})


async def generated_headers(scope: Scope, receive: Receive, send: Send) -> None:
    headers = ([name, b"1"] for name in (b"first", b"second", b"first"))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def status(scope: Scope, receive: Receive, send: Send) -> None:
    """A body, whatever the status."""
    await send({"type": "http.response.start", "status": int(query(scope))})
    await send({"type": "http.response.body", "body": b"a body"})


async def length(scope: Scope, receive: Receive, send: Send) -> None:
    """A Content-Length and pieces, `5:abc,de`."""
    number, _, pieces = query(scope).partition(":")
    fields = [(b"content-length", number.encode())]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    *parts, last = pieces.split(",")
    for part in parts:
        await send({"type": "http.response.body", "body": part.encode(), "more_body": True})
    await send({"type": "http.response.body", "body": last.encode()})


# --- extensions


async def trailers(scope: Scope, receive: Receive, send: Send) -> None:
    fields = [TEXT, (b"trailer", b"x-sum, x-more")]
    await send({"type": "http.response.start", "status": 200, "headers": fields, "trailers": True})
    await send({"type": "http.response.body", "body": b"a body", "more_body": query(scope) == "pieces"})
    if query(scope) == "pieces":
        await send({"type": "http.response.body", "body": b" in pieces"})
    if query(scope) == "never":
        return
    await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")], "more_trailers": True})
    await send({"type": "http.response.trailers", "headers": [[b"x-more", b"2"]]})


async def hints(scope: Scope, receive: Receive, send: Send) -> None:
    hint = {"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload; as=style", b"</b>; rel=next"]}
    await send(hint)
    await send({"type": "http.response.start", "status": 200, "headers": [TEXT]})
    await send(hint)
    await send({"type": "http.response.body", "body": b"styled", "more_body": True})
    await send(hint)  # too late, and ignored
    await send({"type": "http.response.body"})


async def path(scope: Scope, receive: Receive, send: Send) -> None:
    name, _, number = query(scope).partition(":")
    fields = [(b"content-length", number.encode())] if number else []
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.pathsend", "path": name})


# --- waiting


async def _rest(scope: Scope) -> None:
    """Sleep for the seconds of the query, or until there is the file that it names."""
    asked = query(scope)
    if not asked.startswith("/"):
        await asyncio.sleep(float(asked))
        return
    while not Path(asked).exists():
        await asyncio.sleep(0.005)


async def nap(scope: Scope, receive: Receive, send: Send) -> None:
    await _rest(scope)
    await answer(send, b"rested")


async def background(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer, and go on for as long as the query says."""
    await answer(send, b"begun")
    remember(scope, f"behind the answer: {(await receive())['type']}")
    try:
        await _rest(scope)
    except asyncio.CancelledError:
        remember(scope, "cancelled")
        raise
    remember(scope, "finished")


async def wait_gone(scope: Scope, receive: Receive, send: Send) -> None:
    """Wait for the client to leave, in two places at once."""
    await read(receive)
    remember(scope, "waits")
    first, second = await asyncio.gather(receive(), receive())
    remember(scope, f"{first['type']} {second['type']} {(await receive())['type']}")
    try:
        await send({"type": "http.response.start", "status": 200})
        while True:  # a client that has closed its socket is known to be gone once it has refused a piece
            await send({"type": "http.response.body", "body": b"piece", "more_body": True})
            await asyncio.sleep(0.001)
    except OSError:
        remember(scope, "OSError")
        raise  # an error that says no more than what everybody knows: it is not logged


async def sleep_on(scope: Scope, receive: Receive, send: Send) -> None:
    """Sleep, whether the client is there or not."""
    remember(scope, "sleeps")
    try:
        await _rest(scope)
    except asyncio.CancelledError:
        remember(scope, "cancelled")
        raise
    await read(receive)
    remember(scope, f"woke up to {(await receive())['type']}")
    await answer(send)


async def events(scope: Scope, receive: Receive, send: Send) -> None:
    """Server-sent events without an end."""
    left = asyncio.ensure_future(_left(receive))
    fields = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    with suppress(OSError):  # the end may come just before a tick: then `send` tells of it first
        while not left.done():
            await send({"type": "http.response.body", "body": b"data: tick\n\n", "more_body": True})
            await asyncio.wait([left], timeout=0.05)
    remember(scope, "ended")
    await send({"type": "http.response.body"})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def stubborn(scope: Scope, receive: Receive, send: Send) -> None:
    """Never answer; say how it ended."""
    remember(scope, "begins")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        remember(scope, "cancelled")
        raise


# --- tasks


async def tasks(scope: Scope, receive: Receive, send: Send) -> None:
    """All that asyncio offers within a request."""
    task = asyncio.current_task()
    assert task is not None
    found: dict[str, Any] = {}
    task.cancel()
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        task.uncancel()
        found["cancelled itself"] = True
    try:
        async with asyncio.timeout(0.001):
            await asyncio.sleep(60)
    except TimeoutError:
        found["timeout"] = True
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(60))
            group.create_task(_raise(LookupError()))
    except* LookupError:
        found["group"] = True
    found["thread"] = await asyncio.to_thread(lambda: True)
    found["name"] = task.get_name()
    found["same"] = asyncio.current_task() is task
    found["repr"] = "Task" in repr(task)
    found["in all"] = task in asyncio.all_tasks()
    # sends in tasks of their own, one behind the other
    await asyncio.create_task(_send(send, {"type": "http.response.start", "status": 200}))
    body = json.dumps(found).encode()
    await asyncio.wait_for(_send(send, {"type": "http.response.body", "body": body}), 5)


async def _send(send: Send, message: dict[str, Any]) -> None:
    await send(message)


async def _raise(error: BaseException) -> None:
    raise error


async def count_tasks(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, str(len(asyncio.all_tasks())).encode())


async def cancelled(scope: Scope, receive: Receive, send: Send) -> None:
    """Be cancelled by another task."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_soon(task.cancel)
    await asyncio.sleep(60)


# --- failing


async def fail(scope: Scope, receive: Receive, send: Send) -> None:
    """Raise at the moment that the query names, what it names: `body-LookupError`."""
    moment, _, name = query(scope).partition("-")
    errors: dict[str, BaseException] = {
        "LookupError": LookupError("a broken page"),
        "SystemExit": SystemExit(3),
        "KeyboardInterrupt": KeyboardInterrupt(),
        "Group": BaseExceptionGroup("several", [LookupError("a broken page")]),
        "Cancelled": asyncio.CancelledError("a broken page"),
    }
    error = errors[name or "LookupError"]
    if moment == "waited":
        await asyncio.sleep(0.001)
    if moment in ("before", "waited"):
        raise error
    await send({"type": "http.response.start", "status": 200, "headers": [TEXT]})
    if moment == "start":
        raise error
    await send({"type": "http.response.body", "body": b"part", "more_body": True})
    if moment == "body":
        raise error
    await send({"type": "http.response.body"})
    raise error


async def wrong(scope: Scope, receive: Receive, send: Send) -> None:
    """Break a rule of sending; say what `send` raised."""
    start = {"type": "http.response.start", "status": 200}
    body = {"type": "http.response.body", "body": b"x", "more_body": True}
    last = {"type": "http.response.body", "body": b"y"}
    messages: dict[str, list[dict[str, Any]]] = {
        "body-first": [body],
        "two-starts": [start, start],
        "unknown": [{"type": "http.response.debug", "info": {}}],
        "websocket": [{"type": "websocket.send", "text": ""}],
        "status": [{"type": "http.response.start", "status": 101}],
        "text-status": [{"type": "http.response.start", "status": "200"}],
        "no-status": [{"type": "http.response.start"}],
        "text-body": [start, {"type": "http.response.body", "body": "text"}],
        "splitting": [{**start, "headers": [(b"x", b"a\r\nb: c")]}],
        "text-header": [{**start, "headers": [("x", "y")]}],
        "trailers": [start, body, {"type": "http.response.trailers", "headers": []}],
        "path-behind-body": [start, body, {"type": "http.response.pathsend", "path": __file__}],
        "directory": [start, {"type": "http.response.pathsend", "path": "/"}],
        "behind-the-end": [start, last, last, body, start],
        "nothing": [],
        "no-body": [start],
        "half": [start, body],
    }
    try:
        for message in messages[query(scope)]:
            await send(message)
    except Exception as error:
        remember(scope, f"{query(scope)} {type(error).__name__}")
        raise


async def state(scope: Scope, receive: Receive, send: Send) -> None:
    scope["state"]["shared"].append(1)
    await answer(send, str(len(scope["state"]["shared"])).encode())


async def quit_(scope: Scope, receive: Receive, send: Send) -> None:
    sys.exit(1)


PAGES: dict[str, Callable[[Scope, Receive, Send], Awaitable[None]]] = {
    name: function
    for name, function in list(globals().items())
    if asyncio.iscoroutinefunction(function) and not name.startswith("_") and name not in ("page", "answer", "read")
}
