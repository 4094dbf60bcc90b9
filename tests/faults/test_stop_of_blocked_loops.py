"""A stop while loops are blocked: connections in a worker's queue are served by it once it runs, or by a sibling."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from support.clients import connected, read_all
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import UNSTEERED, serving

from hybrid.workers.contract.exits import Exit

QUEUED = 4
REQUESTS = {
    "blocked:asgi": (b"GET /block HTTP/1.0\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n"),
    "blocked:handle": (b"block\n", b"pid\n"),
}


@contextmanager
def blocked(target: str, loop: str, cwd: Path, *arguments: str) -> Iterator[tuple[HybridProcess, Path, ExitStack]]:
    """Serve with a worker that has blocked its loop at a gate, for a client with a request in progress."""
    gate = cwd / "gate"
    os.mkfifo(gate)
    options = ("--loop", loop, "--log-level", "debug", *UNSTEERED, *arguments)
    with serving(target, *options, cwd=cwd, env={"GATE": str(gate)}) as process, ExitStack() as stack:
        yield process, gate, stack


def pid_in(answer: bytes) -> int:
    return int(answer.rpartition(b"\n")[2])


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("target", REQUESTS)
@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_a_client_that_waits_for_a_blocked_loop_is_answered_when_it_turns(
    family: str, target: str, loop: str, tmp_path: Path
) -> None:
    block, ask = REQUESTS[target]
    path = str(tmp_path / "socket")
    bind = ("--bind", f"unix:{path}") if family == "unix" else ()
    with blocked(target, loop, tmp_path, "--workers", "1", *bind) as (process, gate, stack):
        (worker,) = process.worker_pids()
        address = path if family == "unix" else process.address
        clients = [stack.enter_context(connected(address))]
        clients[0].sendall(block)
        process.wait_for_log("at the gate")
        for _ in range(QUEUED):
            clients.append(stack.enter_context(connected(address)))
            clients[-1].sendall(ask)
        process.signal(signal.SIGTERM)
        process.wait_for_log("connections wait to be accepted", count=2)
        gate.write_bytes(b"")
        assert [pid_in(read_all(client)) for client in clients] == [worker] * len(clients)
        assert process.wait() == Exit.OK
        assert "ERROR" not in process.stderr


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("target", REQUESTS)
def test_a_client_that_waits_for_a_blocked_loop_is_answered_by_a_sibling(
    target: str, loop: str, tmp_path: Path
) -> None:
    block, ask = REQUESTS[target]
    with blocked(target, loop, tmp_path, "--workers", "2") as (process, gate, stack):
        first = stack.enter_context(connected(process.address))
        first.sendall(block)
        stuck = int(process.wait_for_log(r"at the gate: (\d+)")[1])
        clients = [stack.enter_context(connected(process.address)) for _ in range(5 * QUEUED)]
        for client in clients:
            client.sendall(ask)
        process.signal(signal.SIGTERM)
        (sibling,) = {pid_in(read_all(client)) for client in clients}
        assert sibling != stuck
        gate.write_bytes(b"")
        assert pid_in(read_all(first)) == stuck
        assert process.wait() == Exit.OK
        assert "ERROR" not in process.stderr
