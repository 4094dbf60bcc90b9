"""A `hybrid run` of a target in tests/applications, with the checks that every such run must pass at its end."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from hybrid.workers.contract.exits import Exit
from support.clients import connected
from support.descriptors import links
from support.process import DEADLINE, HybridProcess
from support.tcp import LISTEN, connections, held, sockets_at
from support.template import APPLICATIONS

UNSTEERED = ("--stall-threshold", "60s")
"""Options for tests that count on connections coming to every worker. On a busy machine a worker waits for a core for
longer than 10 ms, is stalled by default then, and its new connections go to the others."""
T = TypeVar("T")


@contextmanager
def serving(
    target: str,
    *arguments: str,
    cwd: Path,
    ends_with: Collection[int] = (Exit.OK,),
    ready: bool = True,
    inherited: bool = False,
    growth: int = 0,
    executed: bool = False,
    **options: Any,
) -> Iterator[HybridProcess]:
    """Run `hybrid run target`, on port 0 of 127.0.0.1 unless told otherwise, and give the process once it serves.

    With `inherited` no address is given: its sockets are the test's, who passes them. With `executed` the interpreter
    is started; otherwise the process is a fork of one that has imported the command (`support.template`).
    At the end, unless the test has ended it: the supervisor holds no more descriptors than at the start (`growth` more
    where slots were added: a listener and a queue each, for good, and a channel and memory for its stacks for each
    worker more), stops with one of `ends_with`, leaves no process behind, and its TCP addresses are free.
    """
    bind = () if inherited or "--bind" in arguments else ("--bind", "127.0.0.1:0")
    env = {"PYTHONPATH": str(APPLICATIONS), "NOTES": str(cwd / "notes"), **options.pop("env", {})}
    process = HybridProcess("run", *bind, target, *arguments, cwd=cwd, env=env, executed=executed, **options)
    outlived: list[int] = []
    try:
        if ready:
            _wait_ready(process)
            most = descriptors(process.pid) + growth
        yield process
        if process.is_running():
            if ready:
                eventually(lambda: descriptors(process.pid) <= most, "the supervisor holds no more than at its start")
            code = process.stop()
            assert code in ends_with, f"exit code {code}; stderr:\n{process.stderr}"
        if not inherited:
            assert_free(process)
    finally:
        outlived = process.close()
    assert not outlived, f"workers outlived their supervisor: {outlived}"


def limit_for_starts(least: float, took: float) -> float:
    """Return a time limit in seconds for starts of which one has taken `took`: more than they need, soon over."""
    return round(max(least, min(4 * took, DEADLINE / 2)), 1)


def time_to_start(target: str, *arguments: str, cwd: Path, **options: Any) -> float:
    """Serve a target for a moment; return the seconds that its start has taken, on this machine and now."""
    began = time.monotonic()
    with serving(target, *arguments, cwd=cwd, **options):
        return time.monotonic() - began


def _wait_ready(process: HybridProcess) -> None:
    """Wait until it serves and each worker has said so itself: nothing more of the start comes into the log then."""
    count = int(process.wait_for_log(r"serving with (\d+) worker")[1])
    process.wait_for_log(r" ready on \w+ \(", count=count)


def assert_free(process: HybridProcess) -> None:
    """Check that no process of the group of `process` listens on its TCP addresses any more.

    Another process may: the kernel gives a freed port to the next process that asks. So nothing is connected to it.
    """
    survivors = process.survivors()
    if not survivors:
        return
    tcp = [address for address in process.addresses if "://" not in address and not address.startswith("unix:")]
    ports = {int(address.rpartition(":")[2]) for address in tcp}
    listening = set().union(*(sockets_at(port, {LISTEN}) for port in ports))
    still = {pid: held(pid) & listening for pid in survivors}
    assert not any(still.values()), f"{tcp} are still listened on; by process: {still}"


def eventually(condition: Callable[[], T], what: str, deadline: float = DEADLINE) -> T:
    """Look again and again until `condition()` is true; return what it returned. For what nobody can be told of."""
    until = time.monotonic() + deadline
    while not (found := condition()):
        assert time.monotonic() < until, f"not within {deadline} s: {what}"
        select.select([], [], [], 0.005)
    return found


@contextmanager
def connected_to_all(process: HybridProcess) -> Iterator[None]:
    """Open connections until each worker has accepted one; they are held while the block runs.

    Give the service `UNSTEERED`. A moment after its start a worker may still accept what waits for the one that has
    just become ready: any fixed number of connections can come to one of them.
    """
    with contextlib.ExitStack() as stack:
        workers = process.worker_pids()

        def is_done() -> bool:
            stack.enter_context(connected(process.address))
            return all(connections(worker, process.address[1]) for worker in workers)

        eventually(is_done, "each worker has a connection")
        yield


# --- what /proc tells of a process


def descriptors(pid: int) -> int:
    """How many descriptors the process holds."""
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - names only: the entries may vanish


def open_files(pid: int) -> set[str]:
    """What the descriptors of the process are, as /proc names it; nothing if it has ended."""
    return set(links(pid).values())


def wake_ups(pid: int) -> int:
    """How often the threads of the process have gone to sleep since they began."""
    statuses = Path(f"/proc/{pid}/task").glob("*/status")
    return sum(int(_field(status.read_text(), "voluntary_ctxt_switches")) for status in statuses)


def resident(pid: int) -> int:
    """Bytes of memory the process has in use."""
    return int(_field(Path(f"/proc/{pid}/status").read_text(), "VmRSS").split()[0]) * 1024


def is_stopped(pid: int) -> bool:
    """Whether the process is stopped, as by SIGSTOP."""
    return _field(Path(f"/proc/{pid}/status").read_text(), "State").startswith("T")


def is_asleep(pid: int) -> bool:
    """Whether the process waits for something."""
    return _field(Path(f"/proc/{pid}/status").read_text(), "State").startswith("S")


def owner(pid: int) -> int:
    """The effective user id of the process."""
    return int(_field(Path(f"/proc/{pid}/status").read_text(), "Uid").split()[1])


def _field(text: str, name: str) -> str:
    return next(line.partition(":")[2].strip() for line in text.splitlines() if line.startswith(f"{name}:"))
