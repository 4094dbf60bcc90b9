"""WebSocket connections of ASGI applications: the scope, `receive`, `send`, and what happens when one fails.

Specification: https://asgi.readthedocs.io/en/latest/specs/www.html.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from hybrid.workers.common import forks
from hybrid.workers.common.fairness import give_way
from hybrid.workers.common.frames import forget_frames
from hybrid.workers.http import head as heads
from hybrid.workers.http.conversation import ENDING, INTERNAL_ERROR, NORMAL, UNANSWERED, Conversation, Phase
from hybrid.workers.http.exchange import AnswerError, ClientGoneError, is_departure
from hybrid.workers.http.websocket import ABNORMAL
from hybrid.workers.interfaces.asgi import SPEC_VERSION, Message, believe, locate, not_final, own_tls
from hybrid.workers.tasks.parked import Gate

_OWN_FIELDS = frozenset({b"sec-websocket-accept", b"sec-websocket-extensions", b"sec-websocket-protocol"})
_log = logging.getLogger("hybrid")


class WebSocketExchange(Conversation):
    """A WebSocket for an ASGI application."""

    __slots__ = ("_gate", "_offered", "_told", "_turn")

    def start(self) -> None:
        """Check the handshake; then `run`."""
        self._gate = Gate(self.connection.site.loop)
        self._turn = self.connection.site.interface.sent.turn
        self._told = False  # the application has received `websocket.disconnect`
        super().start()

    def run(self) -> None:
        """Call the application."""
        site = self.connection.site.interface
        self.messages.append({"type": "websocket.connect"})
        task = site.tasks.run(self._serve(site.application, self._scope()))
        if task is not None:
            site.works(task)

    def _scope(self) -> dict[str, Any]:
        connection = self.connection
        site = connection.site.interface
        if connection.facts is None:
            connection.facts = site.facts(connection)
        facts = connection.facts
        offered = b",".join(value for name, value in self.headers if name == b"sec-websocket-protocol")
        self._offered = [word.strip() for word in offered.decode("latin-1").split(",") if word.strip()]
        scope = {
            **facts,
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": SPEC_VERSION},
            "http_version": self.version,
            "scheme": "wss" if connection.scheme == "https" else "ws",
            "headers": self.headers,
            "subprotocols": list(self._offered),
            "extensions": {"websocket.http.response": {}},
        }
        locate(scope, self.target, site.root_path)
        if "tls" in facts["extensions"]:
            scope["extensions"]["tls"] = own_tls(facts["extensions"]["tls"])
        if site.state is not None:
            scope["state"] = site.state.copy()
        if connection.believes:
            believe(scope, self.said)
        return scope

    async def _serve(self, application: Callable[..., Awaitable[None]], scope: dict[str, Any]) -> None:
        try:
            await application(scope, self.receive, self.send)
        except BaseException as error:
            if self._settle(error):
                raise
            forget_frames(error)
        else:
            self._settle(None)

    def _settle(self, error: BaseException | None) -> bool:
        """The application has returned, or raised: see to the connection. Return whether the error ends the task.

        Called first of all, whatever the application did: an application's exit is not the worker's.
        """
        if error is None:
            if self.phase in UNANSWERED:
                what = "an incomplete denial" if self.begun else "no answer"
                _log.error("the application returned with %s to the WebSocket %s", what, self._shown)
            self._conclude(NORMAL)
            return False
        ends = isinstance(error, asyncio.CancelledError) and self.connection.site.interface.ending
        if not (ends or (self.phase in ENDING and is_departure(error, told=True))):
            self._log_failure(error)
        self._conclude(INTERNAL_ERROR)
        return ends

    def _conclude(self, code: int) -> None:
        """Close what the application has left open."""
        if self.phase is Phase.OPEN:
            self.close(code, "")
        elif self.phase in UNANSWERED:
            self.end(ABNORMAL, "")
            self.fail()

    # -- the hot path; benchmark: python -m benchmarks websocket ----------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Called by the connection, in a callback of the loop: an application that waits goes on at once."""
        self._heard = self.connection.clock.now
        fresh = self.take(data)
        if self.messages:
            gate = self._gate
            if gate.taken:
                gate.open()
            if fresh and self.messages:
                self.pile_up(fresh)

    def take(self, data: bytes) -> list[str | bytes]:
        """Queue the messages that are whole now, and see to all else that came; return them."""
        if self.phase is not Phase.OPEN:
            self.take_otherwise(data)
            return []
        wire = self.wire
        fresh = wire.feed(data)
        for message in fresh:
            if type(message) is str:
                self.messages.append({"type": "websocket.receive", "text": message})
            else:
                self.messages.append({"type": "websocket.receive", "bytes": message})
        if wire.has_news:
            self.attend()
        return fresh

    async def receive(self) -> Message:
        """The application's `receive`."""
        messages = self.messages
        if messages and self._turn.is_due():
            await give_way(self._turn)
        while not messages:
            if self._gate.taken:
                await self.news()
            else:
                await self._gate
        message: Message = messages.popleft()
        if self._waiting and not messages:
            self.worked_off()
        if message is self._farewell:
            await self._tell_again(message)
        return message

    async def send(self, message: Message) -> None:
        """The application's `send`."""
        if self.phase is Phase.OPEN and message["type"] == "websocket.send":
            text = message.get("text")
            if text is not None:
                data = self.wire.text(text)
            else:
                payload = message.get("bytes")
                if payload is None:
                    raise AnswerError("websocket.send needs text or bytes")
                data = self.wire.binary(payload)
            connection = self.connection
            connection.write(data)
            if connection.paused or connection.transport.is_closing():
                await self._wait_for_room()
            elif self._turn.is_due():
                await give_way(self._turn)
        else:
            await self._send_rarely(message["type"], message)

    # -- less often ---------------------------------------------------------------------------------------------------

    async def _tell_again(self, farewell: Message) -> None:
        """Keep it for whoever asks again, who does not keep the worker from other work by that."""
        self.messages.append(farewell)
        if self._told:
            await asyncio.sleep(0)
        self._told = True

    async def _wait_for_room(self) -> None:
        connection = self.connection
        while (connection.paused or connection.transport.is_closing()) and self.phase not in ENDING:
            await self.news()
        if self.phase in ENDING:
            raise ClientGoneError("the WebSocket is closed")

    async def _send_rarely(self, kind: str, message: Message) -> None:
        phase = self.phase
        if phase in ENDING:
            raise ClientGoneError("the WebSocket is closed")
        if kind == "websocket.close" and phase is Phase.OPEN:
            code = message.get("code")
            self.close(NORMAL if code is None else code, message.get("reason") or "")
        elif kind == "websocket.close" and phase is Phase.ASKED:
            self.refuse(403, "the WebSocket was not accepted")
        elif kind == "websocket.accept" and phase is Phase.ASKED:
            self._accept(message)
        elif kind == "websocket.http.response.start" and phase is Phase.ASKED:
            status = message["status"]
            if status < 200:  # 101 would tell the client that it was accepted
                raise not_final(status)
            self.begin(status, heads.status_line(status), heads.from_bytes(message.get("headers", ())))
            self.phase = Phase.DENYING
        elif kind == "websocket.http.response.body" and phase is Phase.DENYING:
            await self._deny(message.get("body", b""), message.get("more_body", False))
        else:
            raise AnswerError(f"{kind!r} cannot be sent to a WebSocket while {phase.value}")

    def _accept(self, message: Message) -> None:
        subprotocol = message.get("subprotocol")
        if subprotocol is not None and subprotocol not in self._offered:
            raise AnswerError(f"the client did not offer the subprotocol {subprotocol!r:.80}: {self._offered!r:.200}")
        fields = list(message.get("headers") or ())
        for name, _ in fields:
            if name.lower() in _OWN_FIELDS:
                raise AnswerError(f"websocket.accept must not set the header field {name!r}")
        if subprotocol is not None:
            fields.append((b"sec-websocket-protocol", subprotocol.encode("latin-1")))
        self.accept(fields)

    async def _deny(self, body: Any, more: bool) -> None:
        self.write(body, more)
        if not more:
            self.end(ABNORMAL, "")
        elif self.connection.paused:
            await self._wait_for_room()

    # -- for `Conversation` -------------------------------------------------------------------------------------------

    def farewell(self, code: int, reason: str) -> Message:
        """Return `websocket.disconnect`."""
        return {"type": "websocket.disconnect", "code": code, "reason": reason}

    def wake(self) -> None:
        """Let waiters go on in the loop's next turn."""
        self.wake_waiters()
        if self.messages:
            self._gate.open_soon()

    # -- the log ------------------------------------------------------------------------------------------------------

    @property
    def _shown(self) -> str:
        return self.target.decode("latin-1")

    def _log_failure(self, error: BaseException) -> None:
        _log.error("the application failed at the WebSocket %s", self._shown, exc_info=error)


forks.replace(WebSocketExchange, _settle=forks.fail)
