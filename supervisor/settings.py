"""The configuration of a supervisor. The code that parses the values checks them."""

from __future__ import annotations

from pathlib import Path

from hybrid.supervisor.core.policy import Intensity, Policy
from hybrid.supervisor.listeners.addresses import Bind
from hybrid.workers.contract.records import record

_UPGRADE_MARGIN = 30.0  # seconds to start an interpreter, in addition to the boots of a zygote and its workers


@record(frozen=True, slots=True, kw_only=True)
class Settings:
    """The configuration of one supervisor; seconds unless said otherwise."""

    service: str = "web"
    """The name in log lines."""
    binds: tuple[Bind, ...]
    """The addresses to serve."""
    workers: int
    """The number of workers, 1 to `machine.MAX_WORKERS`."""
    graceful_timeout: float = 30.0
    """The grace period: from the order to drain to SIGKILL."""
    boot_timeout: float = 60.0
    """From the fork to the message `Ready`."""
    backoff: float = 0.1
    """The delay before the second restart in a row; doubles with each further one."""
    backoff_max: float = 10.0
    """The longest delay before a restart."""
    healthy_after: float = 1.0
    """After this time of service, earlier failures no longer count."""
    boot_attempts: int = 5
    """Attempts per slot before any worker is ready; then the start has failed."""
    unix_mode: int = 0o600
    """Permission bits of UNIX sockets."""
    backlog: int = 2048
    """Length of the accept queue of each listening socket; the kernel limits it to net.core.somaxconn."""
    preload: str = "auto"
    """`on`: a zygote imports the application and forks the workers; `auto`: unless the import leaves something that
    does not survive a fork; `off`: each worker imports for itself."""
    reforks: bool = False
    """True if a worker that is refork ready becomes the next zygote."""
    surge: int = 1
    """The maximum number of successors that start at a time."""
    stall_threshold: float = 0.01
    """After a stall of this length, a worker gets no new connections; 0: stalls are not detected."""
    stall_report: float = 1.0
    """After a stall of this length, the stack is logged; 0: never."""
    stall_timeout: float = 0.0
    """After a stall of this length, the worker is killed; 0: never."""
    intensity: Intensity | None = None
    """How many worker deaths end the service; None: no limit."""
    pidfile: Path | None = None
    """The file for the supervisor's pid."""
    uid: int | None = None
    """The user to run workers as; None: the supervisor's."""
    gid: int | None = None
    """The group to run workers as; None: the user's, or the supervisor's."""
    pin: bool = False
    """True to pin each slot to one core."""
    log_format: str = "text"
    """`text` or `json`."""
    log_level: str = "info"
    """The lowest level that is logged, as `logging` names it."""

    @property
    def slowest(self) -> float:
        """Seconds after which a stall is reported or ended; 0: never."""
        return min((limit for limit in (self.stall_report, self.stall_timeout) if limit), default=0.0)

    @property
    def policy(self) -> Policy:
        """The limits for the machine."""
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
