"""How many cores this process may really use: the meaning of `--workers auto`.

The machine's count is wrong inside a container, and the affinity does not include quotas: a container with `--cpus=1`
on a machine with 128 cores sees 128 cores in both. So the count is the smaller of the affinity and the tightest quota
on the path of this process through the cgroup tree (cgroups(7); kernel: cgroup-v2.rst "cpu.max", sched-bwc.rst
"cpu.cfs_quota_us").
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from hybrid.config.cgroups import directories, lines_of


def count_usable(affinity: int | None = None, root: Path = Path("/")) -> int:
    """Return the number of cores this process can keep busy, at least 1.

    `affinity` is the number of cores the scheduler may choose from (None: ask the kernel). `root` is the directory of
    `proc` and `sys`. Missing or unreadable files mean no limit. Does not block.
    """
    allowed = affinity if affinity is not None else len(os.sched_getaffinity(0))
    cores = min([float(allowed), *_quotas(root)])
    return max(1, math.ceil(cores))  # 1.5 cores: a second worker can use the half


def _quotas(root: Path) -> Iterator[float]:
    """Yield the cores granted by each cgroup."""
    for directory, v2 in directories("cpu", root):
        quota = _quota_v2(directory) if v2 else _quota_v1(directory)
        if quota is not None:
            yield quota


def _quota_v2(directory: Path) -> float | None:
    """`cpu.max` holds "quota period" in microseconds, or "max period"."""
    fields = " ".join(lines_of(directory / "cpu.max")).split()
    return _cores(*fields) if len(fields) == 2 else None


def _quota_v1(directory: Path) -> float | None:
    """Two files, in microseconds; a quota of -1 means no quota."""
    quota = " ".join(lines_of(directory / "cpu.cfs_quota_us"))
    period = " ".join(lines_of(directory / "cpu.cfs_period_us"))
    return _cores(quota, period)


def _cores(quota: str, period: str) -> float | None:
    try:
        amount, per = int(quota), int(period)
    except ValueError:  # "max", or a missing file
        return None
    return amount / per if amount > 0 and per > 0 else None
