"""The zygote spec: everything a zygote is told when it starts, by the supervisor or by the worker that it was."""

from __future__ import annotations

from collections.abc import Mapping

from hybrid.supervisor.children.log_files import Outputs
from hybrid.workers.contract.channel import Channel
from hybrid.workers.contract.metric_seat import Seat
from hybrid.workers.contract.records import record
from hybrid.workers.contract.scoreboard import Scoreboard
from hybrid.workers.contract.worker_spec import Listener, WorkerSpec


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
    """Seconds; see `WorkerSpec.graceful_timeout`."""
    scoreboard: Scoreboard
    audit: bool
    """True if the zygote must not fork when the import left something that does not survive a fork."""
    dump_fd: int = 2
    """Descriptor for the stack dumps of an import that hangs; standard error by default."""
    output_fd: int | None = None
    """Descriptor for its standard output and error; None: they are the supervisor's, or in place already."""
    outputs: Outputs = Outputs()
    """The descriptors for lines of the logs."""
    seat: Seat | None = None
    """See `WorkerSpec.seat`; its workers sit in the same directory."""
    offload_key: str = ""
    """See `WorkerSpec.offload_key`."""

    @property
    def labels(self) -> Mapping[str, object]:
        """The labels on every log line of the zygote."""
        return {"service": self.service, "slot": "zygote", "generation": self.generation}


def zygote_spec_of(worker: WorkerSpec, generation: int) -> ZygoteSpec:
    """Return the spec of the zygote of `generation` that a worker becomes."""
    return ZygoteSpec(
        service=worker.service,
        generation=generation,
        supervisor_pid=worker.supervisor_pid,
        listeners=worker.listeners,
        channel=worker.channel,
        graceful_timeout=worker.graceful_timeout,
        scoreboard=worker.record.board,
        audit=False,
        dump_fd=worker.dump_fd,
        outputs=Outputs(worker.log_fd, worker.access_fd),
        seat=worker.seat,
        offload_key=worker.offload_key,
    )
