"""The resources of an idle service: processes, descriptors, memory; to compare two moments."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path

from support.process import HybridProcess
from support.service import descriptors, eventually, resident

_TCP = Path("/proc/net/tcp")
_LISTEN = "0A"  # the state, in proc_net_tcp.txt of the kernel's documentation
_MIB = 1 << 20


@dataclasses.dataclass(frozen=True)
class Household:
    """One look."""

    at: float
    """Seconds since the beginning."""
    processes: int
    """Supervisor, zygote, workers, and all others in their process group."""
    descriptors: int
    """Of supervisor and zygotes."""
    supervisor: int
    """Resident bytes of the supervisor, the only one that lives throughout."""
    pss: int
    """Bytes of all, with shared memory counted once (smaps_rollup, proc(5))."""

    @classmethod
    def of(cls, process: HybridProcess, at: float) -> Household:
        """Look at the processes of a service, and again if one of them ends meanwhile: children of forks do."""

        def look() -> Household | None:
            try:
                return cls._of(process, at)
            except (FileNotFoundError, ProcessLookupError):
                return None

        found = eventually(look, "no process ends during a look")
        assert found is not None
        return found

    @classmethod
    def _of(cls, process: HybridProcess, at: float) -> Household:
        everybody = process.survivors()
        quiet = [process.pid, *process.zygote_pids()]
        return cls(
            at=at,
            processes=len(everybody),
            descriptors=sum(descriptors(pid) for pid in quiet),
            supervisor=resident(process.pid),
            pss=sum(_pss(pid) for pid in everybody),
        )

    def __str__(self) -> str:
        return (
            f"{self.at:6.1f} s: {self.processes} processes, {self.descriptors} descriptors of supervisor and zygote, "
            f"supervisor {self.supervisor / _MIB:.1f} MiB resident, all {self.pss / _MIB:.1f} MiB PSS"
        )


def _pss(pid: int) -> int:
    match = re.search(r"^Pss: +(\d+) kB$", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert match is not None
    return int(match[1]) * 1024


def connections(pid: int, port: int) -> int:
    """How many connections to a TCP port of IPv4 the process has accepted and not closed; it should be stopped."""
    mine = set()
    for entry in os.scandir(f"/proc/{pid}/fd"):
        what = os.readlink(entry.path)  # noqa: PTH115 - as text
        if what.startswith("socket:["):
            mine.add(what[8:-1])
    local = f":{port:04X}"
    rows = (line.split() for line in _TCP.read_text().splitlines() if local in line)
    return sum(row[1].endswith(local) and row[3] != _LISTEN and row[9] in mine for row in rows)
