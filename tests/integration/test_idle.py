"""A server with nothing to do sleeps: fewer than five wake-ups a second and worker, also with idle connections."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import pytest
from support.clients import ask, connected
from support.loops import LOOPS
from support.process import HybridProcess
from support.service import eventually, serving, wake_ups

INTERVAL = 1.0  # seconds
INTERVALS = 10  # at most, until two were quiet
LIMIT = 5 * INTERVAL  # wake-ups of a worker in that time


def pass_time(seconds: float) -> None:
    """Let time pass: here nothing is waited for, a rate is measured."""
    threading.Event().wait(seconds)


@pytest.mark.parametrize("target", ["blocking:handle", "coroutines:handle"])
def test_a_server_sleeps_on_every_loop_when_idle_and_among_a_hundred_idle_connections(
    target: str, tmp_path: Path
) -> None:
    """All loops together: idle ones do not disturb each other. Half of the clients have sent something."""
    with contextlib.ExitStack() as stack:
        servers = {
            loop: stack.enter_context(serving(target, "--workers", "2", "--loop", loop, cwd=tmp_path)) for loop in LOOPS
        }
        assert_asleep(servers)
        for process in servers.values():
            for number in range(100):
                client = stack.enter_context(connected(process.address))
                if number % 2:
                    client.sendall(b"ask\n")
                    assert client.recv(1) == b"?"
        awake = assert_asleep(servers)
        for process in servers.values():
            ask(process.address, b"pid\n")
        for loop, process in servers.items():  # and it can be seen, once the worker sleeps again
            eventually(lambda: count_wake_ups(process) > awake[loop], f"{loop} was awake")  # noqa: B023 - called at once


def assert_asleep(servers: dict[str, HybridProcess]) -> dict[str, int]:
    """Check the rate of wake-ups of each process; return the count of each service at the end.

    In two intervals: on a busy machine a worker may stall for want of a core, and is looked after.
    """
    quiet = 0
    for _ in range(INTERVALS):
        rates = rates_of(servers)
        quiet += all(rate < LIMIT for each in rates.values() for rate in each)
        if quiet == 2:
            return {loop: count_wake_ups(process) for loop, process in servers.items()}
    raise AssertionError(rates)


def rates_of(servers: dict[str, HybridProcess]) -> dict[str, list[int]]:
    """How often each process of each service, the supervisor's first, is woken in an interval."""
    pids = [pid for process in servers.values() for pid in (process.pid, *process.worker_pids())]
    eventually(lambda: _rest(pids), "what came before is over")
    before = {pid: wake_ups(pid) for pid in pids}
    pass_time(INTERVAL)
    rates = {
        loop: [wake_ups(pid) - before[pid] for pid in (process.pid, *process.worker_pids())]
        for loop, process in servers.items()
    }
    print(rates)  # noqa: T201 - read with `pytest -s`
    return rates


def count_wake_ups(process: HybridProcess) -> int:
    """How often the workers of a service have gone to sleep."""
    return sum(wake_ups(pid) for pid in process.worker_pids())


def _rest(pids: list[int]) -> bool:
    """Return True if none of the processes woke up within a twentieth of a second."""
    before = [wake_ups(pid) for pid in pids]
    pass_time(0.05)
    return [wake_ups(pid) for pid in pids] == before
