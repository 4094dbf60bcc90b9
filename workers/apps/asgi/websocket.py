"""WebSocket connections of ASGI applications: the scope, `receive`, `send`, and the handling of failures.

Specification: https://asgi.readthedocs.io/en/latest/specs/www.html.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from hybrid.workers.apps.asgi.call import SPEC_VERSION, Message, apply_forwarded, locate, not_final, own_tls
from hybrid.workers.common import forks
from hybrid.workers.common.fairness import give_way
from hybrid.workers.common.frames import forget_frames
from hybrid.workers.http.exchange import ClientGoneError, Exchange, ResponseError, is_client_disconnect
from hybrid.workers.http.head import Head, Status, from_bytes, status_of
from hybrid.workers.http.websocket.frames import ABNORMAL
from hybrid.workers.http.websocket.session import (
    ENDING,
    INTERNAL_ERROR,
    NORMAL,
    UNANSWERED,
    Connect,
    Disconnect,
    Session,
    SessionPhase,
)
from hybrid.workers.tasks.parked import Gate

if TYPE_CHECKING:
    from hybrid.workers.apps.asgi.interface import Asgi

_OWN_FIELDS = frozenset({b"sec-websocket-accept", b"sec-websocket-extensions", b"sec-websocket-protocol"})
_log = logging.getLogger("hybrid")


def answer(interface: Asgi, make: type[WebSocketCall], exchange: Exchange) -> None:
    """Serve a WebSocket request through `make`. See `HttpContext.answer_websocket`."""
    call = make(interface, exchange)
    call.session.start()


class WebSocketCall:
    """A WebSocket for an ASGI application. See `session.SessionOwner`."""

    __slots__ = (
        "_denial",
        "_exchange",
        "_gate",
        "_interface",
        "_is_told",
        "_offered",
        "_turn",
        "session",
    )

    def __init__(self, interface: Asgi, exchange: Exchange) -> None:
        self._interface = interface
        self._exchange = exchange
        self._gate = Gate(interface.loop)
        self._turn = interface.sent.turn
        self._is_told = False  # the application has received `websocket.disconnect`
        self._offered: list[str] = []  # subprotocols offered by the client
        self._denial: tuple[Status, Head] | None = None  # the head of a denial response, not sent yet
        self.session = Session(exchange, self)

    def run(self) -> None:
        """Call the application."""
        interface = self._interface
        self.session.messages.append(Connect.REQUESTED)
        task = interface.tasks.run(self.serve(interface.application, self._scope()))
        if task is not None:
            interface.works(task)

    def _scope(self) -> dict[str, Any]:
        interface, request, connection = self._interface, self._exchange.request, self._exchange.connection
        if connection.facts is None:
            connection.facts = interface.facts(connection)
        facts = connection.facts
        offered = b",".join(value for name, value in request.headers if name == b"sec-websocket-protocol")
        self._offered = [word.strip() for word in offered.decode("latin-1").split(",") if word.strip()]
        scope = {
            **facts,
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": SPEC_VERSION},
            "http_version": request.version,
            "scheme": "wss" if connection.scheme == "https" else "ws",
            "headers": request.headers,
            "subprotocols": list(self._offered),
            "extensions": {"websocket.http.response": {}},
        }
        locate(scope, request.target, interface.root_path)
        if "tls" in facts["extensions"]:
            scope["extensions"]["tls"] = own_tls(facts["extensions"]["tls"])
        if interface.state is not None:
            scope["state"] = interface.state.copy()
        if connection.trusts_proxy:
            apply_forwarded(scope, request.forwarded)
        return scope

    async def serve(self, application: Callable[..., Awaitable[None]], scope: dict[str, Any]) -> None:
        """Call the application, and finish its session."""
        try:
            await application(scope, self.receive, self.send)
        except BaseException as error:
            if self._settle(error):
                raise
            forget_frames(error)
        else:
            self._settle(None)

    def _settle(self, error: BaseException | None) -> bool:
        """Finish the session after the application has returned or raised; return True if the error ends the task.

        Called first, whatever the application did: SystemExit in an application does not end the worker.
        """
        session = self.session
        if error is None:
            if session.phase in UNANSWERED:
                what = "an incomplete denial" if session.phase is SessionPhase.DENYING else "no response"
                _log.error("the application returned with %s to the WebSocket %s", what, self._shown)
            self._conclude(NORMAL)
            return False
        ends = isinstance(error, asyncio.CancelledError) and self._interface.ending
        if not (ends or (session.phase in ENDING and is_client_disconnect(error, told=True))):
            _log.error("the application failed at the WebSocket %s", self._shown, exc_info=error)
        self._conclude(INTERNAL_ERROR)
        return ends

    def _conclude(self, code: int) -> None:
        """Close a session that the application has left open."""
        session = self.session
        if session.phase is SessionPhase.OPEN:
            session.close(code, "")
        elif session.phase in UNANSWERED:
            session.end(ABNORMAL, "")
            self._exchange.fail()

    # -- the hot path; benchmark: python -m benchmarks websocket ----------------------------------------------------

    def messages_received(self) -> None:
        """Step a waiting application at once."""
        gate = self._gate
        if gate.taken:
            gate.open()

    async def receive(self) -> Message:
        """The application's `receive`."""
        session = self.session
        messages = session.messages
        if messages and self._turn.is_due():
            await give_way(self._turn)
        while not messages:
            if self._gate.taken:
                await self._exchange.news()
            else:
                await self._gate
        message = messages.popleft()
        if session.backlog and not messages:
            session.clear_backlog()
        kind = type(message)
        if kind is str:
            return {"type": "websocket.receive", "text": message}
        if kind is bytes:
            return {"type": "websocket.receive", "bytes": message}
        return await self._tell_rarely(message)

    async def send(self, message: Message) -> None:
        """The application's `send`."""
        session = self.session
        if session.phase is SessionPhase.OPEN and message["type"] == "websocket.send":
            text = message.get("text")
            if text is not None:
                data = session.wire.text(text)
            else:
                payload = message.get("bytes")
                if payload is None:
                    raise ResponseError("websocket.send needs text or bytes")
                data = session.wire.binary(payload)
            session.send(data)
            if self._exchange.is_held():
                await self._wait_for_room()
            elif self._turn.is_due():
                await give_way(self._turn)
        else:
            await self._send_rarely(message["type"], message)

    # -- less often ---------------------------------------------------------------------------------------------------

    async def _tell_rarely(self, message: Any) -> Message:
        """Return the connect or disconnect message. The latter is kept for further calls, which yield to the loop."""
        if message is Connect.REQUESTED:
            return {"type": "websocket.connect"}
        disconnect: Disconnect = message
        self.session.messages.append(disconnect)
        if self._is_told:
            await asyncio.sleep(0)
        self._is_told = True
        return {"type": "websocket.disconnect", "code": disconnect.code, "reason": disconnect.reason}

    async def _wait_for_room(self) -> None:
        exchange, session = self._exchange, self.session
        while exchange.is_held() and session.phase not in ENDING:
            await exchange.news()
        if session.phase in ENDING:
            raise ClientGoneError("the WebSocket is closed")

    async def _send_rarely(self, kind: str, message: Message) -> None:
        session = self.session
        phase = session.phase
        if phase in ENDING:
            raise ClientGoneError("the WebSocket is closed")
        if kind == "websocket.close" and phase is SessionPhase.OPEN:
            code = message.get("code")
            session.close(NORMAL if code is None else code, message.get("reason") or "")
        elif kind == "websocket.close" and phase is SessionPhase.ASKED:
            session.refuse(403, "the WebSocket was not accepted")
        elif kind == "websocket.accept" and phase is SessionPhase.ASKED:
            self._accept(message)
        elif kind == "websocket.http.response.start" and phase is SessionPhase.ASKED:
            status = message["status"]
            if status < 200:  # 101 would tell the client that it was accepted
                raise not_final(status)
            self._denial = status_of(status), from_bytes(message.get("headers", ()))
            session.phase = SessionPhase.DENYING
        elif kind == "websocket.http.response.body" and phase is SessionPhase.DENYING:
            await self._deny(message.get("body", b""), message.get("more_body", False))
        else:
            raise ResponseError(f"{kind!r} cannot be sent to a WebSocket while {phase.value}")

    def _accept(self, message: Message) -> None:
        subprotocol = message.get("subprotocol")
        if subprotocol is not None and subprotocol not in self._offered:
            raise ResponseError(f"the client did not offer the subprotocol {subprotocol!r:.80}: {self._offered!r:.200}")
        fields = list(message.get("headers") or ())
        for name, _ in fields:
            if name.lower() in _OWN_FIELDS:
                raise ResponseError(f"websocket.accept must not set the header field {name!r}")
        if subprotocol is not None:
            fields.append((b"sec-websocket-protocol", subprotocol.encode("latin-1")))
        self.session.accept(fields)

    async def _deny(self, body: Any, more: bool) -> None:
        exchange = self._exchange
        if self._denial is not None:
            exchange.start(*self._denial, body, more)
            self._denial = None
        else:
            exchange.write(body, more)
        if not more:
            self.session.end(ABNORMAL, "")
        elif exchange.is_held():
            await self._wait_for_room()

    def wake(self) -> None:
        """Wake the waiters in the loop's next turn."""
        self._exchange.wake_waiters()
        if self.session.messages:
            self._gate.open_soon()

    @property
    def _shown(self) -> str:
        return self._exchange.request.target.decode("latin-1")


forks.replace(WebSocketCall, _settle=forks.fail)
