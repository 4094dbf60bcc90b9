"""An hour of adversity in minutes, run by hand: `python tests/endurance/compressed_hour.py --loop uvloop`.

A service under load, whose every answer is checked, has its workers killed, stopped and stalled at random, is reloaded
and scaled (`support.adversity`). Every so often it is left in peace, and one looks at what it holds
(`support.household`). In the end promises are compared with facts; the exit code is 1 if one of them is broken.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import random
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.adversity import MOST, WORKERS, Adversity
from support.changes import FRESH, INTERFACES, write_application
from support.household import Household, growths
from support.loops import ALL_LOOPS
from support.manager import managing
from support.process import HybridProcess
from support.service import serving
from support.storm import Storm

_LOADS: dict[str, dict[str, Any]] = {  # name -> what a storm is told
    "short, kept connections": {"clients": 8},
    "short, new connections": {"clients": 8, "close": True},
    "100 ms of computing": {"clients": 1, "target": "/busy?ms=100"},
    "30 ms of sleep in C": {"clients": 1, "close": True, "target": "/asleep?ms=30"},
}
_TIMEOUT = 30.0  # seconds for a request
_KINDS = ("wrong", "refused", "reset", "closed_fresh", "closed_reused", "cut", "timeouts", "errors")
_BY_A_KILL = frozenset({"reset", "closed_fresh", "closed_reused", "cut"})  # the others nothing may cause
_LOOKS = 20
_REST = 4.0  # seconds between two looks, at least
_EXPECTED = re.compile("reload failed|cannot start")  # errors in the log: of broken code


def say(line: str) -> None:
    """Write a line at once: somebody may be waiting for it."""
    print(line, flush=True)  # noqa: T201 - a program


@dataclasses.dataclass
class Account:
    """What has come of it."""

    seed: int
    tallies: dict[str, Any] = dataclasses.field(default_factory=dict)
    looks: list[Household] = dataclasses.field(default_factory=list)
    happened: dict[str, int] = dataclasses.field(default_factory=dict)
    in_hand: int = 0
    lost: list[str] = dataclasses.field(default_factory=list)
    complaints: list[str] = dataclasses.field(default_factory=list)

    def failed(self, kind: str) -> int:
        """How many requests of the load have failed in a way."""
        return sum(getattr(tally, kind) for tally in self.tallies.values())

    def broken(self) -> Iterator[str]:
        """Give the promises that were not kept, in words."""
        for kind in _KINDS:
            if kind not in _BY_A_KILL and self.failed(kind):
                yield f"{self.failed(kind)} requests: {kind}"
        failures = sum(map(self.failed, _KINDS)) + len(self.lost)
        if failures > self.in_hand:
            yield f"{failures} requests failed, and killed workers had {self.in_hand} in hand"
        yield from (f"{name}: no right answer" for name, tally in self.tallies.items() if not tally.right)
        yield from (f"in the log: {line}" for line in self.complaints)
        yield from growths(self.looks)

    def tell(self) -> None:
        """Print all of it."""
        say(", ".join(f"{count} x {name}" for name, count in sorted(self.happened.items())))
        for name, tally in self.tallies.items():
            failures = ", ".join(f"{count} {kind}" for kind in _KINDS if (count := getattr(tally, kind))) or "0 failed"
            late = f"p99 {tally.percentile(99) * 1e3:.0f} ms, slowest {tally.longest:.2f} s"
            say(f"{name}: {tally.right:,} right, {failures}; {late}, {len(tally.by_pid)} processes answered")
        of_load = sum(map(self.failed, _KINDS))
        say(f"failed: {of_load} of the load and {len(self.lost)} stalls; in hand of killed workers: {self.in_hand}")
        for look in self.looks:
            say(look)


def endure(seconds: float, loop: str, interface: str, seed: int) -> Account:
    """Run a service for so long. Raises `AssertionError` where it cannot go on. Blocks."""
    account = Account(seed)
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hybrid")))
        manager = stack.enter_context(managing(str(directory / "notify")))
        told = stack.enter_context(manager.recorded())
        write_application(directory, interface)
        env = {**FRESH, "NOTIFY_SOCKET": manager.address}
        arguments = ("--workers", str(WORKERS), "--loop", loop, "--threads", "0", "--backoff", "50ms")
        process = stack.enter_context(
            serving("app:app", *arguments, cwd=directory, growth=2 * (MOST - WORKERS), env=env)
        )
        adversity = Adversity(process, directory, told, random.Random(seed))
        try:
            _storm(process, adversity, account, seconds)
        finally:
            account.happened, account.in_hand, account.lost = adversity.counts, adversity.in_hand, adversity.lost
            account.complaints = [line for line in process.lines if _is_complaint(line)]
    return account


def _storm(process: HybridProcess, adversity: Adversity, account: Account, seconds: float) -> None:
    """Let it all happen under load, and take the looks."""
    adversity.rise()
    adversity.calm()
    with contextlib.ExitStack() as stack:
        options = {"timeout": _TIMEOUT, "deadline": 2 * seconds + 300}
        storms = {name: Storm(process.address, **options, **load) for name, load in _LOADS.items()}
        for storm in storms.values():
            stack.enter_context(storm)
        began = time.monotonic()
        look_at = 0.0
        while (passed := time.monotonic() - began) < seconds:
            adversity.strike()
            adversity.pause()
            if passed >= look_at:
                look_at = passed + max(_REST, seconds / _LOOKS)
                adversity.calm()
                account.looks.append(Household.of(process, passed))
        adversity.calm()
        account.looks.append(Household.of(process, time.monotonic() - began))
        account.tallies = {name: storm.stop() for name, storm in storms.items()}


def _is_complaint(line: str) -> bool:
    is_error = " ERROR " in line or " CRITICAL " in line or "Traceback" in line
    return is_error and not _EXPECTED.search(line)


def main() -> int:
    """Run it as the command line says; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--loop", choices=ALL_LOOPS, default="epoll")
    parser.add_argument("--interface", choices=INTERFACES, default="wsgi")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options = parser.parse_args()
    say(f"{options.loop} {options.interface}, {options.seconds:g} s, seed {options.seed}")
    account = endure(options.seconds, options.loop, options.interface, options.seed)
    account.tell()
    broken = list(account.broken())
    for promise in broken:
        say(f"BROKEN: {promise}")
    say("broken promises: none" if not broken else f"broken promises: {len(broken)}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
