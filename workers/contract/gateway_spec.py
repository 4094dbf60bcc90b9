"""What a gateway is told when it starts: it executes a fresh interpreter, so this crosses execve(2) in a memfd."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

from hybrid.workers.contract.records import record


@record(frozen=True, slots=True)
class GatewaySpec:
    """Everything a gateway to a Dask cluster needs to know. It inherits the descriptors under the same numbers."""

    version: str
    """The version of this package that the supervisor runs."""
    path: tuple[str, ...]
    """The supervisor's `sys.path`."""
    title: str
    """The first part of its name: `web.dask`."""
    slot: int
    """The second part."""
    name: str
    """Its name in the process table."""
    generation: int
    supervisor_pid: int
    graceful_timeout: float
    """Seconds between SIGTERM and the supervisor's SIGKILL."""
    channel_fd: int
    queue_fd: int
    """The queue of the offloaded calls of its generation."""
    dump_fd: int
    """For stack dumps."""
    log_fd: int
    log_format: str
    log_level: str
    scheduler: str
    """The address of the cluster's scheduler, as `tcp://HOST:PORT`."""
    falls_back: bool
    """True if calls stay in the queue while the scheduler cannot be reached; otherwise they fail."""
    max_result: int
    """Bytes of a result; 0: no limit."""

    def to_fd(self) -> int:
        """Write this to a memfd and return that, for `read`; the caller closes it."""
        fd = os.memfd_create("hybrid-gateway", 0)  # not close-on-exec
        os.write(fd, json.dumps(dataclasses.asdict(self)).encode())
        return fd

    @classmethod
    def read(cls, fd: int) -> GatewaySpec:
        """Return the spec in a descriptor, and close that. Raises `ValueError` or `TypeError` if there is none."""
        fields: dict[str, Any] = json.loads(os.pread(fd, os.fstat(fd).st_size, 0))
        os.close(fd)
        return cls(**{**fields, "path": tuple(fields["path"])})
