"""Requests and WebSockets of ASGI applications whose cost is counted by label. With `--accounting` only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from hybrid.workers.apps.accounted import request_of
from hybrid.workers.apps.asgi.call import AsgiCall, Message
from hybrid.workers.apps.asgi.websocket import WebSocketCall
from hybrid.workers.common.accounting import Account, Accounting, Steps
from hybrid.workers.tasks.cpython import mark_coroutine_function

if TYPE_CHECKING:
    from hybrid.workers.apps.asgi.interface import Asgi
    from hybrid.workers.http.exchange import Exchange

_HEADS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})


def _without_label(message: Message, accounting: Accounting, account: Account | None) -> Message:
    """Return a message without the field that has the label, which the account gets."""
    if accounting.header is None or account is None or message["type"] not in _HEADS:
        return message
    key = accounting.header.encode("ascii")
    fields = list(message.get("headers") or ())
    ours = [field for field in fields if _is_named(field, key)]
    if not ours:
        return {**message, "headers": fields}  # they may have come from an iterator
    accounting.header_is(ours[0][1], account)
    return {**message, "headers": [field for field in fields if not _is_named(field, key)]}


def _is_named(field: Sequence[Any], key: bytes) -> bool:
    """Return True if a field has this name; one whose name is not of bytes is refused later, as all such are."""
    return isinstance(field[0], bytes) and field[0].lower() == key


class AccountedCall(AsgiCall):
    """A request to an ASGI application."""

    __slots__ = ("_account", "_accounting")

    def __init__(self, interface: Asgi, exchange: Exchange) -> None:
        super().__init__(interface, exchange)
        assert interface.accounting is not None
        self._accounting = interface.accounting
        self._account: Account | None = None

    async def serve(self, application: Callable[..., Awaitable[None]], scope: dict[str, Any]) -> None:
        """Call the application, and count what that costs."""
        accounting = self._accounting
        self._account = account = accounting.open()
        try:
            with request_of(account):
                await Steps(accounting, account, super().serve(application, scope))
        finally:
            accounting.close(account, self._exchange.status)

    def send(self, message: Message) -> Awaitable[None]:
        """The application's `send`."""
        return super().send(_without_label(message, self._accounting, self._account))

    mark_coroutine_function(send)


class AccountedWebSocketCall(WebSocketCall):
    """A WebSocket of an ASGI application: a request that ends with it."""

    __slots__ = ("_account", "_accounting")

    def __init__(self, interface: Asgi, exchange: Exchange) -> None:
        super().__init__(interface, exchange)
        assert interface.accounting is not None
        self._accounting = interface.accounting
        self._account: Account | None = None

    async def serve(self, application: Callable[..., Awaitable[None]], scope: dict[str, Any]) -> None:
        """Call the application, and count what that costs."""
        accounting = self._accounting
        self._account = account = accounting.open()
        try:
            with request_of(account):
                await Steps(accounting, account, super().serve(application, scope))
        finally:
            accounting.close(account, self._exchange.status)

    async def send(self, message: Message) -> None:
        """The application's `send`."""
        await super().send(_without_label(message, self._accounting, self._account))
