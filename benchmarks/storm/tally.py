"""What a storm has counted. Imports nothing of ours: the tests load this file by its path."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

_STEPS = 50  # of the histogram, for each factor of e: 2 % between one and the next
_MOST_EXAMPLES = 20


@dataclasses.dataclass(slots=True)
class Tally:
    """Counts of requests; each that was begun ends in exactly one of the first nine."""

    right: int = 0
    """Answered with their own token."""
    wrong: int = 0
    """Answered with anything else: a foreign token, another status, bytes that are no answer."""
    refused: int = 0
    """Not begun: the connection was refused."""
    reset: int = 0
    """The connection was reset before the answer was whole."""
    closed_fresh: int = 0
    """The connection ended without a byte of an answer to the first request on it."""
    closed_reused: int = 0
    """The same for a later request: the server has closed a kept-alive connection without saying so before."""
    cut: int = 0
    """The connection ended in the middle of the answer."""
    timeouts: int = 0
    """Not connected, or no whole answer, within the time for a request."""
    errors: int = 0
    """Failures of the client's own system: no port, no descriptor."""
    begun: int = 0
    """Requests, and tries to connect for one."""
    connections: int = 0
    announced: int = 0
    """Connections of which the server has said, with an answer, that it closes them, though it was not asked to."""
    by_pid: dict[str, int] = dataclasses.field(default_factory=dict)
    """Right answers of each server process."""
    by_generation: dict[str, int] = dataclasses.field(default_factory=dict)
    latencies: dict[str, int] = dataclasses.field(default_factory=dict)
    """Right answers by step of their latency; see `percentile`. A latency includes the connecting."""
    longest: float = 0.0
    """The highest latency, seconds."""
    longest_gap: float = 0.0
    """The longest time without a right answer to anybody, seconds."""
    seconds: float = 0.0
    """From the first request to the last answer."""
    examples: list[str] = dataclasses.field(default_factory=list)
    """The first failures, in words."""
    expired: bool = False
    """Whether it was its deadline that ended the storm."""

    @property
    def failures(self) -> int:
        """Requests that were not answered right."""
        broken = self.refused + self.reset + self.closed_fresh + self.closed_reused + self.cut
        return self.wrong + broken + self.timeouts + self.errors

    @property
    def per_second(self) -> float:
        """Right answers a second."""
        return self.right / self.seconds if self.seconds else 0.0

    def percentile(self, percent: float) -> float:
        """Return the latency that `percent` of the right answers did not exceed, seconds, to 2 %; 0 without any."""
        goal = self.right * percent / 100
        for step in sorted(map(int, self.latencies)):
            goal -= self.latencies[str(step)]
            if goal <= 0:
                return math.exp((step + 1) / _STEPS) * 1e-6
        return self.longest

    def count_right(self, latency: float, pid: str, generation: str) -> None:
        """Note a right answer after `latency` seconds."""
        self.right += 1
        step = str(int(math.log(max(latency * 1e6, 1.0)) * _STEPS))
        self.latencies[step] = self.latencies.get(step, 0) + 1
        self.longest = max(self.longest, latency)
        self.by_pid[pid] = self.by_pid.get(pid, 0) + 1
        self.by_generation[generation] = self.by_generation.get(generation, 0) + 1

    def count_failure(self, kind: str, what: str) -> None:
        """Note a failure: the name of its count, and how it came."""
        setattr(self, kind, getattr(self, kind) + 1)
        if len(self.examples) < _MOST_EXAMPLES:
            self.examples.append(f"{kind}: {what}")

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data; `Tally(**data)` is the same again."""
        return dataclasses.asdict(self)
