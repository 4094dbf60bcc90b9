"""Runs the compiled load generator (`native/loadgen.c`) and reads its figures."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from types import TracebackType
from typing import Any, Self

from benchmarks import compiler, machine

WARM_UP = 0.5  # seconds before the measurement begins
_GRACE_SECONDS = 20.0  # beyond the time a run is meant to take; the generator itself gives up after 10 s of silence


class LoadFailed(RuntimeError):  # noqa: N818 - an event, named as the standard library does it
    """The load generator lost a byte, a connection, or its patience; the text is its own."""


@dataclasses.dataclass(frozen=True)
class Load:
    """What one run of the generator found."""

    per_second: float
    p50_us: float
    p99_us: float
    rounds: int
    """Rounds in all, those of the warm-up included."""
    busy: float
    """Share of its core that the generator used; at 1.0 it may be what was measured."""


def run(mode: str, port: int, *, seconds: float, core: int | None, options: tuple[str, ...] = ()) -> Load:
    """Run `echo` or `connect` against 127.0.0.1:`port`. Blocks for `seconds` and the warm-up; raises `LoadFailed`."""
    argv = [
        str(compiler.program("loadgen")),
        mode,
        "--port",
        str(port),
        "--seconds",
        str(seconds),
        "--warmup",
        str(WARM_UP),
        *options,
    ]
    with machine.started_on(core):
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        out, said = process.communicate(timeout=seconds + _GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        raise LoadFailed("the load generator did not end in time") from None
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    if process.returncode != 0:
        raise LoadFailed(said.decode(errors="replace").strip())
    figures: dict[str, Any] = json.loads(out)
    return Load(**{field.name: figures[field.name] for field in dataclasses.fields(Load)})


class Held:
    """Idle connections, held open inside the block; each has had one exchange of 64 bytes."""

    def __init__(self, port: int, count: int, core: int | None) -> None:
        self._argv = [str(compiler.program("loadgen")), "hold", "--port", str(port), "--connections", str(count)]
        self._core = core
        self._process: subprocess.Popen[bytes] | None = None
        self.open_seconds = 0.0
        self.dropped = 0  # connections the server closed meanwhile; known after the block

    def __enter__(self) -> Self:
        with machine.started_on(self._core):
            self._process = subprocess.Popen(
                [*self._argv, "--seconds", "120"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        assert self._process.stdout is not None
        try:
            first = self._process.stdout.readline()  # bounded: the generator gives up after 10 s of silence
            if not first:
                raise LoadFailed(self._process.communicate()[1].decode(errors="replace").strip())
            self.open_seconds = float(json.loads(first)["seconds"])
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        assert self._process is not None
        try:
            last, _ = self._process.communicate(timeout=_GRACE_SECONDS)  # closes its stdin: it lets go
            self.dropped = int(json.loads(last)["dropped"]) if last.strip() else 0
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.communicate()
