"""`--offload-to`: the calls of `hybrid.offload` run on a Dask cluster, whose processes do not have hybrid."""

from __future__ import annotations

import importlib.util
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import processes
from support.clients import ask
from support.dask_cluster import DaskCluster, DaskProcesses, dask_cluster
from support.operated import Line
from support.process import HybridProcess
from support.service import eventually, serving

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None, reason="needs Dask: pip install distributed"
)
WAYS = {"coroutines": ("epoll", "app"), "greenlets": ("gevent", "wsgi")}


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskProcesses]:
    made = DaskProcesses(tmp_path_factory.mktemp("dask"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def cluster(dask: DaskProcesses) -> Iterator[DaskCluster]:
    with dask_cluster(dask) as found:
        yield found


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextmanager
def offloading(tmp_path: Path, cluster: DaskCluster, *more: str, way: str = "coroutines") -> Iterator[HybridProcess]:
    """Run a service that offloads to the cluster; it has connected."""
    loop, target = WAYS[way]
    control = tmp_path / "control"
    options = ("--workers", "1", "--loop", loop, "--control", str(control), "--offload-to", cluster.address, *more)
    with serving(f"clustered:{target}", *options, cwd=tmp_path, growth=8) as process:
        yield process


def get(process: HybridProcess, target: str) -> str:
    """Request a target; return the answer's body."""
    request = f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    return ask(process.address, request, 60).partition(b"\r\n\r\n")[2].decode()


class Asked:
    """A request that is waiting for its answer."""

    def __init__(self, process: HybridProcess, target: str) -> None:
        self._found: list[str] = []
        self._thread = threading.Thread(target=lambda: self._found.append(get(process, target)))
        self._thread.start()

    def answer(self) -> str:
        self._thread.join(60)
        return self._found[0]


def status(tmp_path: Path) -> dict[str, Any]:
    """Return what the status says of the service."""
    line = Line(str(tmp_path / "control"))
    try:
        found: dict[str, Any] = line.result("status")["services"][0]
    finally:
        line.close()
    return found


def companions(tmp_path: Path) -> dict[str, int]:
    return {row["companion"]: row["pid"] for row in status(tmp_path)["companions"] if row["state"] == "ready"}


def runs(name: Path) -> int:
    """Wait until a call runs; return the pid of its process."""
    eventually(Path(f"{name}.runs").exists, "the call runs")
    return int(Path(f"{name}.runs").read_text())


def times_run(name: Path) -> int:
    return len(Path(f"{name}.runs-all").read_text())


# --- calls and their outcomes


def test_functions_closures_and_errors_go_to_the_cluster(tmp_path: Path, cluster: DaskCluster, way: str) -> None:
    with offloading(tmp_path, cluster, way=way) as process:
        assert get(process, "/echo?hi") == "hi"
        assert get(process, "/closure?41") == "42"
        text = get(process, "/fails?lost")
        assert text.startswith("LookupError: lost <- in the offload worker:\nTraceback (most recent call last):\n")
        assert "clustered_work.py" in text
        assert get(process, "/exits?now").startswith("OffloadError: exits: SystemExit: now")
        assert set(companions(tmp_path)) == {"dask"}, "there are no offload workers"


def test_large_arguments_and_results_arrive_whole(tmp_path: Path, cluster: DaskCluster, way: str) -> None:
    with offloading(tmp_path, cluster, way=way) as process:
        for size in (100_000, 500_000, 5_000_000):  # in the message, in shared memory, directly to a Dask worker
            assert get(process, f"/sent?{size}") == f"{size}"
            assert get(process, f"/got?{size}") == f"{size} bytes"
        assert get(process, "/array?3000000") == "7 3000000", "memory beside the pickle can be written"


def test_a_module_that_the_cluster_lacks_is_the_error_of_the_call(tmp_path: Path, cluster: DaskCluster) -> None:
    with offloading(tmp_path, cluster) as process:
        assert get(process, "/at_home?x").startswith("ModuleNotFoundError: No module named 'clustered'")
        assert get(process, "/echo?hi") == "hi", "other calls go on"


def test_a_result_above_the_limit_is_refused(tmp_path: Path, cluster: DaskCluster) -> None:
    with offloading(tmp_path, cluster, "--offload-max-result", "1M") as process:
        assert "--offload-max-result allows" in get(process, "/got?2000000")


# --- calls that are given up


def test_a_timeout_interrupts_the_call(tmp_path: Path, cluster: DaskCluster, way: str) -> None:
    name = tmp_path / "call"
    with offloading(tmp_path, cluster, way=way) as process:
        get(process, "/echo?connected")
        assert get(process, f"/wait?{name}&timeout=2").startswith("OffloadTimeout: wait has not ended within 2 s")
        eventually(Path(f"{name}.interrupted").exists, "it was interrupted")


def test_a_cancelled_call_is_interrupted_and_its_worker_runs_others(tmp_path: Path, cluster: DaskCluster) -> None:
    name = tmp_path / "call"
    with offloading(tmp_path, cluster) as process:
        assert get(process, f"/cancelled/wait?{name}").startswith("OffloadCancelled")
        eventually(Path(f"{name}.interrupted").exists, "it was interrupted")
        eventually(lambda: status(tmp_path)["offload"]["pools"][0]["running"] == 0, "it is not counted any more")
        assert {get(process, "/echo?a"), get(process, "/echo?b")} == {"a", "b"}


def test_a_call_that_catches_everything_is_given_up_after_a_second(tmp_path: Path, cluster: DaskCluster) -> None:
    name = tmp_path / "call"
    with offloading(tmp_path, cluster) as process:
        assert get(process, f"/cancelled/swallow?{name}").startswith("OffloadCancelled")
        process.wait_for_log("has not ended within 1 s on the Dask cluster: it goes on there")
        name.touch()


# --- deaths


def test_a_killed_dask_worker_fails_its_call_which_is_not_run_again(
    tmp_path: Path, cluster: DaskCluster, way: str
) -> None:
    name = tmp_path / "call"
    with offloading(tmp_path, cluster, way=way) as process:
        asked = Asked(process, f"/wait?{name}")
        cluster.kills(runs(name))
        assert asked.answer().startswith("OffloadDied: the process that ran wait has died: its Dask worker tcp://")
        assert get(process, "/echo?hi") == "hi"
        assert times_run(name) == 1


def test_a_call_whose_dask_worker_leaves_the_cluster_is_not_run_again(tmp_path: Path, cluster: DaskCluster) -> None:
    name = tmp_path / "call"
    with offloading(tmp_path, cluster) as process:
        asked = Asked(process, f"/wait?{name}")
        cluster.takes_away(runs(name))
        assert asked.answer().startswith("OffloadDied: the process that ran wait has died: its Dask worker left")
        assert get(process, "/echo?hi") == "hi"
        assert times_run(name) == 1


def test_a_call_with_retries_is_run_again(tmp_path: Path, cluster: DaskCluster) -> None:
    with offloading(tmp_path, cluster) as process:
        assert get(process, f"/die_once?{tmp_path / 'once'}&retries=1") == "survived"
        cluster.replaces(int((tmp_path / "once").read_text()))


def test_a_killed_gateway_has_a_successor(tmp_path: Path, cluster: DaskCluster) -> None:
    name = tmp_path / "call"
    with offloading(tmp_path, cluster) as process:
        asked = Asked(process, f"/wait?{name}")
        runs(name)
        os.kill(companions(tmp_path)["dask"], signal.SIGKILL)
        assert asked.answer().startswith("OffloadDied")
        name.touch()
        assert get(process, "/echo?hi") == "hi"


# --- ends


def test_a_stop_waits_for_the_calls_of_requests(tmp_path: Path, cluster: DaskCluster, way: str) -> None:
    name = tmp_path / "call"
    with offloading(tmp_path, cluster, way=way) as process:
        asked = Asked(process, f"/wait?{name}")
        runs(name)
        os.kill(process.pid, signal.SIGTERM)
        process.wait_for_log("draining 1 connection")
        name.touch()
        assert asked.answer() == "waited"
        assert process.wait() == 0


def test_a_reload_lets_calls_of_the_old_generation_end(tmp_path: Path, cluster: DaskCluster) -> None:
    name = tmp_path / "call"
    with offloading(tmp_path, cluster) as process:
        asked = Asked(process, f"/wait?{name}")
        runs(name)
        os.kill(process.pid, signal.SIGHUP)
        process.wait_for_log(r"web\.dask/0 gen=2 .* connected to the Dask scheduler")
        assert get(process, "/echo?hi") == "hi"
        name.touch()
        assert asked.answer() == "waited"


def test_the_gateway_ends_with_a_killed_supervisor(tmp_path: Path, cluster: DaskCluster) -> None:
    with offloading(tmp_path, cluster) as process:
        get(process, "/echo?hi")
        pid = companions(tmp_path)["dask"]
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        eventually(lambda: not processes.group(process.pid) and not processes.is_alive(pid), "none is left")


def test_the_gateway_shows_its_stacks(tmp_path: Path, cluster: DaskCluster) -> None:
    with offloading(tmp_path, cluster) as process:
        get(process, "/echo?hi")
        line = Line(str(tmp_path / "control"))
        try:
            (row,) = line.result("stacks", service="web.dask")["workers"]
        finally:
            line.close()
        functions = {frame["function"] for thread in row["threads"] for frame in thread["frames"]}
        assert "_accept_all" in functions, row


# --- the scheduler


def test_without_a_fallback_calls_fail_until_the_scheduler_is_back(
    tmp_path: Path, dask: DaskProcesses, way: str
) -> None:
    name = tmp_path / "call"
    with dask_cluster(dask) as cluster, offloading(tmp_path, cluster, way=way) as process:
        asked = Asked(process, f"/wait?{name}")
        runs(name)
        assert status(tmp_path)["offload"]["cluster"]["connected"]
        cluster.stops()
        assert "was lost while it ran; it may go on" in asked.answer()
        process.wait_for_log(r"web\.dask/0 .* cannot reach the Dask scheduler")
        assert get(process, "/echo?hi").startswith(
            f"OffloadError: echo: the Dask scheduler {cluster.address} cannot be reached: "
        )
        assert status(tmp_path)["offload"]["cluster"]["trouble"]
        cluster.starts()
        process.wait_for_log(r"web\.dask/0 .* connected to the Dask scheduler", count=2)
        assert get(process, "/echo?hi") == "hi"


def test_with_the_local_fallback_offload_workers_run_calls_meanwhile(
    tmp_path: Path, dask: DaskProcesses, way: str
) -> None:
    with (
        dask_cluster(dask) as cluster,
        offloading(tmp_path, cluster, "--offload-fallback", "local", "--offload-workers", "1", way=way) as process,
    ):
        get(process, "/echo?hi")
        cluster.stops()
        process.wait_for_log(r"web\.dask/0 .* cannot reach the Dask scheduler")
        assert int(get(process, "/parent?x")) == companions(tmp_path)["cpu"]
        cluster.starts()
        process.wait_for_log(r"web\.dask/0 .* connected to the Dask scheduler", count=2)
        here = companions(tmp_path)["cpu"]
        eventually(lambda: int(get(process, "/parent?x")) != here, "the cluster runs calls again")


def test_a_scheduler_that_never_was_there_fails_calls_with_its_address(tmp_path: Path) -> None:
    options = ("--workers", "1", "--offload-to", "tcp://127.0.0.1:1")
    with serving("clustered:app", *options, cwd=tmp_path, growth=8) as process:
        assert "the Dask scheduler tcp://127.0.0.1:1 cannot be reached" in get(process, "/echo?hi")
