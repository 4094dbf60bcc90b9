"""A referee between server and application: holds every scope and message of ASGI 3 against the specification.

Specification: https://asgi.readthedocs.io/en/latest/specs/ (main, www 2.5, lifespan 2.0, tls 0.2). What a server does
wrong goes, a line each, to the file that NOTES names. The pages behind the referee are in `asgi_pages`.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import traceback
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import asgi_pages

NOTES = os.environ.get("NOTES", os.devnull)
EVERYWHERE: dict[str, Any] = {
    "type": str,
    "asgi": dict,
    "http_version": str,
    "scheme": str,
    "path": str,
    "raw_path": bytes,
    "query_string": bytes,
    "root_path": str,
    "headers": list,
    "client": (tuple, type(None)),  # None: of a UNIX socket
    "server": tuple,
    "extensions": dict,
    "state": dict,
}  # what the specification has as optional is there as well
KEYS: dict[str, dict[str, Any]] = {
    "http": {**EVERYWHERE, "method": str},
    "websocket": {**EVERYWHERE, "subprotocols": list},
}
SCHEMES = {"http": ("http", "https"), "websocket": ("ws", "wss")}
OFFERED = {
    "http": {"http.response.trailers", "http.response.early_hint"},
    "websocket": {"websocket.http.response"},
}
MINE: contextvars.ContextVar[str] = contextvars.ContextVar("MINE")


def note(what: str) -> None:
    """Write down what the server did wrong."""
    with open(NOTES, "a") as file:  # noqa: PTH123
        file.write(what + "\n")


class Referee:
    """One call of the application."""

    def __init__(self, scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        self._body_over = False
        self._disconnected = False
        self._answered = False

    def expect(self, fact: object, what: str) -> None:
        """Note `what` unless it is a fact."""
        if not fact:
            note(f"{self.scope.get('method', '')} {self.scope.get('path', self.scope.get('type'))}: {what}")

    # -- scopes

    def check_asgi(self, version: str) -> None:
        """The part that all scopes have."""
        asgi = self.scope.get("asgi")
        self.expect(asgi == {"version": "3.0", "spec_version": version}, f"asgi is {asgi!r}")
        if isinstance(asgi, dict):
            asgi["leak"] = True

    def check_connection(self) -> None:
        """The scope of a request or a WebSocket; what is put into it must not turn up in another."""
        scope = self.scope
        kind = scope["type"]
        self.check_asgi("2.5")
        keys = KEYS[kind]
        self.expect(set(scope) == set(keys), f"keys: {sorted(set(scope) ^ set(keys))}")
        for name, expected in keys.items():
            self.expect(isinstance(scope.get(name), expected), f"{name} is {scope.get(name)!r}")
        self.expect(scope["http_version"] in ("1.0", "1.1"), f"http_version is {scope['http_version']!r}")
        self.expect(scope["scheme"] in SCHEMES[kind], f"scheme is {scope['scheme']!r}")
        self.expect(b"?" not in scope["raw_path"], "raw_path has the query")
        self.expect(unquote(scope["raw_path"].decode("latin-1")) == scope["path"], f"raw_path: {scope['raw_path']!r}")
        self.expect(scope["path"].startswith(scope["root_path"]), "path does not begin with root_path")
        if kind == "http":
            self.expect(scope["method"] == scope["method"].upper(), "the method is not in upper case")
        else:
            self.expect(all(type(name) is str for name in scope["subprotocols"]), f"{scope['subprotocols']!r}")
            scope["subprotocols"].append("leak")
        self._check_headers()
        for name in ("client", "server"):
            self._check_address(name)
        self._check_extensions(kind)
        self.expect("leak" not in scope["state"], "the state is another request's")
        self.expect(type(scope["state"]["shared"]) is list, "the state is not the lifespan's")
        scope["state"]["leak"] = True

    def _check_headers(self) -> None:
        for pair in self.scope["headers"]:
            name, value = pair
            self.expect(type(name) is bytes and type(value) is bytes, f"a header field is {pair!r}")
            self.expect(name == name.lower() and name, f"a header field's name is {name!r}")
            self.expect(name != b"leak", "the header fields are another request's")
        self.scope["headers"].append((b"leak", b""))

    def _check_address(self, name: str) -> None:
        if self.scope[name] is None:
            self.expect(self.scope["server"][1] is None, f"{name} is None, but the socket is no UNIX socket")
            return
        host, port = self.scope[name]
        self.expect(isinstance(host, str), f"the host of {name} is {host!r}")
        self.expect(isinstance(port, int) or (name == "server" and port is None), f"the port of {name} is {port!r}")

    def _check_extensions(self, kind: str) -> None:
        extensions = self.scope["extensions"]
        secure = self.scope["scheme"] in ("https", "wss")
        optional = {"http.response.pathsend"}
        self.expect(
            set(extensions) - optional == OFFERED[kind] | ({"tls"} if secure else set()), f"{sorted(extensions)}"
        )
        self.expect(all(isinstance(value, dict) for value in extensions.values()), "an extension is no dict")
        if "tls" in extensions:
            facts = extensions["tls"]
            self.expect({"server_cert", "tls_version", "cipher_suite"} <= set(facts), f"tls has {sorted(facts)}")
            self.expect(facts["tls_version"] in (0x0303, 0x0304), f"tls_version is {facts['tls_version']}")
            self.expect(0 < facts["cipher_suite"] < 0x10000, f"cipher_suite is {facts['cipher_suite']}")
            chain = list(facts.get("client_cert_chain", ()))
            self.expect(all(item.startswith("-----BEGIN CERT") for item in chain), "the chain is no PEM")
            self.expect(bool(chain) == (facts.get("client_cert_name") is not None), "client_cert_name does not fit")
        extensions["leak"] = {}

    # -- messages

    async def receive(self) -> dict[str, Any]:
        """Check what the application is told."""
        task = asyncio.current_task()
        message = await self._receive()
        self.expect(task is not None and asyncio.current_task() is task, "receive goes on in another task")
        kind = message.get("type")
        if kind == "http.request":
            self.expect(not self._body_over, "http.request behind the end of the body")
            self.expect(not self._disconnected, "http.request after http.disconnect")
            self.expect(type(message.get("body", b"")) is bytes, f"the body is {message.get('body')!r:.40}")
            self.expect(type(message.get("more_body", False)) is bool, "more_body is no bool")
            self._body_over = not message.get("more_body", False)
        else:
            self.expect(kind == "http.disconnect", f"a message of type {kind!r}")
            stays = b"goes" not in self.scope["query_string"]
            self.expect(self._answered or not stays, "http.disconnect, but the client is there")
            self._disconnected = True
        return message  # type: ignore[no-any-return]

    async def send(self, message: dict[str, Any]) -> None:
        """Check what the server says to a message."""
        before = {key: value for key, value in message.items() if key != "headers"}
        task = asyncio.current_task()
        try:
            result = await self._send(message)
        except OSError as error:
            stays = b"goes" not in self.scope["query_string"]
            self.expect(not stays or isinstance(error, FileNotFoundError), f"send raises {error!r}")
            raise
        self.expect(task is not None and asyncio.current_task() is task, "send goes on in another task")
        self.expect(result is None, f"send returns {result!r}")
        after = {key: value for key, value in message.items() if key != "headers"}
        self.expect(before == after, "send has changed the message")
        kind = message["type"]
        more = message.get("more_body", False) or message.get("more_trailers", False)
        if kind in ("http.response.body", "http.response.pathsend", "http.response.trailers") and not more:
            self._answered = True


async def app(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """The pages, behind the referee."""
    referee = Referee(scope, receive, send)
    if scope["type"] == "lifespan":
        await lifespan(referee, receive, send)
        return
    try:
        referee.check_connection()
        referee.expect(MINE.get("nobody's") == "nobody's", "the context of another request")
        MINE.set(scope["path"])
    except Exception:  # noqa: BLE001 - noted
        note(traceback.format_exc())
    if scope["type"] == "websocket":
        await websocket(referee, receive, send)
    else:
        await asgi_pages.page(scope, referee.receive, referee.send)
    if MINE.get() != scope["path"]:
        note(f"{scope['path']}: the context has changed to {MINE.get()}'s")


async def websocket(referee: Referee, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """Give back what comes, and see what is left when the client has gone."""
    message = await receive()
    referee.expect(message == {"type": "websocket.connect"}, f"the first message is {message!r}")
    referee.expect(await send({"type": "websocket.accept"}) is None, "send returns something")
    while (message := await receive())["type"] == "websocket.receive":
        text, data = message.get("text"), message.get("bytes")
        referee.expect((text is None) != (data is None), f"text and bytes: {message!r:.80}")
        referee.expect(type(text) is str or type(data) is bytes, f"a message of {message!r:.80}")
        referee.expect(await send({**message, "type": "websocket.send"}) is None, "send returns something")
    told = (message["type"], type(message["code"]), type(message["reason"]))
    referee.expect(told == ("websocket.disconnect", int, str), f"the last message is {message!r}")
    referee.expect((await receive())["type"] == "websocket.disconnect", "something came behind the end")
    try:
        await send({"type": "websocket.send", "text": "too late"})
    except OSError:
        asgi_pages.remember(referee.scope, f"{message['code']} {message['reason']}".strip())
    else:
        note("send raises nothing although the client is gone")


async def lifespan(referee: Referee, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """Start-up and shutdown, with a state for all requests."""
    scope = referee.scope
    referee.check_asgi("2.0")
    referee.expect(set(scope) == {"type", "asgi", "state"}, f"the lifespan has {sorted(scope)}")
    referee.expect(scope.get("state") == {}, f"the state of the lifespan is {scope.get('state')!r}")
    scope["state"]["shared"] = []
    message = await receive()
    referee.expect(message == {"type": "lifespan.startup"}, f"the first message is {message!r}")
    referee.expect(await send({"type": "lifespan.startup.complete"}) is None, "send returns something")
    message = await receive()
    referee.expect(message == {"type": "lifespan.shutdown"}, f"the last message is {message!r}")
    referee.expect("leak" not in scope["state"], "requests share the state itself")
    await send({"type": "lifespan.shutdown.complete"})
    with open(NOTES + ".stopped", "a") as file:  # noqa: PTH123
        file.write(f"{os.getpid()}\n")
