"""A process that may open hardly any further descriptors, and how many it has open."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scarce_descriptors(spare: int) -> Iterator[None]:
    """Let no more than `spare` further descriptors be opened: EMFILE then. Those below the highest one count too."""
    kept = [os.dup(0) for _ in range(spare + 1)]
    for fd in kept:
        os.close(fd)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (kept[-1], limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)


def open_descriptors() -> int:
    """Return how many descriptors this process has open, and one more."""
    return len(list(Path("/proc/self/fd").iterdir()))
