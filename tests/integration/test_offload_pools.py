"""Pools of offload workers by name: each has its own processes, queue, limits and counts."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from support import processes
from support.clients import TIMEOUT, read_all
from support.offloading import HELD, get, is_gone, offload_workers, offloading, strength, wait_runs
from support.operated import Operated, operated
from support.process import HybridProcess
from support.service import eventually
from support.tcp import held

import hybrid

HEAD = '[service.web]\ntarget = "offloading:app"\nbind = "127.0.0.1:0"\nworkers = 1\noffload_workers = 1\n'
TABLE = "[service.web.offload.ml]\nworkers = 1\n"


@contextmanager
def pooling(tmp_path: Path, *arguments: str, pool: str = "ml=1", growth: int = HELD) -> Iterator[HybridProcess]:
    """Serve with one worker and a pool `ml`; the supervisor holds `growth` descriptors for the latter."""
    with offloading(tmp_path, "--offload", pool, *arguments, workers=1, more_growth=growth) as process:
        yield process


@contextmanager
def asking(process: HybridProcess, target: str) -> Iterator[socket.socket]:
    """Send a request; give its connection."""
    with socket.create_connection(process.address, TIMEOUT) as client:
        client.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        yield client


def answer(client: socket.socket) -> str:
    """Return the body of the response."""
    return read_all(client).partition(b"\r\n\r\n")[2].decode()


def pools(run: Operated) -> dict[str, Any]:
    """Return what the status says of each pool."""
    (web,) = run.connects().result("status")["services"]
    return {pool["pool"]: pool for pool in web["offload"]["pools"]}


# --- the processes


def test_a_call_runs_in_the_processes_of_its_pool_which_start_with_it(tmp_path: Path) -> None:
    with pooling(tmp_path, pool="ml=2,nice=9", growth=HELD + 2) as process:
        first = get(process, "/where?&pool=ml").split()
        assert int(first[0]) in strength(process, 2, pool="ml")
        assert int(first[2]) == os.nice(0) + 9
        assert offload_workers(process) == [], "those of other calls have not started"
        other = int(get(process, "/where").split()[0])
        assert strength(process, 1) == [other]


def test_an_executor_has_a_pool(tmp_path: Path) -> None:
    with pooling(tmp_path) as process:
        assert [int(get(process, "/executor-ml/pid?"))] == strength(process, 1, pool="ml")


def test_greenlets_and_threads_name_a_pool(tmp_path: Path) -> None:
    with pooling(tmp_path) as process:
        found = {get(process, f"/{style}/pid?&pool=ml") for style in ("green", "thread", "plain")}
        assert found == {str(pid) for pid in strength(process, 1, pool="ml")}


def test_a_name_that_is_no_pool_is_an_error_with_those_that_are(tmp_path: Path) -> None:
    with pooling(tmp_path) as process:
        expected = "ValueError: pool: 'mll': this service has cpu and ml"
        assert get(process, "/green/echo?x&pool=mll") == expected
        assert get(process, "/thread/echo?x&pool=mll") == expected
        assert len(process.worker_pids()) == 1, "no offload worker has started"


def test_a_call_within_a_call_stays_in_its_process_whatever_its_pool(tmp_path: Path) -> None:
    with pooling(tmp_path) as process:
        assert get(process, "/nested?inner&pool=ml") == "True inner"


def test_a_pool_that_starts_with_the_service_is_there_before_a_call(tmp_path: Path) -> None:
    with pooling(tmp_path, pool="ml=1,at_start=true") as process:
        (pid,) = strength(process, 1, pool="ml")
        assert get(process, "/pid?&pool=ml") == str(pid)
        assert offload_workers(process) == []


def test_a_pool_works_without_other_offload_workers(tmp_path: Path) -> None:
    with offloading(tmp_path, "--offload", "ml", workers=0, more_growth=HELD + 2) as process:
        assert int(get(process, "/pid?&pool=ml")) in offload_workers(process, "ml")
        assert int(get(process, "/pid?")) not in process.worker_pids(), "it runs in a process for itself"


def handle(sock: socket.socket, address: object) -> None:
    """Tell if a call runs in this process, as a handler of a program that embeds a service."""
    sock.sendall(str(hybrid.offload(os.getpid, pool="ml").result() in (os.getpid(), os.getppid())).encode())


def test_a_service_in_a_program_has_pools() -> None:
    service = hybrid.Service(handle, bind="127.0.0.1:0", workers=1, offload_pools=[hybrid.OffloadPool("ml")])
    with hybrid.Supervisor(service) as supervisor:
        host, _, port = supervisor.addresses[0].rpartition(":")
        with socket.create_connection((host, int(port)), TIMEOUT) as client:
            assert read_all(client) == b"False"


# --- one pool does not disturb another


def test_calls_that_wait_for_one_pool_do_not_delay_those_of_another(tmp_path: Path) -> None:
    with pooling(tmp_path) as process, ExitStack() as stack:
        slow = [stack.enter_context(asking(process, f"/wait?go-{number}&pool=ml")) for number in range(3)]
        eventually(lambda: len(list(tmp_path.glob("go-*.runs"))) == 1, "one of them runs")
        assert get(process, "/echo?quick") == "quick"
        for number in range(3):
            (tmp_path / f"go-{number}").touch()
        assert [answer(client) for client in slow] == [str(pid) for pid in strength(process, 1, pool="ml") * 3]


def test_a_pool_has_limits_of_its_own(tmp_path: Path) -> None:
    with pooling(tmp_path, pool="ml=1,timeout=600ms,max_result=1000") as process:
        assert get(process, "/sleep?go&pool=ml") == "OffloadTimeout: sleep has not ended within 0.6 s"
        text = get(process, "/big?5000&pool=ml&timeout=20")
        assert re.fullmatch(
            r"OffloadError: big: the result has 50\d\d bytes, and max_result of the pool ml allows 1000", text
        )
        assert len(get(process, "/big?5000")) == 5003


def test_an_offload_worker_of_a_pool_is_recycled_by_its_own_limit(tmp_path: Path) -> None:
    with pooling(tmp_path, pool="ml=1,max_tasks=2") as process:
        first = get(process, "/pid?&pool=ml")
        other = get(process, "/pid?")
        assert get(process, "/pid?&pool=ml") == first
        (successor,) = strength(process, 1, besides=int(first), pool="ml")
        assert get(process, "/pid?&pool=ml") == str(successor)
        assert get(process, "/pid?") == other


def test_a_death_fails_the_call_and_replaces_the_process_of_its_pool(tmp_path: Path) -> None:
    with pooling(tmp_path) as process:
        other = int(get(process, "/pid?"))
        with asking(process, "/sleep?go&pool=ml") as client, asking(process, "/wait?two") as two:
            victim = wait_runs(tmp_path / "go")
            wait_runs(tmp_path / "two")
            os.kill(victim, signal.SIGKILL)
            assert answer(client).startswith("OffloadDied: the process that ran sleep has died: killed by SIGKILL")
            strength(process, 1, besides=victim, pool="ml")
            (tmp_path / "two").touch()
            assert answer(two) == str(other)
        process.wait_for_log(rf"web\.ml/0 gen=1 pid={victim} companion died: ")


def test_a_call_that_swallows_its_interruption_is_killed_in_its_pool(tmp_path: Path) -> None:
    with pooling(tmp_path) as process:
        other = get(process, "/pid?")
        assert get(process, "/swallow?go&timeout=0.6&pool=ml").startswith("OffloadTimeout: ")
        pid = wait_runs(tmp_path / "go")
        process.wait_for_log(rf"web\.ml/0 gen=1 pid={pid} .*swallow went on for a second")
        strength(process, 1, besides=pid, pool="ml")
        assert get(process, "/pid?") == other


# --- reload and stop


def test_a_stop_lets_the_calls_to_all_pools_end(tmp_path: Path) -> None:
    with pooling(tmp_path) as process, ExitStack() as stack:
        names = [(pool, number) for pool in ("cpu", "ml") for number in range(3)]
        clients = [stack.enter_context(asking(process, f"/wait?{pool}-{one}&pool={pool}")) for pool, one in names]
        for pool in ("cpu", "ml"):
            eventually(lambda pool=pool: len(list(tmp_path.glob(f"{pool}-*.runs"))) == 1, f"a call to {pool} runs")
        process.signal(signal.SIGTERM)
        process.wait_for_log("draining")
        for pool, number in names:
            (tmp_path / f"{pool}-{number}").touch()
        assert all(answer(client).isdigit() for client in clients)
        assert process.wait() == 0
        assert "died" not in process.stderr


def test_a_reload_gives_each_generation_its_pools(tmp_path: Path) -> None:
    """The old generation keeps a pool that the file no longer has; the new one has another in its place."""
    with operated(HEAD + TABLE, tmp_path) as run:
        process = run.process
        with asking(process, "/wait?go&pool=ml") as client:
            old = wait_runs(tmp_path / "go")
            (tmp_path / "hybrid.toml").write_text(HEAD + TABLE.replace("ml", "pdf"))
            run.connects().result("reload")
            refused = "ValueError: pool: 'ml': this service has cpu and pdf"
            # before, the old generation may accept a last connection
            eventually(lambda: get(process, "/green/echo?x&pool=ml&timeout=0.2") == refused, "the new one answers")
            assert int(get(process, "/pid?&pool=pdf")) in strength(process, 1, pool="pdf")
            assert processes.is_alive(old)
            (tmp_path / "go").touch()
            assert answer(client) == str(old)
        eventually(lambda: is_gone(old), "the pool of the old generation has ended")


def test_a_name_may_become_that_of_a_companion(tmp_path: Path) -> None:
    with operated(HEAD + TABLE, tmp_path) as run:
        first = int(get(run.process, "/pid?&pool=ml"))
        companion = '[service.web.companion.ml]\ntarget = "offloading:companion"\n'
        (tmp_path / "hybrid.toml").write_text(HEAD + companion)
        run.connects().result("reload")
        run.process.wait_for_log(r"web\.ml/0 gen=2 .* running companion")
        eventually(lambda: is_gone(first), "the offload worker has ended")


def test_a_pool_of_an_old_generation_that_dies_leaves_the_queue_of_another_open(tmp_path: Path) -> None:
    """It gets no other processes, so calls to it must not wait in its queue."""
    with operated(HEAD + TABLE, tmp_path) as run:
        process = run.process
        get(process, "/pid?&pool=ml")
        (victim,) = strength(process, 1, pool="ml")
        with asking(process, "/wait?go") as client:
            wait_runs(tmp_path / "go")
            run.connects().result("reload")
            queue = queue_of(victim)
            os.kill(victim, signal.SIGKILL)
            eventually(lambda: queue not in sockets().values(), "the queue of the dead pool is closed")
            assert queue.replace("-1-ml", "-1-cpu") in sockets().values()
            (tmp_path / "go").touch()
            assert answer(client).isdigit()


def sockets() -> dict[str, str]:
    """Return the addresses of all UNIX sockets: inode -> address."""
    rows = [row.split() for row in Path("/proc/net/unix").read_text().splitlines()]
    return {row[6]: row[7] for row in rows if len(row) > 7}


def queue_of(pid: int) -> str:
    """Return the address of the queue of an offload worker."""
    known = sockets()
    names = {known.get(str(inode), "") for inode in held(pid)}
    (found,) = {name for name in names if name.startswith("@hybrid-offload-")}
    return found


# --- what people see


def test_the_status_has_a_row_and_counts_for_each_pool(tmp_path: Path) -> None:
    with operated(HEAD + TABLE, tmp_path) as run:
        before = pools(run)
        assert [(name, pool["workers"], pool["has_started"]) for name, pool in before.items()] == [
            ("cpu", 1, False),
            ("ml", 1, False),
        ]
        with asking(run.process, "/wait?one&pool=ml"), asking(run.process, "/wait?two&pool=ml"):
            eventually(lambda: list(tmp_path.glob("*.runs")), "one of them runs")
            eventually(lambda: (pools(run)["ml"]["running"], pools(run)["ml"]["waiting"]) == (1, 1), "they are counted")
            get(run.process, "/fails?x")
            eventually(lambda: pools(run)["cpu"]["calls"]["raised"] == 1, "the call to the other pool is counted")
            assert pools(run)["ml"]["calls"]["raised"] == 0
            (tmp_path / "one").touch()
            (tmp_path / "two").touch()
            eventually(lambda: pools(run)["ml"]["calls"]["done"] == 2, "they have ended")
        (pid,) = strength(run.process, 1, pool="ml")
        shown = HybridProcess("status", "--control", str(run.control), cwd=tmp_path)
        assert shown.wait() == 0
        assert re.search(rf"^web\.ml/0 +{pid} +ready", shown.stdout, re.MULTILINE), shown.stdout
        shown.close()


def test_one_of_a_pool_is_restarted_by_its_name(tmp_path: Path) -> None:
    with operated(HEAD + TABLE, tmp_path) as run:
        before = int(get(run.process, "/pid?&pool=ml"))
        run.connects().result("restart", service="web.ml", slot=0)
        (after,) = strength(run.process, 1, besides=before, pool="ml")
        assert get(run.process, "/pid?&pool=ml") == str(after)
