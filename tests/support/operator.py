"""A client of the control line of a running supervisor: asks one thing at a time, and waits for the answer."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.process import HybridProcess
from support.service import eventually

TIMEOUT = 20.0  # seconds for each answer


class Operator:
    """A connected client."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lines = sock.makefile("rb")
        self._number = 0
        self.greeting: dict[str, Any] = json.loads(self._lines.readline())

    def asks(self, request: str, **parameters: Any) -> dict[str, Any]:
        """Send a request; return the line with its result or its error."""
        self._number += 1
        line = json.dumps({"id": self._number, "request": request, **parameters})
        self._sock.sendall(f"{line}\n".encode())
        while True:
            answer: dict[str, Any] = json.loads(self._lines.readline())
            if answer.get("id") == self._number and "progress" not in answer:
                return answer

    def stacks(self, **parameters: Any) -> list[dict[str, Any]]:
        """Return the rows of `stacks`."""
        answer = self.asks("stacks", **parameters)
        assert "result" in answer, answer
        workers: list[dict[str, Any]] = answer["result"]["workers"]
        return workers

    def worker(self, slot: int = 0) -> dict[str, Any]:
        """Return the stacks of the newest worker of a slot."""
        return max(self.stacks(slot=slot), key=lambda row: row["generation"])

    def told_by_loop(self, slot: int = 0) -> dict[str, Any]:
        """Return the stacks of a worker that its loop has told. Ask again while it waits for a core for too long."""
        return eventually(lambda: row if (row := self.worker(slot))["source"] == "loop" else {}, "the loop tells")

    def waits_until_shown(self, function: str, where: str, slot: int = 0) -> dict[str, Any]:
        """Ask until an entry of `where` has this function in its frames; return the row of the worker."""

        def look() -> dict[str, Any] | None:
            row = self.worker(slot)
            return row if entries_with(row[where], function) else None

        found = eventually(look, f"{function} is among the {where}")
        assert found is not None
        return found

    def close(self) -> None:
        """Hang up."""
        self._lines.close()
        self._sock.close()


def entries_with(entries: list[dict[str, Any]], function: str) -> list[dict[str, Any]]:
    """Return the entries with a frame of this function."""
    return [entry for entry in entries if function in functions(entry)]


def functions(entry: dict[str, Any]) -> list[str]:
    """Return the functions of the frames of an entry, innermost first, without their classes."""
    return [frame["function"].rpartition(".")[2] for frame in entry["frames"]]


def control_name(pid: int) -> bytes | None:
    """Return the abstract name of the control line of a supervisor; None if it has none."""
    for line in Path("/proc/net/unix").read_text("utf-8", "replace").splitlines():
        name = line.rpartition(" ")[2]
        if name.startswith("@hybrid/") and name.rpartition("/")[2].startswith(f"{pid}."):
            return b"\0" + os.fsencode(name[1:])
    return None


@contextmanager
def operating(process: HybridProcess) -> Iterator[Operator]:
    """Connect to the control line of a supervisor; hang up at the end."""
    find: Callable[[], bytes | None] = lambda: control_name(process.pid)  # noqa: E731
    name = eventually(find, "it has a control line")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(TIMEOUT)
    assert name is not None
    sock.connect(name)
    operator = Operator(sock)
    try:
        yield operator
    finally:
        operator.close()
