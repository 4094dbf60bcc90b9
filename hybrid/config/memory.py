"""How much memory this process and its neighbours may use: the machine's, or the tightest limit of a cgroup.

Kernel: cgroup-v2.rst "memory.max"; version 1: memory.rst "memory.limit_in_bytes".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hybrid.config.cgroups import directories, lines_of


def usable(root: Path = Path("/")) -> int | None:
    """Return bytes; None if it is not known. `root` is the directory of `proc` and `sys`. Does not block."""
    return min([*_of_the_machine(root), *_limits(root)], default=None)


def _of_the_machine(root: Path) -> Iterator[int]:
    for line in lines_of(root / "proc/meminfo"):
        name, _, rest = line.partition(":")
        words = rest.split()
        if name == "MemTotal" and words and words[0].isdigit():
            yield int(words[0]) * 1024


def _limits(root: Path) -> Iterator[int]:
    for directory, v2 in directories("memory", root):
        text = " ".join(lines_of(directory / ("memory.max" if v2 else "memory.limit_in_bytes"))).strip()
        if text.isdigit():  # not "max"; version 1 has a huge number without a limit
            yield int(text)
