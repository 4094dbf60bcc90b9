"""Cheap looks at processes: children, members of a process group, names. psutil reads all of /proc for each of these.

A pid that is not there any more has no children, no state and no name; that is no error here.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_STATE, _STARTED = 0, 19  # places behind the name in /proc/PID/stat: fields 3 and 22, proc_pid_stat(5)


def children(pid: int | str = "self") -> list[int]:
    """Return the pids of the children of a process, in no order; also those it has not waited for yet.

    The kernel keeps the list for each thread (CONFIG_PROC_CHILDREN). It is exact while no child is reaped at the same
    time, and only the parent can do that.
    """
    found: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for thread in os.scandir(f"/proc/{pid}/task"):
            with suppress(FileNotFoundError, ProcessLookupError), open(f"{thread.path}/children", "rb") as file:  # noqa: PTH123 - before and after every test
                found += map(int, file.read().split())
    return found


def group(pgid: int) -> list[int]:
    """Return the pids of the living processes of a process group, in no order; zombies do not live."""
    try:
        os.killpg(pgid, 0)
    except ProcessLookupError:  # the usual case, answered without a look at all processes
        return []
    except PermissionError:
        pass  # it exists, under another account
    return [pid for entry in os.scandir(_PROC) if entry.name.isdigit() and _is_in(pid := int(entry.name), pgid)]


def _is_in(pid: int, pgid: int) -> bool:
    try:
        return os.getpgid(pid) == pgid and is_alive(pid)
    except ProcessLookupError:
        return False


def is_alive(pid: int) -> bool:
    """Return True while the process exists and is no zombie."""
    fields = _stat(pid)
    return bool(fields) and fields[_STATE] not in ("Z", "X")


def name(pid: int) -> str | None:
    """Return the name of the process (at most 15 characters), None if it is gone."""
    try:
        return (_PROC / str(pid) / "comm").read_text().rstrip("\n")
    except (FileNotFoundError, ProcessLookupError):
        return None


def age(pid: int) -> tuple[int, int]:
    """Sort key, oldest first: the start in ticks of the clock, and the pid, for two of the same tick."""
    fields = _stat(pid)
    return (int(fields[_STARTED]) if fields else 0, pid)


def _stat(pid: int) -> list[str]:
    try:
        stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return []
    return stat.rpartition(")")[2].split()  # the name may hold spaces and brackets
