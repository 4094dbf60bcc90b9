"""What asks the servers: wrk for requests, the load generator for WebSocket frames. Each checks the answers first."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Protocol

from benchmarks import compiler, load, peers
from benchmarks.load import Load
from benchmarks.web import wrk
from benchmarks.web.exchange import Exchange


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
    """One request over and over on 64 kept-alive connections."""

    measured: Exchange
    checked: tuple[Exchange, ...] = ()
    """What else has to be answered rightly."""
    secure: bool = False
    """Over TLS."""
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
            return (self.measured.method,)
        body = folder / "body"
        body.write_bytes(self.measured.body)
        return self.measured.method, self.measured.kind, str(body)


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
