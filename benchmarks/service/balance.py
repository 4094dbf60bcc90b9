"""The suite `balance`: how evenly a few long connections spread over four workers.

A trial opens eight connections to a server, asks once on each, and counts how many of them the most loaded worker has
got: two are ideal. The eight come one after another, each after the answer to the one before; or in a burst, all before
the first request; or one after another while each worker's loop is held up half of the time.
"""

from __future__ import annotations

import collections
import dataclasses
import socket
import time
from contextlib import ExitStack
from typing import Any

from benchmarks import figures, report, servers, table
from benchmarks.applications import placed
from benchmarks.load import LoadFailed
from benchmarks.servers import Command
from benchmarks.service import rows
from benchmarks.web import peers

WORKERS, CONNECTIONS = 4, 8
MUCH = 2 * CONNECTIONS // WORKERS
"""Twice as many as an even spread would give the most loaded worker."""
_TRIALS = 10  # for each second of the plan
_TIMEOUT = 10.0
_RETRY = 0.05  # seconds
_REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
_BETWEEN = 0.6
"""Seconds from one trial to the next: connections are to be few and to last, and the old ones to be forgotten."""
_PARTS = {"in turn": "app", "burst": "app", "busy": "busy"}  # how the connections come -> application
_TITLES = {
    "in turn": "one after another",
    "burst": "all at once",
    "busy": "one after another, while workers are busy",
}

_Found = dict[str, list[int]]  # server -> for each trial, what the most loaded worker had


def commands(application: str) -> list[Command]:
    """Return hybrid with and without balancing, and the peers; each on TCP, and on a UNIX socket if it can."""
    target = f"benchmarks.applications.placed:{application}"
    return [
        *[_hybrid(loop, target, unix=unix) for unix in (False, True) for loop in ("epoll", "uvloop")],
        *[_hybrid("epoll", target, "--balance", "off", suffix=" off", unix=unix) for unix in (False, True)],
        peers.uvicorn("uvicorn TCP", target, "--workers", str(WORKERS)),
        peers.gunicorn("gunicorn asgi TCP", target, "asgi", workers=WORKERS),
        peers.granian("granian TCP", target, "asgi", workers=WORKERS),
        peers.on_unix(peers.uvicorn("uvicorn UNIX", target, "--workers", str(WORKERS))),
        peers.on_unix(peers.gunicorn("gunicorn asgi UNIX", target, "asgi", workers=WORKERS)),
    ]


def _hybrid(loop: str, target: str, *options: str, suffix: str = "", unix: bool) -> Command:
    name = f"hybrid {loop}{suffix} {'UNIX' if unix else 'TCP'}"
    command = servers.hybrid(name, target, loop=loop, workers=WORKERS, options=("--interface", "asgi", *options))
    return peers.on_unix(command) if unix else command


def measure(plan: report.Plan) -> report.Report:
    """Measure all parts. Blocks for about 33 x runs x (6 x seconds + 3)."""
    chosen = {part: rows.wanted(plan, part, commands(application)) for part, application in _PARTS.items()}
    rows.some(plan, [command for found in chosen.values() for command in found])
    failures: dict[str, str] = {}
    found = {part: _measured(part, wanted, plan, failures) for part, wanted in chosen.items() if wanted}
    data = {
        f"{part} {name}": {"most loaded": trials}
        for part, servers_found in found.items()
        for name, trials in servers_found.items()
    }
    texts = [_text(part, servers_found) for part, servers_found in found.items()]
    return report.Report("\n\n".join(texts), data, failures)


def _measured(part: str, chosen: list[Command], plan: report.Plan, failures: dict[str, str]) -> _Found:
    found: _Found = {command.name: [] for command in chosen}
    for number in range(plan.runs):
        for command in figures.rotated(chosen, number * 3):
            report.say(f"balance, round {number + 1} of {plan.runs}: {part} {command.name}")
            with report.attempt(f"{part} {command.name}", failures), servers.Server(command) as server:
                _wait_for_all(server)
                for _ in range(max(1, round(_TRIALS * plan.seconds))):
                    found[command.name].append(_trial(server, in_turn=part != "burst"))
                    time.sleep(_BETWEEN)
    return found


def _wait_for_all(server: servers.Server) -> None:
    """Ask on ever new connections until each worker has answered. Raises `LoadFailed`."""
    seen: set[str] = set()
    deadline = time.monotonic() + _TIMEOUT
    while len(seen) < WORKERS:
        if time.monotonic() > deadline:
            raise LoadFailed(f"{len(seen)} of {WORKERS} workers answer")
        try:
            with _connected(server) as sock:
                seen.add(_worker(sock))
        except ConnectionRefusedError:  # uvicorn says where it listens before it does
            time.sleep(_RETRY)
    time.sleep(_BETWEEN)


def _trial(server: servers.Server, *, in_turn: bool) -> int:
    """Return how many connections the most loaded worker got. Raises `LoadFailed`."""
    with ExitStack() as stack:
        try:
            if in_turn:
                workers = [_worker(stack.enter_context(_connected(server))) for _ in range(CONNECTIONS)]
            else:
                socks = [stack.enter_context(_connected(server)) for _ in range(CONNECTIONS)]
                workers = [_worker(sock) for sock in socks]
        except OSError as error:
            raise LoadFailed(f"a connection failed: {error}") from error
        return max(collections.Counter(workers).values())


def _connected(server: servers.Server) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX if server.path else socket.AF_INET)
    sock.settimeout(_TIMEOUT)
    sock.connect(server.path or ("127.0.0.1", server.port))
    return sock


def _worker(sock: socket.socket) -> str:
    """Ask once; return the pid of the process that answered. Raises `LoadFailed`."""
    try:
        sock.sendall(_REQUEST)
        answer = b""
        while not answer.endswith(placed.BODY):
            more = sock.recv(4096)
            if not more:
                raise LoadFailed("a connection ended without an answer")
            answer += more
    except OSError as error:
        raise LoadFailed(f"a request failed: {error}") from error
    head = answer.lower().partition(b"x-worker:")[2]
    return head.partition(b"\r\n")[0].strip().decode()


@dataclasses.dataclass(frozen=True)
class _Spread:
    mean: float
    much: float
    """The part of the trials in which one worker had at least `MUCH`."""
    all: float
    """That in which one had all of them."""


def _spread(trials: list[int]) -> _Spread | None:
    if not trials:
        return None
    parts = [sum(most >= least for most in trials) / len(trials) for least in (MUCH, CONNECTIONS)]
    return _Spread(sum(trials) / len(trials), *parts)


def _text(part: str, found: _Found) -> str:
    title = f"Balance, {_TITLES[part]}: {CONNECTIONS} connections, {WORKERS} workers; what the most loaded one has"
    columns = ["<server", "trials", "mean", f"part with {MUCH} or more", f"part with all {CONNECTIONS}"]
    return table.render(title, columns, [_line(name, trials) for name, trials in found.items()])


def _line(name: str, trials: list[int]) -> list[str]:
    spread: Any = _spread(trials)
    figures_shown = [table.show(getattr(spread, field, None), 2) for field in ("mean", "much", "all")]
    return [name, table.show(len(trials)), *figures_shown]
