"""The zygote spec: everything a zygote is told when it starts, by the supervisor or by the worker that it was."""

from __future__ import annotations

from collections.abc import Mapping

from hybrid.workers.contract.channel import Channel
from hybrid.workers.contract.records import record
from hybrid.workers.contract.scoreboard import Scoreboard
from hybrid.workers.contract.seat import Listener, Seat


@record(frozen=True, slots=True)
class ZygoteSpec:
    """Everything a zygote needs to know of its process tree."""

    service: str
    generation: int
    supervisor_pid: int
    listeners: tuple[Listener, ...]
    """All listeners of all slots that existed at the fork; `Learn` adds to them."""
    channel: Channel
    graceful_timeout: float
    """Seconds; see `Seat`."""
    scoreboard: Scoreboard
    audit: bool
    """Whether to refuse to fork what does not survive it."""
    dump_fd: int = 2
    """Descriptor that the stacks of an import that hangs are written to; standard error by default."""

    @property
    def labels(self) -> Mapping[str, object]:
        """What every log line of the zygote carries."""
        return {"service": self.service, "slot": "zygote", "generation": self.generation}


def zygote_spec_of(seat: Seat, generation: int) -> ZygoteSpec:
    """Return what a zygote of `generation` is told that the worker of `seat` becomes."""
    return ZygoteSpec(
        service=seat.service,
        generation=generation,
        supervisor_pid=seat.supervisor_pid,
        listeners=seat.listeners,
        channel=seat.channel,
        graceful_timeout=seat.graceful_timeout,
        scoreboard=seat.record.board,
        audit=False,
        dump_fd=seat.dump_fd,
    )
