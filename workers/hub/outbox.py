"""`Outbox`: answers that become ready within one turn of the loop go out together, at its end.

A send wakes the client that waits for it, on another core or behind the network card, which costs the sender more than
the rest of send(2). Sent in one go, only the first answer finds a sleeper. Benchmarks: `python -m benchmarks wsgi`.

An answer must not wait for somebody else's work, though. So only whole answers are held, few of them, and the next
answer sends them once the first has waited for `LONGEST`. A request that computes or blocks for long gives no answer
meanwhile, and nobody can tell beforehand. It delays those that are held once: from then on each goes out at once, for
`REST` times as long as they had waited, at most `LONGEST_REST`.
"""

from __future__ import annotations

from time import monotonic
from typing import Protocol

MOST_HELD = 64
LONGEST = 0.001  # seconds
PATIENCE = 0.002  # seconds
REST = 100
LONGEST_REST = 60.0  # seconds


class Holding(Protocol):
    """What holds an answer back."""

    def flush(self) -> None:
        """Send it. Must not raise."""
        ...


class Outbox:
    """One per loop; belongs to its thread."""

    __slots__ = ("_held", "_rests_until", "_since", "open")

    def __init__(self) -> None:
        self.open = False
        """Whether answers may be held: `flush` is sure to be called at the end of this turn."""
        self._held: list[Holding] = []
        self._since = 0.0
        self._rests_until = 0.0

    def begin(self) -> None:
        """A turn with more than one event begins."""
        self.open = self._rests_until == 0.0 or self._has_rested()

    def hold(self, holding: Holding) -> None:
        """`holding` has an answer to send. Only while `open`."""
        held = self._held
        held.append(holding)
        if len(held) == 1:
            self._since = monotonic()
        elif len(held) >= MOST_HELD or monotonic() - self._since > LONGEST:
            self.flush()

    def flush(self) -> None:
        """Send what is held; called at the end of the turn."""
        held, self._held = self._held, []
        if held:
            now = monotonic()
            waited = now - self._since
            if waited > PATIENCE:
                self.open = False
                self._rests_until = now + min(REST * waited, LONGEST_REST)
            for holding in held:
                holding.flush()

    def end(self) -> None:
        """The turn is over."""
        self.open = False
        self.flush()

    def abandon(self) -> None:
        """Send nothing of what is held: this is a process that an application forked, and the worker sends it."""
        self.open = False
        self._held.clear()

    def _has_rested(self) -> bool:
        if monotonic() < self._rests_until:
            return False
        self._rests_until = 0.0
        return True
