"""What befalls a service in a compressed hour: at random moments kills, reloads, scaling, stalls, stopped processes."""

from __future__ import annotations

import collections
import contextlib
import os
import random
import re
import select
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from support.changes import who_answers
from support.process import DEADLINE, HybridProcess
from support.service import eventually, is_stopped
from support.tcp import ACCEPTED, connections

WORKERS = 2
"""When it is calm."""
MOST = 4
"""Workers, at most."""
LONGEST = 1.5  # seconds for which a process is stopped
PAUSE = 0.15  # seconds between two events, on average
STALL = "/asleep?ms=1200"  # long enough for its stack to be logged
_STATUS = re.compile(r"STATUS=(\d+) of (\d+) workers? ready")
_BROKEN = "def app(:\n"


class Adversity:
    """See above. `told` is what a service manager hears, and grows by itself."""

    def __init__(self, process: HybridProcess, directory: Path, told: list[str], dice: random.Random) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        """How often each has happened."""
        self.in_hand = 0
        """Connections that killed workers had accepted: what may be lost."""
        self.lost: list[str] = []
        """Requests of ours, beside those of the load, that were not answered."""
        self._process = process
        self._code = directory / "app.py"
        self._told = told
        self._dice = dice
        self._asleep: dict[int, float] = {}  # pid -> when it goes on, monotonic seconds
        self._is_divided = False  # a zygote was killed: its workers share no memory with those of the next one
        self._asking: list[threading.Thread] = []
        self._troubles: list[tuple[int, Callable[[], None]]] = [
            (6, self._kill),
            (1, self._kill_zygote),
            (4, self._reload),
            (1, self._reload_broken_code),
            (4, self._grow),
            (4, self._shrink),
            (4, self._stop),
            (3, self._stall),
        ]

    def strike(self) -> None:
        """Let something happen."""
        weights, troubles = zip(*self._troubles, strict=True)
        (trouble,) = self._dice.choices(troubles, weights)
        trouble()

    def pause(self) -> None:
        """Let a random time pass, and stopped workers go on whose time has come."""
        until = time.monotonic() + self._dice.expovariate(1 / PAUSE)
        while (now := time.monotonic()) < until:
            self._wake(now)
            select.select([], [], [], min(0.01, until - now))

    def calm(self) -> None:
        """Return once all serve that should, and nobody else is left."""
        self._wake(None)
        for thread in self._asking:
            thread.join(2 * DEADLINE)
        self._asking.clear()
        if self._is_divided:
            mark = len(self._process.lines)
            self._reload()
            self._process.wait_for_log("reloading: starting generation", since=mark)
        eventually(self._is_calm, f"{WORKERS} workers serve, and no others are left", 3 * DEADLINE)

    def _is_calm(self) -> bool:
        ready, wanted = self._status()
        if wanted != WORKERS:
            self._process.signal(signal.SIGTTIN if wanted < WORKERS else signal.SIGTTOU)
            eventually(lambda: self._status()[1] != wanted, "the signal is obeyed")
            return False
        is_reloading = next(text for text in reversed(self._told) if text.startswith(("READY", "RELOADING")))
        workers, zygotes = self._process.worker_pids(), self._process.zygote_pids()
        return (ready, len(workers), len(zygotes)) == (WORKERS, WORKERS, 1) and is_reloading.startswith("READY")

    def rise(self) -> None:
        """Have as many workers as there will ever be, so that every slot has its listeners."""
        while self._status()[1] < MOST:
            self._grow()

    def _status(self) -> tuple[int, int]:
        """How many workers are ready, and how many are wanted."""
        found = next(match for text in reversed(self._told) if (match := _STATUS.match(text)))
        return int(found[1]), int(found[2])

    # --- what happens

    def _kill(self) -> None:
        """SIGKILL a worker; it is stopped before, or it would go on accepting while its connections are counted."""
        victim = self._somebody()
        if victim is None:
            return
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            os.kill(victim, signal.SIGSTOP)
            eventually(lambda: is_stopped(victim) or victim not in self._process.worker_pids(), "it is stopped")
            self.in_hand += connections(victim, self._process.address[1], ACCEPTED)
            os.kill(victim, signal.SIGKILL)
            self._asleep.pop(victim, None)
            self.counts["SIGKILL of a worker"] += 1

    def _kill_zygote(self) -> None:
        for pid in self._process.zygote_pids()[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self._is_divided = True
                self.counts["SIGKILL of the zygote"] += 1

    def _reload(self) -> None:
        self._is_divided = False
        self._process.signal(signal.SIGHUP)
        self.counts["reload"] += 1

    def _reload_broken_code(self) -> None:
        code = self._code.read_text()
        mark = len(self._process.lines)
        self._code.write_text(_BROKEN)
        self._process.signal(signal.SIGHUP)
        self._process.wait_for_log("reload failed|reload asked for anew", since=mark)
        self._code.write_text(code)
        self.counts["reload of broken code"] += 1

    def _grow(self) -> None:
        self._scale(signal.SIGTTIN, 1)

    def _shrink(self) -> None:
        self._scale(signal.SIGTTOU, -1)

    def _scale(self, number: int, step: int) -> None:
        wanted = self._status()[1]
        if 1 <= wanted + step <= MOST:
            self._process.signal(number)
            eventually(lambda: self._status()[1] == wanted + step, "the signal is obeyed")
            self.counts["one worker more" if step > 0 else "one worker less"] += 1

    def _stop(self) -> None:
        pid = self._somebody()
        if pid is not None and pid not in self._asleep:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                self._asleep[pid] = time.monotonic() + self._dice.uniform(0.05, LONGEST)
                self.counts["SIGSTOP of a worker"] += 1

    def _stall(self) -> None:
        if sum(thread.is_alive() for thread in self._asking) < 2:
            thread = threading.Thread(target=self._ask)
            thread.start()
            self._asking.append(thread)
            self.counts["stall of a second"] += 1

    def _ask(self) -> None:
        try:
            who_answers(self._process.address, STALL)
        except (OSError, EOFError, ValueError, AssertionError) as error:
            self.lost.append(repr(error))

    def _somebody(self) -> int | None:
        pids = self._process.worker_pids()
        return self._dice.choice(pids) if pids else None

    def _wake(self, now: float | None) -> None:
        """Let those go on whose time has come, or all."""
        for pid, until in list(self._asleep.items()):
            if now is None or until <= now:
                del self._asleep[pid]
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
