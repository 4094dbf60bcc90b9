"""Decides when a reloading watcher starts and ends its child.

`hybrid.autoreload.watcher` owns the processes.
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

RESTART_GRACE = 2.0  # seconds for connections to finish at a restart; a developer does not want to wait longer
QUIT_GRACE = 5.0  # seconds for a supervisor to end after SIGQUIT
STOPS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
_STOPPED_AS_ASKED = frozenset({Exit.OK, Exit.KILLED})

logger = logging.getLogger(LOGGER_NAME)


class Child(Protocol):
    """A running service, with the interface of `subprocess.Popen`."""

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""

    def send_signal(self, sig: int, /) -> None:
        """Send a signal; does nothing if the child has ended."""


@dataclasses.dataclass(frozen=True, slots=True)
class Signalled:
    """A signal to the watcher."""

    number: signal.Signals
    is_for_all: bool
    """True if the kernel sent it to the whole process group, as for a Ctrl-C: the child got it too."""


class Phase(enum.Enum):
    """The phase of the watcher."""

    STARTING = "waiting for changes to settle before a child is started"
    RUNNING = "a child runs"
    RESTARTING = "a child has been asked to end; another one follows"
    BROKEN = "the child has ended by itself; waiting for a change"
    ENDING = "the watcher was stopped; waiting for the child to end"


class Reloader:
    """Decides when a child is started and ended. Never waits: each batch of changes, empty or not, is one step."""

    def __init__(
        self,
        watched: Watched,
        start: Callable[[], Child],
        signals: Callable[[], Iterable[Signalled]],
        *,
        grace: float = RESTART_GRACE,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`start` starts a child, `signals` returns the signals since its last call, `grace` and `now` are seconds."""
        self._watched = watched
        self._start_child = start
        self._signals = signals
        self._grace = grace
        self._now = now
        self._phase = Phase.STARTING
        self._child: Child | None = None
        self._changed: frozenset[Path] = frozenset()  # since the last start
        self._escalation: list[tuple[float, signal.Signals]] = []  # time -> signal for a child that does not end
        self._code: int | None = None  # exit code, once the watcher is done

    def run(self, changes: Iterable[frozenset[Path]]) -> int:
        """Run until the watcher or the child is stopped by a signal; return the exit code."""
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
            self._escalation.clear()  # from now on the service's own grace period counts

    def _translated(self, number: signal.Signals) -> signal.Signals:
        """Translate SIGINT to a signal that the child may get twice.

        If kill(2) sent SIGINT to the whole process group, the child has got it too, and a second one would end it at
        once.
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
        self._escalation = [(until, signal.SIGQUIT), (until + QUIT_GRACE, signal.SIGKILL)]

    def _on_child(self) -> None:
        code = None if self._child is None else self._child.poll()
        if self._child is not None and code is None:
            self._escalate(self._child)
            return
        self._child = None
        match self._phase:
            case Phase.ENDING:
                self._code = int(Exit.OK) if code is None else _shell_code(code)
            case Phase.RESTARTING:
                self._phase = Phase.STARTING
            case Phase.RUNNING if code in _STOPPED_AS_ASKED:  # a signal to the child itself
                self._code = code
            case Phase.RUNNING:
                self._phase = Phase.BROKEN
                logger.warning("reload: the service has ended %s; waiting for a change", _ending(code or 0))

    def _escalate(self, child: Child) -> None:
        while self._escalation and self._escalation[0][0] <= self._now():
            child.send_signal(self._escalation.pop(0)[1])

    def _start(self) -> None:
        self._escalation.clear()
        _forget_compiled(self._changed)
        self._changed = frozenset()
        try:
            self._child = self._start_child()
        except OSError as error:  # no process or no memory; the next change may succeed
            logger.error("reload: the service cannot be started: %s; waiting for a change", error)
            self._phase = Phase.BROKEN
        else:
            self._phase = Phase.RUNNING


def _forget_compiled(sources: Iterable[Path]) -> None:
    """Remove the compiled forms of changed modules.

    By default Python compares the time, in whole seconds, and the size of the source (PEP 552). It would use the old
    code if a file changes twice within a second and keeps its length.
    """
    for source in sources:
        if source.suffix == ".py":
            with contextlib.suppress(OSError):
                Path(importlib.util.cache_from_source(source)).unlink()


def _shell_code(code: int) -> int:
    return code if code >= 0 else 128 - code


def _ending(code: int) -> str:
    return f"with code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
