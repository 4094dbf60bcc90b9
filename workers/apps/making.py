"""Makes the adapter of an application, by its kind."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from hybrid.workers.apps.adapter import Adapter
from hybrid.workers.apps.detect import Kind
from hybrid.workers.apps.protocol import ProtocolFactory
from hybrid.workers.apps.stream import AsyncStream, SyncStream
from hybrid.workers.boot.application import Application
from hybrid.workers.common.connections import Connections
from hybrid.workers.runtime import Runtime

if TYPE_CHECKING:
    from hybrid.workers.common.accounting import Accounting

WEB: Final = frozenset({Kind.WSGI, Kind.ASGI})
_ADAPTERS: Final[dict[Kind, Any]] = {
    Kind.SYNC_STREAM: SyncStream,
    Kind.ASYNC_STREAM: AsyncStream,
    Kind.PROTOCOL: ProtocolFactory,
}


def make_adapter(
    kind: Kind,
    target: Any,
    runtime: Runtime,
    connections: Connections,
    application: Application,
    access_fd: int = 1,
    accounting: Accounting | None = None,
) -> Adapter:
    """Return the adapter that serves `target`. Raises `BootError` for TLS files that cannot be used.

    `access_fd`: the descriptor for the access log. `accounting`: where the cost of requests is counted; None: nowhere.
    """
    if kind in WEB:
        http = dataclasses.replace(application.http, access_fd=access_fd)
        return _web(kind)(target, runtime, connections, http, accounting)
    if accounting is not None:
        from hybrid.workers.apps import accounted  # with --accounting only

        target = accounted.handler(kind, target, accounting)
    make = _ADAPTERS.get(kind)
    adapter: Adapter = Adapter() if make is None else make(target, runtime, connections)
    adapter.guessed = application.interface == "auto"
    return adapter


def _web(kind: Kind) -> Callable[..., Adapter]:
    """Return the interface; imported late, together with the parsers it needs."""
    if kind is Kind.WSGI:
        from hybrid.workers.apps.wsgi.interface import Wsgi

        return Wsgi
    from hybrid.workers.apps.asgi.interface import Asgi

    return Asgi
