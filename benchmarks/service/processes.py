"""A server's processes: which of them answer, what they hold, whether they are gone.

A process that answers tells its pid (`X-Worker`). It gets a signal only if it is in the server's process group, which
nobody else is in.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import signal
import time
from pathlib import Path

from benchmarks.load import LoadFailed
from benchmarks.servers import Server, ServerFailed
from benchmarks.service.httpload import Clients, Running

_BOOT_SECONDS = 20.0
_STEP_SECONDS = 0.01
_DEATH_SECONDS = 5.0
_IDLE_SECONDS = 0.5
_GONE_STATES = "ZXx"
_STOPPED_STATE = "T"
_ANYBODY = Clients(connections=32, anew=True)


@dataclasses.dataclass(frozen=True)
class Kill:
    """A worker that was killed; seconds of `time.monotonic`."""

    pid: int
    at: float
    gone: float
    """When it had closed its sockets."""
    accepted: int
    """Connections that it had accepted and not closed."""


def workers_of(server: Server, count: int, clients: Clients = _ANYBODY) -> list[int]:
    """Return the pids of the server's workers as soon as `count` of them answer. Blocks; raises `ServerFailed`."""
    with Running(clients, server.port) as asking:
        if not asking.listen_for(count, _BOOT_SECONDS):
            answering = len(asking.workers)
            raise ServerFailed(f"{answering} of {count} workers have answered within {_BOOT_SECONDS:g} s")
        asking.finish(early=True)
        return sorted(asking.workers)


def answering(server: Server, seconds: float) -> list[int]:
    """Return the pids that answer clients who connect anew. Blocks for `seconds`."""
    with Running(_ANYBODY, server.port, seconds=seconds) as asking:
        asking.finish()
        return sorted(asking.workers)


def sockets_when_idle(pids: list[int]) -> int:
    """Return how many sockets a worker has without connections: the fewest seen for half a second. Blocks so long."""
    deadline = time.monotonic() + _IDLE_SECONDS
    fewest = min(_sockets(pid) for pid in pids)
    while time.monotonic() < deadline:
        time.sleep(_STEP_SECONDS)
        fewest = min(fewest, *[_sockets(pid) for pid in pids])
    return fewest


def kill(server: Server, pid: int, idle_sockets: int) -> Kill:
    """Kill a worker of the server, and wait until it is gone. Blocks for milliseconds; raises `LoadFailed`.

    It is stopped before, for the moment it takes to count the connections it holds.
    """
    try:
        if os.getpgid(pid) != server.pid:
            raise LoadFailed(f"process {pid} has answered and is none of the server's")
        death = os.pidfd_open(pid)
        try:
            os.kill(pid, signal.SIGSTOP)
            _wait_for_stop(pid)
            accepted = max(0, _sockets(pid) - idle_sockets)
            at = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            if not select.select([death], [], [], _DEATH_SECONDS)[0]:
                raise LoadFailed(f"worker {pid} outlived its SIGKILL by {_DEATH_SECONDS:g} s")
        finally:
            os.close(death)
    except (ProcessLookupError, FileNotFoundError) as error:
        raise LoadFailed(f"worker {pid} had ended before it was killed") from error
    return Kill(pid, at, time.monotonic(), accepted)


def living(pids: list[int]) -> list[int]:
    """Return those that have not ended."""
    return [pid for pid in pids if _state(pid) not in _GONE_STATES]


def wait_until_gone(pids: list[int], seconds: float) -> bool:
    """Wait until all have ended; says whether they have. Blocks so long at most."""
    deadline = time.monotonic() + seconds
    while living(pids) and time.monotonic() < deadline:
        time.sleep(_STEP_SECONDS)
    return not living(pids)


def _wait_for_stop(pid: int) -> None:
    deadline = time.monotonic() + _DEATH_SECONDS
    while _state(pid) != _STOPPED_STATE:
        if time.monotonic() > deadline:
            raise LoadFailed(f"worker {pid} did not stop")


def _state(pid: int) -> str:
    """The letter that proc(5) has for it; X: there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def _sockets(pid: int) -> int:
    found = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found += str(entry.readlink()).startswith("socket:")
    return found
