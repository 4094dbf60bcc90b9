"""How many cores are usable: affinity against the quotas of a cgroup tree in a temporary directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.config.cpus import count_usable

V2_MOUNT = "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1_MOUNT = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"


class Machine:
    """A root directory with the files that the count reads."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str) -> Machine:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return self

    def v2(self, own: str, mount: str = V2_MOUNT) -> Machine:
        return self.write("proc/self/cgroup", f"0::{own}\n").write("proc/self/mountinfo", mount)

    def v1(self, own: str, mount: str = V1_MOUNT) -> Machine:
        lines = f"9:memory:/elsewhere\n3:cpu,cpuacct:{own}\n0::/init.scope\n"
        return self.write("proc/self/cgroup", lines).write("proc/self/mountinfo", mount)

    def v1_quota(self, directory: str, quota: int, period: int = 100_000) -> Machine:
        base = f"sys/fs/cgroup/cpu,cpuacct{directory}"
        return self.write(f"{base}/cpu.cfs_quota_us", f"{quota}\n").write(f"{base}/cpu.cfs_period_us", f"{period}\n")

    def count(self, affinity: int = 64) -> int:
        return count_usable(affinity, self.root)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_cgroup_files_the_affinity_counts(machine: Machine) -> None:
    assert machine.count(affinity=3) == 3


def test_a_v2_quota_is_rounded_up(machine: Machine) -> None:
    """With a core and a half, a second worker is useful."""
    machine.v2("/").write("sys/fs/cgroup/cpu.max", "150000 100000\n")
    assert machine.count() == 2


def test_the_affinity_counts_if_it_is_smaller_than_the_quota(machine: Machine) -> None:
    machine.v2("/").write("sys/fs/cgroup/cpu.max", "800000 100000\n")
    assert machine.count(affinity=2) == 2


def test_max_means_no_quota(machine: Machine) -> None:
    machine.v2("/").write("sys/fs/cgroup/cpu.max", "max 100000\n")
    assert machine.count() == 64


def test_the_tightest_quota_on_the_way_up_counts(machine: Machine) -> None:
    """A slice above the process's own group may grant less than the group asks for."""
    machine.v2("/a.slice/b.service")
    machine.write("sys/fs/cgroup/a.slice/cpu.max", "300000 100000\n")
    machine.write("sys/fs/cgroup/a.slice/b.service/cpu.max", "700000 100000\n")
    assert machine.count() == 3


def test_a_quota_of_a_sibling_does_not_count(machine: Machine) -> None:
    machine.v2("/mine").write("sys/fs/cgroup/theirs/cpu.max", "100000 100000\n")
    assert machine.count() == 64


def test_less_than_a_core_is_still_one_worker(machine: Machine) -> None:
    machine.v2("/").write("sys/fs/cgroup/cpu.max", "5000 100000\n")
    assert machine.count() == 1


def test_a_v1_quota_counts(machine: Machine) -> None:
    machine.v1("/docker/abc").v1_quota("/docker/abc", 250_000)
    assert machine.count() == 3


def test_minus_one_means_no_v1_quota(machine: Machine) -> None:
    machine.v1("/").v1_quota("", -1)
    assert machine.count() == 64


def test_a_v1_container_without_a_cgroup_namespace_is_found_below_its_mount(machine: Machine) -> None:
    """There the path is the host's, and the mount shows only this container's part of it."""
    machine.v1("/docker/abc", V1_MOUNT.replace(" / /sys", " /docker/abc /sys")).v1_quota("", 200_000)
    assert machine.count() == 2


def test_a_path_outside_of_the_namespace_means_the_mount_point_itself(machine: Machine) -> None:
    machine.v2("/../elsewhere").write("sys/fs/cgroup/cpu.max", "200000 100000\n")
    assert machine.count() == 2


def test_a_path_outside_of_the_mount_means_the_mount_point_itself(machine: Machine) -> None:
    machine.v2("/other", V2_MOUNT.replace(" / /sys", " /docker/abc /sys"))
    machine.write("sys/fs/cgroup/cpu.max", "200000 100000\n")
    assert machine.count() == 2


def test_a_mount_point_with_a_space_is_found(machine: Machine) -> None:
    machine.v2("/", V2_MOUNT.replace("/sys/fs/cgroup", "/my\\040groups")).write("my groups/cpu.max", "100000 100000\n")
    assert machine.count() == 1


@pytest.mark.parametrize("text", ["", "nonsense", "100000", "max", "0 0", "-5 100000", "a b"])
def test_an_unreadable_quota_is_none(machine: Machine, text: str) -> None:
    machine.v2("/").write("sys/fs/cgroup/cpu.max", text)
    assert machine.count(affinity=5) == 5


def test_malformed_lines_are_skipped(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "what\n0::/\n").write("proc/self/mountinfo", f"one two\na b - c\n{V2_MOUNT}")
    machine.write("sys/fs/cgroup/cpu.max", "100000 100000\n")
    assert machine.count() == 1


def test_a_hierarchy_without_this_process_does_not_count(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "9:memory:/\n").write("proc/self/mountinfo", V1_MOUNT).v1_quota("", 100_000)
    assert machine.count() == 64


@given(affinity=st.integers(1, 512))
def test_on_this_machine_the_count_is_between_one_and_the_affinity(affinity: int) -> None:
    assert 1 <= count_usable(affinity) <= affinity


def test_the_default_affinity_is_that_of_this_process() -> None:
    assert 1 <= count_usable() <= len(os.sched_getaffinity(0))
