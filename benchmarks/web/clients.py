"""What asks the servers: wrk and h2load for requests, the load generator for WebSocket frames.

Each checks the answers first.
"""

from __future__ import annotations

import dataclasses
import enum
import tempfile
from pathlib import Path
from typing import Protocol

from benchmarks import compiler, load, peers
from benchmarks.load import Load
from benchmarks.web import h2load, wrk
from benchmarks.web.exchange import Exchange


class Kind(enum.Enum):
    """How the requests of a measurement differ."""

    SAME = "same"
    """One request over and over, on kept-alive connections."""
    VARIED = "varied"
    """Target, cookie, request id and forwarded address differ each time, as they do behind a proxy; kept-alive."""
    CLOSE = "close"
    """One request over and over, each on a connection of its own."""


class Client(Protocol):
    """Checks a server, and puts it under load. Both raise `LoadFailed` when an answer is wrong or missing."""

    def prepare(self) -> None:
        """See that the program is there that makes the load. Raises `compiler.ToolMissing`; may block for a second."""

    @property
    def connections(self) -> int:
        """How many it has open at once."""

    def check(self, port: int) -> None:
        """See that the server answers rightly, before it is measured. Blocks."""

    def run(self, port: int, *, seconds: float, core: int | None) -> Load:
        """Load the server for `seconds`, from the core given. Blocks."""


@dataclasses.dataclass(frozen=True)
class Requests:
    """Requests on 64 connections."""

    measured: Exchange
    checked: tuple[Exchange, ...] = ()
    """What else has to be answered rightly."""
    secure: bool = False
    """Over TLS."""
    kind: Kind = Kind.SAME
    connections: int = 64

    def prepare(self) -> None:
        """Look for wrk."""
        wrk.program()

    def check(self, port: int) -> None:
        """Ask for everything once."""
        for exchange in (self.measured, *self.checked):
            exchange.check(port, secure=self.secure)

    def run(self, port: int, *, seconds: float, core: int | None) -> Load:
        """Run wrk."""
        url = f"{'https' if self.secure else 'http'}://{peers.HOST}:{port}{self.measured.path}"
        with tempfile.TemporaryDirectory() as folder:
            request = self._request(Path(folder))
            return wrk.run(url, connections=self.connections, seconds=seconds, core=core, request=request)

    def _request(self, folder: Path) -> tuple[str, ...]:
        if not self.measured.body:
            return self.kind.value, self.measured.method
        body = folder / "body"
        body.write_bytes(self.measured.body)
        return self.kind.value, self.measured.method, self.measured.kind, str(body)


@dataclasses.dataclass(frozen=True)
class Streams:
    """One request over and over on 10 connections of HTTP/2, 32 at once on each."""

    measured: Exchange
    connections: int = 10
    streams: int = 32

    def prepare(self) -> None:
        """Look for h2load."""
        h2load.program()

    def check(self, port: int) -> None:
        """Ask once; over HTTP/1, which all of these servers speak on the same port."""
        self.measured.check(port, secure=False)

    def run(self, port: int, *, seconds: float, core: int | None) -> Load:
        """Run h2load."""
        url = f"http://{peers.HOST}:{port}{self.measured.path}"
        return h2load.run(url, connections=self.connections, streams=self.streams, seconds=seconds, core=core)


@dataclasses.dataclass(frozen=True)
class WebSockets:
    """Binary messages of 64 bytes on 100 WebSocket connections, ping-pong; every byte of every answer is compared."""

    connections: int = 100

    def prepare(self) -> None:
        """Compile the load generator."""
        compiler.program("loadgen")

    def check(self, port: int) -> None:
        """Upgrade one connection and exchange messages on it for a moment."""
        load.run("websocket", port, seconds=0.1, core=None, options=("--connections", "1", "--warmup", "0"))

    def run(self, port: int, *, seconds: float, core: int | None) -> Load:
        """Run the load generator."""
        options = ("--connections", str(self.connections))
        return load.run("websocket", port, seconds=seconds, core=core, options=options)
