"""How many cores this process may really use: the meaning of `--workers auto`.

The machine's count is wrong inside a container, and the affinity does not include quotas: a container with `--cpus=1`
on a machine with 128 cores sees 128 cores in both. So the count is the smaller of the affinity and the tightest quota
on the path of this process through the cgroup tree (cgroups(7); kernel: cgroup-v2.rst "cpu.max", sched-bwc.rst
"cpu.cfs_quota_us").
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def count_usable(affinity: int | None = None, root: Path = Path("/")) -> int:
    """Return the number of cores this process can keep busy, at least 1.

    `affinity` is the number of cores the scheduler may choose from (None: ask the kernel). `root` is the directory of
    `proc` and `sys`. Missing or unreadable files mean no limit. Does not block.
    """
    allowed = affinity if affinity is not None else len(os.sched_getaffinity(0))
    cores = min([float(allowed), *_quotas(root)])
    return max(1, math.ceil(cores))  # 1.5 cores: a second worker can use the half


@dataclasses.dataclass(frozen=True, slots=True)
class _Mount:
    """A mounted hierarchy that may limit the CPU."""

    v2: bool
    inside: PurePosixPath  # the cgroup visible at the mount point
    point: PurePosixPath


def _quotas(root: Path) -> Iterator[float]:
    """Yield the cores granted by each cgroup, from this process's cgroup up to the top of the mount."""
    paths = _own_cgroups(root)
    for mount in _mounts(root):
        own = paths.get("" if mount.v2 else "cpu")
        if own is None:
            continue
        point = root / mount.point.relative_to("/")
        for directory in _upwards(point, _below(mount, own)):
            quota = _quota_v2(directory) if mount.v2 else _quota_v1(directory)
            if quota is not None:
                yield quota


def _own_cgroups(root: Path) -> dict[str, PurePosixPath]:
    """Return this process's cgroup paths: controller -> path; '' is the unified hierarchy."""
    found: dict[str, PurePosixPath] = {}
    for line in _lines(root / "proc/self/cgroup"):
        fields = line.split(":", 2)  # number:controllers:path
        if len(fields) == 3:
            for controller in fields[1].split(","):
                found[controller] = PurePosixPath(fields[2])
    return found


def _mounts(root: Path) -> Iterator[_Mount]:
    for line in _lines(root / "proc/self/mountinfo"):
        # 36 35 98:0 /seen /point options [tags] - type source super-options (proc_pid_mountinfo(5))
        before, separator, after = line.partition(" - ")
        left, right = before.split(), after.split()
        if not separator or len(left) < 5 or not right:
            continue
        v2 = right[0] == "cgroup2"
        if v2 or (right[0] == "cgroup" and "cpu" in right[-1].split(",")):
            yield _Mount(v2, PurePosixPath(_unescaped(left[3])), PurePosixPath(_unescaped(left[4])))


def _unescaped(text: str) -> str:
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(escape, character)
    return text


def _below(mount: _Mount, own: PurePosixPath) -> PurePosixPath:
    """Return the path of the cgroup `own` below the mount point; the mount point itself if `own` is outside of it."""
    nowhere = PurePosixPath()
    if ".." in own.parts:  # outside of this process's cgroup namespace
        return nowhere
    return own.relative_to(mount.inside) if own.is_relative_to(mount.inside) else nowhere


def _upwards(top: Path, below: PurePosixPath) -> Iterator[Path]:
    yield top
    for part in below.parts:
        top = top / part
        yield top


def _quota_v2(directory: Path) -> float | None:
    """`cpu.max` holds "quota period" in microseconds, or "max period"."""
    fields = " ".join(_lines(directory / "cpu.max")).split()
    return _cores(*fields) if len(fields) == 2 else None


def _quota_v1(directory: Path) -> float | None:
    """Two files, in microseconds; a quota of -1 means no quota."""
    quota = " ".join(_lines(directory / "cpu.cfs_quota_us"))
    period = " ".join(_lines(directory / "cpu.cfs_period_us"))
    return _cores(quota, period)


def _cores(quota: str, period: str) -> float | None:
    try:
        amount, per = int(quota), int(period)
    except ValueError:  # "max", or a missing file
        return None
    return amount / per if amount > 0 and per > 0 else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
