"""When a reloading watcher starts and ends its child: decisions only.

The processes are those of `hybrid.autoreload.watcher`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import importlib.util
import logging
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from hybrid.autoreload.changes import Watched, describe
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.log import LOGGER_NAME

RESTART_GRACE = 2.0  # seconds that connections may take to finish at a restart; who changes code does not wait for more
QUIT_GRACE = 5.0  # seconds that a supervisor gets to end at once
STOPS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
_STOPPED_AS_ASKED = frozenset({Exit.OK, Exit.KILLED})

logger = logging.getLogger(LOGGER_NAME)


class Child(Protocol):
    """A service that runs, as `subprocess.Popen` shows it."""

    def poll(self) -> int | None:
        """Return how it ended, negative for a signal; None while it runs."""

    def send_signal(self, sig: int, /) -> None:
        """Send a signal; nothing happens if it has ended."""


@dataclasses.dataclass(frozen=True, slots=True)
class Signalled:
    """A signal to the watcher."""

    number: signal.Signals
    is_for_all: bool
    """The kernel has sent it to the whole process group, as for a Ctrl-C: the child has it too."""


class Phase(enum.Enum):
    """What the watcher is about."""

    STARTING = "a child is started as soon as nothing changes any more"
    RUNNING = "a child runs"
    RESTARTING = "a child has been asked to end, another one follows"
    BROKEN = "the child has ended by itself; a change may mend it"
    ENDING = "the child ends because we are asked to"


class Reloader:
    """Decides when a child is started and ended. Waits nowhere: it is moved by the batches of changes, empty or not."""

    def __init__(
        self,
        watched: Watched,
        start: Callable[[], Child],
        signals: Callable[[], Iterable[Signalled]],
        *,
        grace: float = RESTART_GRACE,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`start` begins a child, `signals` gives what has come since it was called, `grace` and `now` are seconds."""
        self._watched = watched
        self._start_child = start
        self._signals = signals
        self._grace = grace
        self._now = now
        self._phase = Phase.STARTING
        self._child: Child | None = None
        self._changed: frozenset[Path] = frozenset()  # since the last start
        self._ladder: list[tuple[float, signal.Signals]] = []  # when to send what to a child that does not end
        self._code: int | None = None  # once all is over

    def run(self, changes: Iterable[frozenset[Path]]) -> int:
        """Go on until a stop is asked for, or the child has been stopped by somebody; return the exit code."""
        for batch in changes:
            mattering = frozenset(path for path in batch if self._watched.matters(path))
            for signalled in self._signals():
                self._on_signal(signalled)
            self._on_change(mattering)
            self._on_child()
            if self._phase is Phase.STARTING and not mattering:
                self._start()
            if self._code is not None:
                return self._code
        raise RuntimeError("the stream of changes has ended")

    def _on_signal(self, signalled: Signalled) -> None:
        if self._child is not None and not signalled.is_for_all:
            self._child.send_signal(self._translated(signalled.number))
        if signalled.number in STOPS:
            self._phase = Phase.ENDING
            self._ladder.clear()  # from here on the grace period is the service's own

    def _translated(self, number: signal.Signals) -> signal.Signals:
        """Say an interrupt in words that may be repeated.

        Who sends one to a whole process group with kill(2) has sent it to the child too, and two would end it at once.
        """
        if number is not signal.SIGINT:
            return number
        return signal.SIGQUIT if self._phase is Phase.ENDING else signal.SIGTERM

    def _on_change(self, changed: frozenset[Path]) -> None:
        self._changed |= changed
        if not changed or self._phase not in (Phase.RUNNING, Phase.BROKEN):
            return
        logger.info("reload: %s changed; restarting", describe(changed, self._watched.directories))
        if self._phase is Phase.BROKEN or self._child is None:
            self._phase = Phase.STARTING
            return
        self._phase = Phase.RESTARTING
        self._child.send_signal(signal.SIGTERM)
        until = self._now() + self._grace
        self._ladder = [(until, signal.SIGQUIT), (until + QUIT_GRACE, signal.SIGKILL)]

    def _on_child(self) -> None:
        code = None if self._child is None else self._child.poll()
        if self._child is not None and code is None:
            self._climb(self._child)
            return
        self._child = None
        match self._phase:
            case Phase.ENDING:
                self._code = int(Exit.OK) if code is None else _shell_code(code)
            case Phase.RESTARTING:
                self._phase = Phase.STARTING
            case Phase.RUNNING if code in _STOPPED_AS_ASKED:  # by a signal to the child itself
                self._code = code
            case Phase.RUNNING:
                self._phase = Phase.BROKEN
                logger.warning("reload: the service has ended %s; waiting for a change", _ending(code or 0))

    def _climb(self, child: Child) -> None:
        while self._ladder and self._ladder[0][0] <= self._now():
            child.send_signal(self._ladder.pop(0)[1])

    def _start(self) -> None:
        self._ladder.clear()
        _forget_compiled(self._changed)
        self._changed = frozenset()
        try:
            self._child = self._start_child()
        except OSError as error:  # no process, no memory; what is missing now may be there at the next change
            logger.error("reload: the service cannot be started: %s; waiting for a change", error)
            self._phase = Phase.BROKEN
        else:
            self._phase = Phase.RUNNING


def _forget_compiled(sources: Iterable[Path]) -> None:
    """Remove the compiled forms of changed modules.

    Python compares a time in whole seconds and a size (PEP 552 calls it the default): it takes the old code for that
    of a file changed twice within a second where the length stays.
    """
    for source in sources:
        if source.suffix == ".py":
            with contextlib.suppress(OSError):
                Path(importlib.util.cache_from_source(source)).unlink()


def _shell_code(code: int) -> int:
    return code if code >= 0 else 128 - code


def _ending(code: int) -> str:
    return f"with code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
