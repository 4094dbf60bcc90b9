"""A supervisor with a control file, in processes of its own, and a plain client: lines over a socket."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.control_peer import dial, lines_of
from support.process import DEADLINE, HybridProcess
from support.service import APPLICATIONS, eventually


class Line:
    """A connection to a control line. Its methods wait for answers, with a deadline."""

    def __init__(self, address: str) -> None:
        self.sock = dial(address)
        self._lines = lines_of(self.sock, DEADLINE)
        self._numbers = itertools.count(1)
        try:
            self.greeting = next(self._lines)
        except StopIteration:  # it was accepted by the kernel, and then the listening socket was closed
            self.sock.close()
            raise ConnectionRefusedError("the connection has ended without a greeting") from None
        self.progress: list[dict[str, Any]] = []
        """The progress of the last request."""
        self.events: list[dict[str, Any]] = []
        """The events that came before the last answer."""

    def asks(self, request: str, **parameters: object) -> dict[str, Any]:
        """Ask, and return the last answer: an object with `result` or `error`."""
        number = self.sends(request, **parameters)
        return self.answer(number)

    def sends(self, request: str, **parameters: object) -> int:
        """Ask without waiting; return the number of the request."""
        number = next(self._numbers)
        self.sock.sendall(json.dumps({"id": number, "request": request, **parameters}).encode() + b"\n")
        return number

    def answer(self, number: int) -> dict[str, Any]:
        """Wait for the last answer to a request."""
        self.progress = []
        for line in self._lines:
            if "event" in line:
                self.events.append(line)
            elif "progress" in line:
                self.progress.append(line["progress"])
            elif line["id"] == number:
                return line
        raise AssertionError("the connection has ended without an answer")

    def result(self, request: str, **parameters: object) -> dict[str, Any]:
        """Ask, and return the result."""
        answer = self.asks(request, **parameters)
        assert "result" in answer, answer
        found: dict[str, Any] = answer["result"]
        return found

    def error(self, request: str, **parameters: object) -> tuple[str, str]:
        """Ask, and return code and reason of the error."""
        error = self.asks(request, **parameters)["error"]
        return error["code"], error["reason"]

    def event(self, name: str) -> dict[str, Any]:
        """Wait for an event."""
        return next(line for line in self._lines if line.get("event") == name)

    def close(self) -> None:
        """Close the connection."""
        self._lines.close()  # type: ignore[attr-defined]
        self.sock.close()


class Operated:
    """A running supervisor of the services of a file."""

    def __init__(self, process: HybridProcess, directory: Path) -> None:
        self.process = process
        self.directory = directory
        self.control = directory / "control"
        self._open: list[Line] = []

    def connects(self) -> Line:
        """Connect to the control file, which a successor makes anew."""
        eventually(self.control.exists, "there is a control file")
        self._open.append(Line(str(self.control)))
        return self._open[-1]

    def writes(self, text: str) -> None:
        """Write the file of the services."""
        (self.directory / "hybrid.toml").write_text(text)

    def mark(self) -> int:
        """Return a place in the log, for `wait_for_log(since=...)`."""
        return len(self.process.lines)

    def close(self) -> None:
        """Close all connections."""
        for line in self._open:
            line.close()


@contextmanager
def operated(
    text: str,
    directory: Path,
    *arguments: str,
    services: int = 1,
    ends: bool = True,
    env: Mapping[str, str] | None = None,
) -> Iterator[Operated]:
    """Run the services of a file, of which so many serve at the start; at the end nothing of it is left.

    `ends`: stop it at the end; otherwise the block does, or it has been replaced.
    """
    directory.joinpath("hybrid.toml").write_text(text)
    process = HybridProcess(
        *("run", "--control", str(directory / "control"), *arguments),
        cwd=directory,
        env={"PYTHONPATH": str(APPLICATIONS), **(env or {})},
    )
    found = Operated(process, directory)
    outlived: list[int] = []
    try:
        process.wait_for_log(r"serving with \d+ worker", count=services)
        yield found
        found.close()
        if ends and process.is_running():
            assert process.stop() == 0, process.stderr
    finally:
        found.close()
        outlived = process.close()
    assert not outlived, f"processes outlived their supervisor: {outlived}"
