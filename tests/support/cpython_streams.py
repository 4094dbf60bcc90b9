"""Runs CPython's own tests of asyncio's streams on hybrid's, in a separate process, and prints how each ended as JSON.

The file is `test/test_asyncio/test_streams.py` of the running interpreter. In it, the name `asyncio` is bound to a
stand-in: loops are hubs, `StreamReader` is ours, connections are opened as lean ones, and accepted connections are
given to their handler by the interface that does so in a worker. Everything else is asyncio's.

    python -P cpython_streams.py       prints {"test_read": "ok", "test_x": "AssertionError: ...", ...}

A distribution may leave the file out; the output is {} then.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import io
import json
import logging
import socket
import sys
import types
import unittest
import warnings
from collections.abc import Callable
from typing import Any

from hybrid.workers.apps.stream import AsyncStream
from hybrid.workers.common.connections import Connections
from hybrid.workers.hub.loop import HubLoop
from hybrid.workers.loops.hub_loop import HubDriver
from hybrid.workers.runtime import Accepted
from hybrid.workers.streams.reader import LIMIT, StreamReader
from hybrid.workers.streams.stream_socket import StreamSocket
from hybrid.workers.streams.writer import StreamWriter

SUITE = "test.test_asyncio.test_streams"
HANDLER_RAISES = "a handler that raises"
EXPECTED = {
    "test_unhandled_exception": HANDLER_RAISES,
    "test_unhandled_exceptions": HANDLER_RAISES,  # its name before Python 3.13
}
"""Tests that must fail, and the row of the manual that says why."""


async def _streams(
    sock: socket.socket, limit: int, ssl: Any = None, server_hostname: str | None = None
) -> tuple[StreamReader, StreamWriter]:
    loop: Any = asyncio.get_running_loop()
    connection = StreamSocket(loop, loop.watches, sock, lambda: None, sock.getpeername())
    reader = StreamReader.of(connection, limit)
    writer = StreamWriter(connection, reader)
    writer._protocol._client_connected_cb = None  # the client's end, should it start TLS
    if ssl is not None:
        await writer.start_tls(ssl, server_hostname=server_hostname)
    return reader, writer


async def open_connection(host: str, port: int, *, limit: int = LIMIT, **options: Any) -> tuple[Any, Any]:
    """Connect; TLS starts afterwards, as always on these streams."""
    loop = asyncio.get_running_loop()
    [(family, kind, proto, _, address), *_] = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    sock = socket.socket(family, kind, proto)
    sock.setblocking(False)
    try:
        await loop.sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return await _streams(sock, limit, **options)


async def open_unix_connection(path: str, *, limit: int = LIMIT, **options: Any) -> tuple[Any, Any]:
    """Connect to a UNIX socket."""
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, path)
    except BaseException:
        sock.close()
        raise
    return await _streams(sock, limit, **options)


class _Handing(asyncio.Protocol):
    """Hands the descriptor of an accepted connection to our interface for stream handlers."""

    def __init__(self, interface: AsyncStream) -> None:
        self._interface = interface

    def connection_made(self, transport: Any) -> None:
        with transport.get_extra_info("socket")._sock.dup() as sock:
            transport.abort()
            sock.setblocking(False)
            address = sock.getpeername()
            listener = types.SimpleNamespace(family=sock.family, type=sock.type, proto=sock.proto)
            self._interface.connected(_AcceptedHere(sock.detach(), address, listener))  # type: ignore[arg-type]


class _AcceptedHere(Accepted):
    """The listener is asyncio's; its family, type and proto are known."""

    def socket(self) -> socket.socket:
        return socket.socket(self.listener.family, self.listener.type, self.listener.proto, fileno=self.fd)


def _handing(callback: Callable[..., Any]) -> Callable[[], _Handing]:
    async def handler(reader: StreamReader, writer: StreamWriter) -> None:
        called = callback(reader, writer)  # CPython's tests use plain functions too
        del reader, writer
        if inspect.iscoroutine(called):
            await called

    loop = asyncio.get_running_loop()
    interface = AsyncStream(handler, HubDriver("epoll").runtime(loop), Connections())
    return lambda: _Handing(interface)


async def start_server(callback: Callable[..., Any], host: Any = None, port: Any = None, **options: Any) -> Any:
    """Give connections to a handler as a worker does."""
    return await asyncio.get_running_loop().create_server(_handing(callback), host, port, **options)


async def start_unix_server(callback: Callable[..., Any], path: Any = None, **options: Any) -> Any:
    """Give connections to a handler as a worker does."""
    return await asyncio.get_running_loop().create_unix_server(_handing(callback), path, **options)


class _StandIn(types.ModuleType):
    """`asyncio`, with hybrid's streams in place of its own."""

    StreamReader = StreamReader
    open_connection = staticmethod(open_connection)
    open_unix_connection = staticmethod(open_unix_connection)
    start_server = staticmethod(start_server)
    start_unix_server = staticmethod(start_unix_server)

    def new_event_loop(self) -> HubLoop:
        return HubLoop("epoll")

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)


class _Outcomes(unittest.TestResult):
    """Each test's name and how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: dict[str, str] = {}

    @staticmethod
    def _name(test: unittest.TestCase) -> str:
        return test.id().rpartition(".")[2]

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802 - unittest's name
        super().startTest(test)
        self.outcomes[self._name(test)] = "ok"

    def addError(self, test: Any, err: Any) -> None:  # noqa: N802
        self.outcomes[self._name(test)] = f"{err[0].__name__}: {err[1]}"
        super().addError(test, err)

    addFailure = addError  # noqa: N815

    def addSkip(self, test: Any, reason: str) -> None:  # noqa: N802
        self.outcomes[self._name(test)] = f"skipped: {reason}"

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:  # noqa: N802
        if err is not None:
            self.addError(test, err)


def run(verbose: bool = False) -> dict[str, str]:
    """Return how each test ended: "ok", "skipped: ...", or the type and the text of its exception."""
    try:
        suite: Any = importlib.import_module(SUITE)
    except ImportError:
        return {}
    suite.asyncio = _StandIn("asyncio")
    outcomes = _Outcomes()
    logging.disable()
    tests = unittest.defaultTestLoader.loadTestsFromModule(suite)
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        tests.run(outcomes)
    if verbose:
        for test, trace in [*outcomes.errors, *outcomes.failures]:
            print(test, trace, sep="\n")  # noqa: T201
    return outcomes.outcomes


if __name__ == "__main__":
    print(json.dumps(run("-v" in sys.argv)))  # noqa: T201
