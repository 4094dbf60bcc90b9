"""What the tests of changes under load ask: was anything lost, who answers, what does the log complain of.

For the applications of `applications/echoing.py`.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any, NamedTuple

from support.clients import connected
from support.loops import ALL_LOOPS, LOOPS
from support.process import HybridProcess
from support.service import eventually
from support.storm import Storm
from support.wsgi import read_answer, send_request

INTERFACES = ("wsgi", "asgi")
ONE_EACH = [
    (loop, interface)
    for loop, interface in zip(ALL_LOOPS, ("wsgi", "asgi", "wsgi", "asgi", "wsgi", "asgi"), strict=True)
    if loop in LOOPS
]
"""Each loop with an interface, where all pairs would tell no more."""
PLACES = [*ONE_EACH, *(pair for pair in (("epoll", "asgi"), ("gevent", "wsgi")) if pair[0] in LOOPS)]
"""The same, and both interfaces where they have transports of their own: for tests of what lies below them."""
CLOSING = {"kept": False, "closed": True}  # connections of a storm: what `Storm` is to be told
FRESH = {"PYTHONDONTWRITEBYTECODE": "1"}  # or a version of the same second and size would be taken for the other


class Who(NamedTuple):
    """Who has answered a request."""

    pid: int
    generation: int


def who_answers(address: tuple[str, int] | str, target: str = "/") -> Who:
    """Ask once, on a connection of its own, and check the answer."""
    with connected(address) as sock:
        send_request(sock, f"{target}{'&' if '?' in target else '?'}token=mine", "connection: close")
        answer = read_answer(sock)
    assert answer.status == 200
    token, pid, generation = answer.body.split()
    assert token == b"mine"
    return Who(int(pid), int(generation))


def assert_nothing_lost(storm: Storm) -> Any:
    """Stop the storm; every request must have been answered right. Return the tally."""
    tally = storm.stop()
    assert tally.failures == 0, (tally.examples, tally)
    assert tally.right == tally.begun > 0
    return tally


def complaints(process: HybridProcess) -> list[str]:
    """The records of level ERROR and above in the log."""
    return [line for line in process.lines if " ERROR " in line or " CRITICAL " in line]


def reload(process: HybridProcess, generation: int, workers: int = 2) -> None:
    """Send HUP, and wait until all workers are of `generation` and the old ones have gone."""
    before = set(process.worker_pids())
    process.signal(signal.SIGHUP)
    process.wait_for_log(f"reload complete: {workers} workers? of generation {generation}")
    eventually(lambda: not before & set(process.worker_pids()), "the old workers have gone")


def write_application(directory: Path, interface: str, *lines: str) -> None:
    """Write `app.py`, whose `app` is that of `echoing`; `lines` are executed at its import, after that."""
    (directory / "app.py").write_text("\n".join([f"from echoing import {interface} as app", *lines, ""]))
