"""The queues of a service's offloaded calls: one for each generation and each pool that has offload workers in it.

The supervisor owns them, so calls that wait outlive any offload worker.
"""

from __future__ import annotations

import socket
from collections.abc import Collection

from hybrid.workers.contract import offload_queue


class OffloadQueues:
    """Opens queues as they are needed. No method blocks."""

    def __init__(self) -> None:
        self.key = offload_queue.new_key()
        """Names the queues: those who have it know their addresses."""
        self._open: dict[tuple[int, str], socket.socket] = {}  # generation and name of a pool -> its queue

    def of(self, generation: int, pool: str) -> socket.socket:
        """Return the queue of a generation for a pool. Raises `OSError`."""
        place = generation, pool
        if place not in self._open:
            self._open[place] = offload_queue.listen(self.key, generation, pool)
        return self._open[place]

    def close_unserved(self, served: Collection[tuple[int, str]], before: int) -> None:
        """Close those of generations before `before` that no offload worker serves: their callers help themselves."""
        for place in [place for place in self._open if place[0] < before and place not in served]:
            self._open.pop(place).close()

    def close_old(self, living: Collection[int]) -> None:
        """Close those of generations without children."""
        for place in [place for place in self._open if place[0] not in living]:
            self._open.pop(place).close()

    def close(self, besides: socket.socket | None = None) -> None:
        """Close all, but for one. May be called twice, and in children."""
        for place, queue in list(self._open.items()):
            if queue is not besides:
                queue.close()
                del self._open[place]
