"""Everything a supervisor is told. Values are checked by whoever makes them from text; here they are only kept."""

from __future__ import annotations

from pathlib import Path

from hybrid.supervisor.core.policy import Intensity, Policy
from hybrid.supervisor.listeners.addresses import Bind
from hybrid.workers.contract.records import record

_UPGRADE_MARGIN = 30.0  # seconds for another interpreter to start, beside two boots: a zygote's and its workers'


@record(frozen=True, slots=True, kw_only=True)
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
    preload: str = "auto"
    """`on`: a zygote imports the application and forks the workers; `auto`: unless that has left what must not be
    forked; `off`: each worker imports for itself."""
    reforks: bool = False
    """Whether a worker becomes the next zygote that says it has served enough."""
    surge: int = 1
    """How many successors of workers may be on their way at a time."""
    stall_threshold: float = 0.01
    """A worker whose loop has not turned for so long gets no new connections; 0: nobody looks."""
    stall_report: float = 1.0
    """After so long the stack of its loop is logged; 0: never."""
    stall_timeout: float = 0.0
    """After so long it is killed; 0: never."""
    intensity: Intensity | None = None
    """How many worker deaths end the service; None: none do."""
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
    def slowest(self) -> float:
        """After how many seconds somebody wants to know of a turn of a loop; 0: never."""
        return min((limit for limit in (self.stall_report, self.stall_timeout) if limit), default=0.0)

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
            surge=self.surge,
            avoids_stalled=self.stall_threshold > 0,
            stall_report=self.stall_report,
            stall_timeout=self.stall_timeout,
            reforks=self.reforks and self.preload != "off",
            upgrade_timeout=self.boot_timeout * 2 + _UPGRADE_MARGIN,
            intensity=self.intensity,
        )
