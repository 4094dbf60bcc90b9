"""How much memory may be used: the machine's against the limits of a cgroup tree in a temporary directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid.config.memory import usable

V2 = ("0::/shop/web\n", "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "", "memory.max")
V1 = (
    "9:memory:/shop/web\n3:cpu:/elsewhere\n",
    "33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
    "/memory",
    "memory.limit_in_bytes",
)


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def test_without_files_the_limit_is_not_known(tmp_path: Path) -> None:
    assert usable(tmp_path) is None


def test_without_cgroups_it_is_the_memory_of_the_machine(tmp_path: Path) -> None:
    write(tmp_path, {"proc/meminfo": "MemTotal:       2048 kB\nMemFree:        1024 kB\n"})
    assert usable(tmp_path) == 2048 * 1024


@pytest.mark.parametrize("version", [V2, V1], ids=["v2", "v1"])
@pytest.mark.parametrize(
    ("outer", "inner", "expected"),
    [("5000", "max", 5000), ("5000", "4000", 4000), ("max", "9223372036854771712", 10240)],
)
def test_the_tightest_limit_on_the_path_counts(
    tmp_path: Path, version: tuple[str, str, str, str], outer: str, inner: str, expected: int
) -> None:
    own, mounts, folder, name = version
    write(
        tmp_path,
        {
            "proc/meminfo": "MemTotal:  10 kB\n",
            "proc/self/cgroup": own,
            "proc/self/mountinfo": mounts,
            f"sys/fs/cgroup{folder}/shop/{name}": outer + "\n",
            f"sys/fs/cgroup{folder}/shop/web/{name}": inner + "\n",
        },
    )
    assert usable(tmp_path) == expected
