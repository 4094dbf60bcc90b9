"""`Outbox`: responses that become ready within one turn of the loop are sent together at its end.

A send wakes the waiting client, on another core or behind the network card, which costs the sender more than the rest
of send(2). If all are sent in a row, only the first response has to wake one. Benchmarks: `python -m benchmarks wsgi`.

But a response must not wait for other requests to be processed. So only complete responses are held, few of them, and
the next response flushes them once the first has waited for `LONGEST`. A request that computes or blocks for long
produces no response in that time, and that cannot be known in advance. It delays held responses once: after that, each
response is sent immediately for `REST` times as long as they had waited, at most `LONGEST_REST`.
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
    """A transport that holds a response back."""

    def flush(self) -> None:
        """Send the response. Must not raise."""
        ...


class Outbox:
    """One per loop; belongs to its thread."""

    __slots__ = ("_held", "_rests_until", "_since", "open")

    def __init__(self) -> None:
        self.open = False
        """True if responses may be held: `flush` will be called at the end of this turn."""
        self._held: list[Holding] = []
        self._since = 0.0
        self._rests_until = 0.0

    def begin(self) -> None:
        """A turn with more than one event begins."""
        self.open = self._rests_until == 0.0 or self._has_rested()

    def hold(self, holding: Holding) -> None:
        """Register `holding`, which has a response to send. Only while `open`."""
        held = self._held
        held.append(holding)
        if len(held) == 1:
            self._since = monotonic()
        elif len(held) >= MOST_HELD or monotonic() - self._since > LONGEST:
            self.flush()

    def flush(self) -> None:
        """Send all held responses; called at the end of the turn."""
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
        """Drop held responses in a process that an application forked: the worker sends them."""
        self.open = False
        self._held.clear()

    def _has_rested(self) -> bool:
        if monotonic() < self._rests_until:
            return False
        self._rests_until = 0.0
        return True
