"""What a service holds when nothing changes in it: processes, descriptors, memory; for looks that are compared."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from support import processes
from support.process import HybridProcess
from support.service import descriptors, eventually, is_asleep, resident, wake_ups

_MIB = 1 << 20


@dataclasses.dataclass(frozen=True)
class Household:
    """One look."""

    at: float
    """Seconds since the beginning."""
    processes: int
    """Supervisor, zygote, workers, and whoever else is in their process group."""
    descriptors: int
    """Of those that serve nobody: supervisor and zygotes."""
    supervisor: int
    """Resident bytes of the supervisor, the only one that lives throughout."""
    pss: int
    """Bytes of all, where what is shared counts once (smaps_rollup, proc(5))."""

    @classmethod
    def of(cls, process: HybridProcess, at: float) -> Household:
        """Look at the processes of a service, and again if one of them ends meanwhile: children of forks do.

        Or if those that serve nobody are not at rest: a supervisor that has not come to reap a worker holds its line
        and its evidence.
        """

        def look() -> Household | None:
            try:
                return cls._of(process, at)
            except (FileNotFoundError, ProcessLookupError):
                return None

        found = eventually(look, "nothing changes during a look")
        assert found is not None
        return found

    @classmethod
    def _of(cls, process: HybridProcess, at: float) -> Household | None:
        everybody = process.survivors()
        quiet = [process.pid, *process.zygote_pids()]
        if not all(map(processes.is_alive, processes.children(process.pid))):
            return None  # one is to be reaped
        rests = [wake_ups(pid) for pid in quiet if is_asleep(pid)]
        held = sum(map(descriptors, quiet))
        if rests != [wake_ups(pid) for pid in quiet]:
            return None
        return cls(
            at=at,
            processes=len(everybody),
            descriptors=held,
            supervisor=resident(process.pid),
            pss=sum(map(_pss, everybody)),
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
