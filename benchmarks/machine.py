"""Which cores there are, what the machine is, and how much of it others use while we measure."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PACKAGES = (  # what figures depend on, as far as it is installed; gunicorn_h1c: gunicorn's parser in C
    *("gevent", "greenlet", "uvloop", "httptools", "websockets"),
    *("gunicorn", "gunicorn_h1c", "uvicorn", "granian", "hypercorn", "bjoern", "fastapi", "pydantic"),
    *("dill", "loky", "anyio", "distributed"),
)
_TICK = os.sysconf("SC_CLK_TCK")  # ticks a second, the unit of /proc/stat


def server_core() -> int | None:
    """Return the core for the server that is measured, or None if there is only one: then nothing is pinned."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[0] if len(cores) > 1 else None


def load_core() -> int | None:
    """Return the core for the load generator, never the server's; None if there is only one."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[1] if len(cores) > 1 else None


@contextmanager
def started_on(core: int | None) -> Iterator[None]:
    """What is started inside runs on `core` only, with all its descendants; None: wherever the scheduler likes.

    The affinity of the caller is changed for that moment: it is inherited by fork(2), and `preexec_fn` is not needed.
    """
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def allow_many_files() -> int:
    """Raise the limit of open files as far as is allowed, for us and what we start; return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def busy_seconds() -> float:
    """Return the processor seconds that all cores have spent on anything since boot (stolen time too: proc(5))."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq + steal) / _TICK


def group_seconds(pgid: int) -> float:
    """Return the processor seconds that the living threads of a process group have used.

    The scheduler counts them in nanoseconds (`/proc/PID/task/TID/schedstat`); those of proc(5), `stat`, are hundredths
    of a second.
    """
    return sum(_thread_seconds(thread) for pid in group_members(pgid) for thread in _threads(pid))


def _threads(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:  # it has ended meanwhile
        return []


def _thread_seconds(thread: Path) -> float:
    try:
        return int((thread / "schedstat").read_text().split()[0]) / 1e9
    except OSError:  # likewise
        return 0.0


def memory_of(pid: int) -> dict[str, int]:
    """Return the bytes of a process by kind (`Rss`, `Pss`, `Private_Dirty`, ...). Raises `OSError` if it is gone."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}


def group_memory(pgid: int) -> int:
    """Return the bytes of memory that the living processes of a process group hold, shared ones counted for each."""
    return sum(memory_of(pid)["Rss"] for pid in group_members(pgid))


def group_members(pgid: int) -> list[int]:
    """Return the pids of a process group."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if _group_of(pid) == pgid]


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def description() -> dict[str, str]:
    """Return what figures depend on: processor, kernel, Python, the peers' versions."""
    found = {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # one of the peers: only the HTTP suites need them
    return found


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()
