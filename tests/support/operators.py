"""A client of the control line of a supervisor that runs over a fake kernel, in the same process.

A UNIX socket delivers at once. The client reads at each wait of the supervisor, so that it knows when an answer came.
"""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path
from typing import Any

from support.fake_kernel import FakeKernel


class Operator:
    """It connects when it has something to say."""

    def __init__(self, kernel: FakeKernel, path: Path) -> None:
        """`path`: the file of the control line."""
        self._kernel = kernel
        self._path = path
        self._sock: socket.socket | None = None
        self._bytes = bytearray()
        self._heard: list[tuple[float, dict[str, Any]]] = []  # seconds since the start, and what came then
        self._began = kernel.now()
        kernel.always(self._receive)

    def connects(self) -> socket.socket:
        """Connect, unless it is connected."""
        if self._sock is None:
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._sock.connect(str(self._path))
            self._sock.setblocking(False)
        return self._sock

    def asks(self, seconds: float, number: int, request: str, **parameters: object) -> None:
        """Send a request at a time after now."""
        line = json.dumps({"id": number, "request": request, **parameters}).encode() + b"\n"
        self._kernel.at(seconds, lambda: self.connects().send(line))

    def leaves(self, seconds: float) -> None:
        """Close the connection at a time after now."""
        self._kernel.at(seconds, self.close)

    def ends_writing(self) -> None:
        """Send no more, as `printf ... | socat` does."""
        self.connects().shutdown(socket.SHUT_WR)

    def heard(self) -> list[dict[str, Any]]:
        """Return all lines but the greeting."""
        self._receive()
        return [line for _, line in self._heard if "hybrid" not in line]

    def answers(self, number: int) -> list[dict[str, Any]]:
        """Return the answers to a request, progress included, without its number."""
        lines = [line for line in self.heard() if line.get("id") == number and "event" not in line]
        return [{name: value for name, value in line.items() if name != "id"} for line in lines]

    def result(self, number: int) -> dict[str, Any]:
        """Return the result of a request, which must be its last answer."""
        last: dict[str, Any] = self.answers(number)[-1]["result"]
        return last

    def error(self, number: int) -> tuple[str, str]:
        """Return code and reason of the error that answers a request."""
        error = self.answers(number)[-1]["error"]
        return error["code"], error["reason"]

    def progress(self, number: int) -> list[dict[str, Any]]:
        """Return the reports of progress of a request."""
        return [answer["progress"] for answer in self.answers(number) if "progress" in answer]

    def moment(self, number: int) -> float:
        """Return when the result or the error of a request came, in seconds after the start."""
        self._receive()
        return next(when for when, line in self._heard if line.get("id") == number and "progress" not in line)

    def events(self, *names: str) -> list[dict[str, Any]]:
        """Return the events of these names (none: all) without their times."""
        found = [line for line in self.heard() if "event" in line and (not names or line["event"] in names)]
        return [{name: value for name, value in line.items() if name != "at"} for line in found]

    def close(self) -> None:
        """Close the connection; may be called twice."""
        self._receive()
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _receive(self) -> None:
        if self._sock is None:
            return
        with contextlib.suppress(BlockingIOError, ConnectionResetError):
            while data := self._sock.recv(65536):
                self._bytes += data
        whole, _, rest = bytes(self._bytes).rpartition(b"\n")
        self._bytes[:] = rest
        self._heard += [(self._kernel.now() - self._began, json.loads(line)) for line in whole.splitlines()]
