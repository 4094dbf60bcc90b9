"""Runs the client that goes on when requests fail (`native/httpload.c`) and reads what it has to say.

Why not wrk: its percentiles hold durations that no client has seen (a correction for "coordinated omission"), begin
after the connect, and leave out who still waits at the end; it neither compares answers nor tells when one failed.
"""

from __future__ import annotations

import dataclasses
import json
import os
import select
import subprocess
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from benchmarks import compiler, machine
from benchmarks.applications import mixed
from benchmarks.load import LoadFailed

_GRACE_SECONDS = 10.0  # beyond the time a run is meant to take
_LONG_SECONDS = 120.0  # of a run that is meant to be ended


@dataclasses.dataclass(frozen=True)
class Clients:
    """Who asks, and for what."""

    connections: int
    anew: bool
    """A new connection for each request (`Connection: close`); else connections are kept alive."""
    path: str = "/"
    answer: bytes = mixed.BODY
    """What has to come back, to the byte; empty: anything with status 200."""
    pause: float = 0.0
    """Seconds between an answer and the next request, if `anew`."""
    body: bytes = b""
    """JSON to post; empty: GET."""
    timeout: float = 5.0
    """Seconds; a request without an answer by then has failed."""

    def request(self) -> bytes:
        """Return what each of them sends."""
        head = f"{'POST' if self.body else 'GET'} {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        if self.body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(self.body)}\r\n"
        return (
            f"{head}Connection: close\r\n\r\n".encode() + self.body if self.anew else f"{head}\r\n".encode() + self.body
        )

    def arguments(self) -> list[bytes | str]:
        """Return the options of the client program that say all this."""
        expect: list[bytes | str] = ["--expect", self.answer] if self.answer else []
        numbers = {
            "connections": self.connections,
            "close": int(self.anew),
            "pause": self.pause,
            "timeout": self.timeout,
        }
        return ["--request", self.request(), *expect, *[w for k, v in numbers.items() for w in (f"--{k}", str(v))]]


@dataclasses.dataclass(frozen=True)
class Failure:
    """A request that failed; seconds of `time.monotonic`."""

    kind: str
    began: float
    ended: float


@dataclasses.dataclass(frozen=True)
class Worker:
    """A process that has answered; seconds of `time.monotonic`."""

    pid: int
    first: float
    last: float
    answers: int


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the clients have seen. Failures and workers: of the whole run; all else: after its warm-up."""

    seconds: float
    until: float
    """When the run ended, seconds of `time.monotonic`."""
    answers: int
    per_second: float
    p50_us: float
    p99_us: float
    max_us: float
    waiting: int
    """Requests without an answer when the run ended; their wait so far is in the durations (if above the median)."""
    busy: float
    """Share of a core that the client used."""
    fewest: int
    """Workers that answered within the same tenth of a second, at least."""
    most: int
    failed: dict[str, int]
    """Kind of failure -> how many; kinds that did not occur are left out."""
    failures: list[Failure]
    """The first 10,000 of them."""
    workers: list[Worker]

    @property
    def losses(self) -> int:
        """How many requests failed."""
        return sum(self.failed.values())


class Running:
    """Clients at work, inside the block; `finish` or the block's end ends them."""

    def __init__(self, clients: Clients, port: int, *, seconds: float | None = None, warm_up: float = 0.0,
                 core: int | None = None) -> None:  # fmt: skip
        length = _LONG_SECONDS if seconds is None else seconds
        program = str(compiler.program("httpload"))
        times = ["--port", str(port), "--seconds", str(length), "--warmup", str(warm_up)]
        self._argv = [program, *times, *clients.arguments()]
        self._core = core
        self._deadline = length + warm_up + _GRACE_SECONDS
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""
        self._last = b""
        self.workers: dict[int, float] = {}  # pid -> when it was first heard of, as far as has been read

    def __enter__(self) -> Self:
        with machine.started_on(self._core):
            self._process = subprocess.Popen(
                self._argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        self._deadline += time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def listen_until(self, moment: float) -> None:
        """Note which workers are heard of until `moment` (`time.monotonic`); blocks until then. Reads once at least."""
        while self._listen(left := max(0.0, moment - time.monotonic())) and left:
            continue
        time.sleep(max(0.0, moment - time.monotonic()))  # if the client has ended before

    def listen_for(self, workers: int, seconds: float) -> bool:
        """Note which workers are heard of until there are so many, or the time is over. Blocks; says whether."""
        deadline = time.monotonic() + seconds
        while len(self.workers) < workers and (left := deadline - time.monotonic()) > 0:
            if not self._listen(left):
                break
        return len(self.workers) >= workers

    def _listen(self, seconds: float) -> bool:
        """Wait for words at most so long, and read them; False: the client has said its last ones."""
        assert self._process is not None
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        if not select.select([fd], [], [], seconds)[0]:
            return True
        more = os.read(fd, 65536)
        *lines, self._unread = (self._unread + more).split(b"\n")
        for line in lines:
            if line.startswith(b"worker "):
                _, pid, first = line.split()
                self.workers[int(pid)] = float(first)
            else:
                self._last = line
        return bool(more)

    def finish(self, *, early: bool = False) -> Outcome:
        """Wait for the end, or bring it about; return what was seen. Raises `LoadFailed` if the client broke."""
        assert self._process is not None
        if early:
            self._process.terminate()
            self._deadline = min(self._deadline, time.monotonic() + _GRACE_SECONDS)
        while (left := self._deadline - time.monotonic()) > 0 and self._listen(left):
            continue
        if left <= 0:
            raise LoadFailed("the client did not end in time")
        _, said = self._process.communicate(timeout=_GRACE_SECONDS)
        if self._process.returncode != 0:
            raise LoadFailed(f"the client failed: {said.decode(errors='replace').strip()}")
        return _outcome(json.loads(self._last))


def run(clients: Clients, port: int, seconds: float, *, warm_up: float = 0.0, core: int | None = None) -> Outcome:
    """Let the clients ask for `seconds`, and before that for `warm_up`. Blocks; raises `LoadFailed`."""
    with Running(clients, port, seconds=seconds, warm_up=warm_up, core=core) as running:
        return running.finish()


def _outcome(found: Mapping[str, Any]) -> Outcome:
    derived: dict[str, Any] = {
        "failed": {kind: count for kind, count in found["failed"].items() if count},
        "failures": [Failure(*one) for one in found["failures"]],
        "workers": [Worker(*one) for one in found["workers"]],
    }
    plain = [field.name for field in dataclasses.fields(Outcome) if field.name not in derived]
    return Outcome(**{name: found[name] for name in plain}, **derived)


def kinds(failed: Mapping[str, int]) -> str:
    """Return failures as words: `3 reset, 1 cut`; a dash if there are none."""
    return ", ".join(f"{count} {kind}" for kind, count in failed.items() if count) or "-"


def summed(outcomes: list[Outcome]) -> dict[str, int]:
    """Return the failures of several runs together, kind -> how many."""
    every = [kind for one in outcomes for kind in one.failed]
    return {kind: sum(one.failed.get(kind, 0) for one in outcomes) for kind in dict.fromkeys(every)}
