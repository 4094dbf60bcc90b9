"""Offloaded calls of all kinds under all faults, run by hand: `python tests/endurance/offload_hour.py --loop uvloop`.

Clients compare every answer, while offload workers, web workers and the zygote are killed at random, the service is
reloaded, and processes are replaced after some calls. Every ten seconds the clients rest, and one looks at what the
service holds. The exit code is 1 if an answer was wrong or missing, or if something grows.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import os
import random
import re
import select
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "applications"))

from offload_ordeal import KINDS, TOO_LARGE
from support.clients import ask
from support.household import Household, growths
from support.load import loaded
from support.loops import ALL_LOOPS
from support.offloading import HELD, descriptors, offload_workers, strength
from support.process import HybridProcess
from support.service import eventually, is_stopped, serving
from support.tcp import ACCEPTED, connections

CLIENTS = 12
WORKERS = 2  # and as many offload workers
_ROUND = 10.0  # seconds between two looks
_PAUSE = 0.25  # seconds between two faults, on average
_HUNG = 100.0  # seconds without an answer: calls of an old generation find no offload worker, and then take turns
_PATIENCE = 120.0  # seconds for old generations to end
_EXPECTED = re.compile("its (?:zygote|worker) killed by SIGKILL")  # an error in the log: of a reload, and ours
_OPTIONS = (
    *("--workers", str(WORKERS), "--offload-workers", str(WORKERS), "--offload-at-start"),
    *("--offload-max-result", str(TOO_LARGE - 1), "--offload-max-tasks", "150", "--max-requests", "300"),
    *("--backoff", "50ms", "--graceful-timeout", "100s"),
)


def say(line: str) -> None:
    """Write a line at once: somebody may be waiting for it."""
    print(line, flush=True)  # noqa: T201 - a program


@dataclasses.dataclass
class Account:
    """What has come of it."""

    happened: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    right: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    """By kind of call."""
    died: int = 0
    """Calls whose process was killed."""
    cut: int = 0
    """Requests whose connection ended."""
    in_hand: int = 0
    """Connections of killed web workers."""
    wrong: list[str] = dataclasses.field(default_factory=list)
    hung: list[str] = dataclasses.field(default_factory=list)
    looks: list[Household] = dataclasses.field(default_factory=list)
    complaints: list[str] = dataclasses.field(default_factory=list)

    def broken(self) -> Iterator[str]:
        """Give the promises that were not kept, in words."""
        yield from (f"wrong: {text}" for text in self.wrong[:10])
        yield from (f"hung: {text}" for text in self.hung[:10])
        yield from (f"in the log: {line}" for line in self.complaints[:10])
        yield from (f"no right answer to {kind}" for kind in KINDS if not self.right[kind])
        if self.died > (kills := self.happened["SIGKILL of an offload worker"]):
            yield f"{self.died} calls died of {kills} kills"
        if self.cut > self.in_hand:
            yield f"{self.cut} connections were cut, and killed workers had {self.in_hand}"
        yield from growths(self.looks)

    def tell(self) -> None:
        """Print all of it."""
        say(", ".join(f"{count} x {name}" for name, count in sorted(self.happened.items())))
        say(", ".join(f"{count:,} x {kind}" for kind, count in sorted(self.right.items())))
        say(
            f"{self.right.total():,} right, {len(self.wrong)} wrong, {len(self.hung)} hung; {self.died} died with a "
            f"killed process; {self.cut} connections cut, killed workers had {self.in_hand}"
        )
        for look in self.looks:
            say(str(look))


class Clients:
    """Make requests, and compare the answers."""

    def __init__(self, process: HybridProcess, account: Account, dice: random.Random) -> None:
        self._process = process
        self._account = account
        self._dice = dice
        self._lock = threading.Lock()

    def ask(self) -> None:
        """Make one request of a random kind."""
        with self._lock:
            kind, number = self._dice.choice(list(KINDS)), self._dice.randrange(1_000_000)
        answer = self._answer(kind, number)
        with self._lock:
            self._note(kind, number, answer)

    def _answer(self, kind: str, number: int) -> str | None:
        """Return the body of the response, None if the connection was cut. Raises `TimeoutError`."""
        request = f"GET /{kind}?{number} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        try:
            head, end, body = ask(self._process.address, request.encode(), _HUNG).partition(b"\r\n\r\n")
        except TimeoutError:
            return f"hung for {_HUNG:g} s"
        except OSError:
            return None
        is_whole = bool(end) and f"content-length: {len(body)}\r\n".encode() in head.lower() + b"\r\n"
        return body.decode() if is_whole else None

    def _note(self, kind: str, number: int, answer: str | None) -> None:
        account = self._account
        right = KINDS[kind][1](number)
        if answer is None:
            account.cut += 1
        elif deaths := answer.count("OffloadDied"):
            account.died += deaths
        elif answer.startswith("hung "):
            account.hung.append(f"{kind} {number}")
        elif answer == right or (":" in right and answer.startswith(right)):
            account.right[kind] += 1
        else:
            account.wrong.append(f"{kind} {number}: {answer[:200]!r} instead of {right!r}")


class Faults:
    """What happens to the service."""

    def __init__(self, process: HybridProcess, account: Account, dice: random.Random) -> None:
        self._process = process
        self._account = account
        self._dice = dice
        self._faults = (
            (6, self._kill_offload_worker),
            (2, self._kill_worker),
            (1, self._kill_zygote),
            (2, self._reload),
        )

    def strike(self) -> None:
        """Let something happen, and some time pass."""
        weights, faults = zip(*self._faults, strict=True)
        self._dice.choices(faults, weights)[0]()
        select.select([], [], [], self._dice.expovariate(1 / _PAUSE))

    def _kill_offload_worker(self) -> None:
        pids = offload_workers(self._process)
        if pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._dice.choice(pids), signal.SIGKILL)
                self._account.happened["SIGKILL of an offload worker"] += 1

    def _kill_worker(self) -> None:
        """Kill a worker; it is stopped before, or it would go on accepting while its connections are counted."""
        pids = sorted(set(self._process.worker_pids()) - set(offload_workers(self._process)))
        if pids:
            victim = self._dice.choice(pids)
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                os.kill(victim, signal.SIGSTOP)
                eventually(lambda: is_stopped(victim) or victim not in self._process.worker_pids(), "it is stopped")
                self._account.in_hand += connections(victim, self._process.address[1], ACCEPTED)
                os.kill(victim, signal.SIGKILL)
                self._account.happened["SIGKILL of a worker"] += 1

    def _kill_zygote(self) -> None:
        for pid in self._process.zygote_pids()[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self._account.happened["SIGKILL of the zygote"] += 1

    def _reload(self) -> None:
        self._process.signal(signal.SIGHUP)
        self._account.happened["reload"] += 1


def endure(seconds: float, loop: str, seed: int, log: Path | None) -> Account:
    """Run a service for so long; write its log to a file. Raises `AssertionError` where it cannot go on. Blocks."""
    account = Account()
    growth = HELD + 2 * (WORKERS - 1)
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hybrid")))
        options = (*_OPTIONS, "--loop", loop)
        process = stack.enter_context(serving("offload_ordeal:app", *options, cwd=directory, growth=growth))
        clients = Clients(process, account, random.Random(seed))
        faults = Faults(process, account, random.Random(seed + 1))
        strength(process, WORKERS)
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            end = min(passed + _ROUND, seconds)
            with loaded(clients.ask, CLIENTS) as load:
                while time.monotonic() - began < end:
                    faults.strike()
            account.wrong += load.failures
            account.looks.append(_look(process, time.monotonic() - began))
            say(f"{account.looks[-1]}; {account.right.total():,} right, {len(account.wrong)} wrong")
        account.complaints = [line for line in process.lines if _is_complaint(line)]
        if log is not None:
            log.write_text(process.stderr)
    return account


def _is_complaint(line: str) -> bool:
    return (" ERROR " in line or "Traceback" in line) and not _EXPECTED.search(line)


def _look(process: HybridProcess, at: float) -> Household:
    """Look at a service whose clients rest, and which has the processes that it should have.

    Reload it before: workers that another zygote has forked share no memory with the others.
    """
    mark = len(process.lines)
    process.signal(signal.SIGHUP)
    process.wait_for_log("reload complete", _PATIENCE, since=mark)
    eventually(lambda: _is_at_rest(process), "all serve that should, and no others are left", _PATIENCE)
    strength(process, WORKERS)
    eventually(lambda: not _has_memory(process), "no memory of a message is left")
    return Household.of(process, at)


def _is_at_rest(process: HybridProcess) -> bool:
    return (len(process.worker_pids()), len(process.zygote_pids())) == (2 * WORKERS, 1)


def _has_memory(process: HybridProcess) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return any("hybrid-offload" in kind for pid in process.survivors() for kind in descriptors(pid))
    return True


def main() -> int:
    """Run it as the command line says; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--loop", choices=ALL_LOOPS, default="epoll")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--log", type=Path, help="write the log of the service to this file")
    options = parser.parse_args()
    say(f"{options.loop}, {options.seconds:g} s, seed {options.seed}")
    account = endure(options.seconds, options.loop, options.seed, options.log)
    account.tell()
    broken = list(account.broken())
    for promise in broken:
        say(f"BROKEN: {promise}")
    say("broken promises: none" if not broken else f"broken promises: {len(broken)}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
