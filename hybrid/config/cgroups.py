"""The cgroups that limit this process: its own and those above it, for one controller (cgroups(7)).

Both hierarchies are read, the unified one (version 2) and those of version 1. Missing or unreadable files mean no
limit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


@dataclasses.dataclass(frozen=True, slots=True)
class _Mount:
    """A mounted hierarchy of cgroups."""

    v2: bool
    inside: PurePosixPath  # the cgroup visible at the mount point
    point: PurePosixPath


def directories(controller: str, root: Path = Path("/")) -> Iterator[tuple[Path, bool]]:
    """Yield each cgroup that limits this process by `controller`, from the top of the mount down to its own.

    With its directory comes True for version 2. `root` is the directory of `proc` and `sys`.
    """
    paths = _own_cgroups(root)
    for mount in _mounts(controller, root):
        own = paths.get("" if mount.v2 else controller)
        if own is not None:
            for directory in _upwards(root / mount.point.relative_to("/"), _below(mount, own)):
                yield directory, mount.v2


def _own_cgroups(root: Path) -> dict[str, PurePosixPath]:
    """Return this process's cgroup paths: controller -> path; '' is the unified hierarchy."""
    found: dict[str, PurePosixPath] = {}
    for line in lines_of(root / "proc/self/cgroup"):
        fields = line.split(":", 2)  # number:controllers:path
        if len(fields) == 3:
            for controller in fields[1].split(","):
                found[controller] = PurePosixPath(fields[2])
    return found


def _mounts(controller: str, root: Path) -> Iterator[_Mount]:
    for line in lines_of(root / "proc/self/mountinfo"):
        # 36 35 98:0 /seen /point options [tags] - type source super-options (proc_pid_mountinfo(5))
        before, separator, after = line.partition(" - ")
        left, right = before.split(), after.split()
        if not separator or len(left) < 5 or not right:
            continue
        v2 = right[0] == "cgroup2"
        if v2 or (right[0] == "cgroup" and controller in right[-1].split(",")):
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


def lines_of(path: Path) -> list[str]:
    """Return the lines of a file of the kernel; none if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
