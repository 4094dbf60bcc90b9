"""A load whose every answer is checked, in a process beside the test: `benchmarks/storm`, started and told what to do.

with Storm(process.address, clients=32, close=True) as storm:
    storm.wait_answers(1000)
    ...
tally = storm.stop()
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from support.loops import MATRIX
from support.process import DEADLINE

ROOT = Path(__file__).resolve().parents[2]
PACE = 0.0 if MATRIX else 0.01
"""The rest, in seconds, for tests of what a change costs the clients. In the README's run sixteen of them ask some 1500
times a second, in the matrix as often as they can: then they take all the time of the processors while they are there.
"""


def _tally_class() -> Any:
    """Load the class by its path: the repository's root must not be a folder of imports (see pyproject.toml)."""
    spec = importlib.util.spec_from_file_location("storm_tally", ROOT / "benchmarks" / "storm" / "tally.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for the names in annotations
    spec.loader.exec_module(module)
    return module.Tally


Tally = _tally_class()


class Flight(NamedTuple):
    """Requests without an answer at one moment."""

    sent: int
    """The server may have got them: a kill can cost these."""
    connecting: int
    """Not sent yet: no kill may cost them, as the supervisor keeps the queue."""


class Storm:
    """Clients that ask again as soon as they are answered, from `start` to `stop`; each request has a token of its own.

    With `rest` a client waits for so many seconds before it asks again: for tests that wait long for something else,
    in which clients without a rest would take all the time of the processors.

    A context manager: the end of the block stops it and ends the process, whatever happened; `stop` may be called
    behind it, too. A storm lives for `deadline` seconds at most: one that came to it was not under
    control, and `stop` says so.
    """

    def __init__(
        self,
        address: tuple[str, int] | str,
        *,
        clients: int = 32,
        close: bool = False,
        target: str = "/",
        timeout: float = 10.0,
        rest: float = 0.0,
        deadline: float = 100.0,
    ) -> None:
        name = address if isinstance(address, str) else f"{address[0]}:{address[1]}"
        self._command = [sys.executable, "-S", "-m", "benchmarks.storm", name, "--target", target]
        self._command += ["--clients", str(clients), "--timeout", str(timeout), "--rest", str(rest)]
        self._command += ["--seconds", str(deadline)]
        self._command += ["--close"] if close else []
        self._timeout = timeout
        self._popen: subprocess.Popen[bytes] | None = None
        self._input = b""
        self._tally: Any = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None and self._popen is not None:
                self.stop()
        finally:
            self.close()

    def start(self) -> None:
        """Begin; returns before the first answer."""
        env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}  # it would be slow
        self._popen = subprocess.Popen(
            self._command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )

    def in_flight(self) -> Flight:
        """Return how many requests are without an answer now."""
        return Flight(**self._ask_under_way("flight", DEADLINE))

    def wait_answers(self, count: int, deadline: float = DEADLINE) -> None:
        """Wait until `count` more requests have been answered right."""
        self._ask_under_way(f"answers {count}", deadline)

    def stop(self) -> Any:
        """Begin no more requests, wait for those under way, and return the `Tally`; again and again the same."""
        if self._tally is None:
            self._tally = Tally(**self._ask("stop", self._timeout + DEADLINE))
        assert not self._tally.expired, "the storm came to its deadline before it was stopped"
        return self._tally

    def close(self) -> None:
        """End the process at once; may be called twice."""
        if self._popen is not None:
            self._popen.kill()
            self._popen.communicate()
            self._popen = None

    def _ask_under_way(self, command: str, deadline: float) -> Any:
        answer = self._ask(command, deadline)
        is_over = answer is None or (isinstance(answer, dict) and "right" in answer)
        assert not is_over, f"the storm came to its deadline before {command!r}"
        return answer

    def _ask(self, command: str, deadline: float) -> Any:
        assert self._popen is not None, "the storm is not under way"
        assert self._popen.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has come to its deadline: the tally is there to read
            self._popen.stdin.write(command.encode() + b"\n")
        return json.loads(self._read_line(command, deadline))

    def _read_line(self, command: str, deadline: float) -> bytes:
        assert self._popen is not None
        assert self._popen.stdout is not None
        fd = self._popen.stdout.fileno()
        until = time.monotonic() + deadline
        while b"\n" not in self._input:
            ready, _, _ = select.select([fd], [], [], max(0.0, until - time.monotonic()))
            assert ready, f"the storm did not answer to {command!r} within {deadline} s"
            part = os.read(fd, 65_536)
            assert part, f"the storm has ended instead of answering to {command!r}"
            self._input += part
        line, _, self._input = self._input.partition(b"\n")
        return line
