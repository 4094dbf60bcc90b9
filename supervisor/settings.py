"""Everything a supervisor is told. Values are checked by whoever makes them from text; here they are only kept."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from hybrid.supervisor.addresses import Bind
from hybrid.supervisor.policy import Policy


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The configuration of one supervisor; seconds unless said otherwise."""

    service: str = "web"
    """Its name in log lines."""
    binds: tuple[Bind, ...]
    """The addresses to serve."""
    workers: int
    """How many workers to run, 1 to `machine.MAX_WORKERS`."""
    graceful_timeout: float = 30.0
    """From the request to drain to SIGKILL."""
    boot_timeout: float = 60.0
    """From the fork to the worker's word that it serves."""
    backoff: float = 0.1
    """Before the second restart in a row; doubles with each further one."""
    backoff_max: float = 10.0
    """The longest wait before a restart."""
    healthy_after: float = 1.0
    """A worker that has served so long has no history of failures."""
    boot_attempts: int = 5
    """How often a slot is tried before any worker was ready; then the start has failed."""
    unix_mode: int = 0o600
    """Permission bits of UNIX sockets."""
    backlog: int = 2048
    """Connections that may wait at one listening socket; the kernel cuts it to net.core.somaxconn."""
    pidfile: Path | None = None
    """A file to keep the supervisor's pid in."""
    uid: int | None = None
    """The user to run workers as; None: the supervisor's."""
    gid: int | None = None
    """The group to run workers as; None: the user's, or the supervisor's."""
    pin: bool = False
    """Whether each slot keeps to one core."""
    log_format: str = "text"
    """`text` or `json`."""
    log_level: str = "info"
    """The least level that is logged, as `logging` names it."""

    @property
    def policy(self) -> Policy:
        """What the machine needs of it."""
        return Policy(
            graceful_timeout=self.graceful_timeout,
            boot_timeout=self.boot_timeout,
            backoff=self.backoff,
            backoff_max=self.backoff_max,
            healthy_after=self.healthy_after,
            boot_attempts=self.boot_attempts,
        )
