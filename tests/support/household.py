"""The resources of an idle service: processes, descriptors, memory; to compare two moments."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from support import processes
from support.process import HybridProcess
from support.service import descriptors, eventually, is_asleep, resident, wake_ups

_MIB = 1 << 20
_SLACK = 4 << 20  # bytes of memory more that are no growth: arenas, a log that is longer
_SHARE = 0.05  # of the memory, likewise


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
        """Look at the processes of a service, and again if one of them ends meanwhile: children of forks do.

        Or if those that serve nobody are not at rest: a supervisor that has not come to reap a worker holds its line
        and its dump file.
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


def growths(looks: Sequence[Household]) -> Iterator[str]:
    """Give in words what grows: compare the looks of the first quarter, a minute at most, with as many of the last."""
    count = max(1, sum(look.at < min(60.0, looks[-1].at / 4) for look in looks))
    for field in ("processes", "descriptors", "supervisor", "pss"):
        first, last = ([getattr(look, field) for look in some] for some in (looks[:count], looks[-count:]))
        room = _SLACK + int(_SHARE * max(first)) if field in ("supervisor", "pss") else 0
        if min(last) > max(first) + room:
            yield f"{field} grow: {first} in the beginning, {last} in the end"


def _pss(pid: int) -> int:
    match = re.search(r"^Pss: +(\d+) kB$", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert match is not None
    return int(match[1]) * 1024
