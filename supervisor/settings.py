"""The configuration of a service. The code that parses the values checks them."""

from __future__ import annotations

import signal
from pathlib import Path

from hybrid.supervisor.core.policy import Intensity, Policy, Restart
from hybrid.supervisor.core.tree import OnFailure, Rules
from hybrid.supervisor.listeners.addresses import Bind
from hybrid.workers.contract.records import record

_UPGRADE_MARGIN = 30.0  # seconds to start an interpreter, in addition to the boots of a zygote and its workers


@record(frozen=True, slots=True)
class Pool:
    """A pool of offload workers."""

    name: str
    workers: int = 1
    """Its offload workers once the first call is offloaded to it; 0: none, for a pool whose calls leave the machine."""
    at_start: bool = False
    """True if they start with the service."""
    to: str = ""
    """The scheduler of the Dask cluster that runs its calls; empty: the offload workers do."""
    fallback: str = "fail"
    """What happens to calls while that scheduler cannot be reached: `fail`, or `local`: offload workers run them."""

    @property
    def falls_back(self) -> bool:
        """True if offload workers stand in for the cluster."""
        return bool(self.to) and self.fallback == "local"


@record(frozen=True, slots=True, kw_only=True)
class Settings:
    """The configuration of one service; seconds unless said otherwise."""

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
    balance: str = "auto"
    """`auto`: workers pass connections to those that have fewer; `off`: they do not."""
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
    depends: tuple[str, ...] = ()
    """The services that must have started before this one starts, and that stop after it."""
    on_failure: str = "stop-all"
    """What happens to the other services if this one fails: `stop-all` or `stop`."""
    control: str = "auto"
    """Where the supervisor's control line listens: `auto`, `off`, or the path of a file."""
    line: str = "none"
    """What its workers may do on the control line, to which each gets a connection: `none`, `look` or `full`."""
    app_metrics: str = "off"
    """Where metrics of the application are written: `off`: nowhere; `auto`: in a private directory; or a directory of
    the user. A sidecar reads them unless it is `off`."""
    is_sidecar: bool = False
    """True if it only serves the others: it stops after them, and they go on without it."""
    shutdown_delay: float = 0.0
    """From a request to stop to the stop."""
    ready_min: int = 1
    """How many of its workers must serve so that it counts as ready."""
    max_connections: int = 0
    """Connections that one worker serves at once; 0: no limit."""
    control_gid: int | None = None
    """The group whose members may look at the status; None: none."""
    restart: str = "permanent"
    """A value of `Restart`."""
    companions: tuple[tuple[str, int], ...] = ()
    """The names of companions, and how many processes each has."""
    pools: tuple[Pool, ...] = ()
    """The pools of offload workers, at most `MOST_POOLS`; none if the service does not offload."""
    command: tuple[str, ...] = ()
    """The program that workers execute, with its arguments; empty: they serve an application."""
    on_event: tuple[str, ...] = ()
    """The program that is run for each event, with its arguments; empty: none."""
    stop_signal: int = signal.SIGTERM
    """The signal that asks a program to end."""
    log_format: str = "text"
    """`text` or `json`."""
    log_file: Path | None = None
    """The file for the log; None: standard error."""
    access_log_file: Path | None = None
    """The file for the access log; None: standard output."""
    log_capture: bool = False
    """True if what workers write to standard output and error becomes lines of the log."""
    log_level: str = "info"
    """The lowest level that is logged, as `logging` names it."""

    def pool(self, name: str) -> Pool | None:
        """Return the pool of a name; None if there is none."""
        return next((one for one in self.pools if one.name == name), None)

    @property
    def captures(self) -> bool:
        """True if standard output and error of workers that serve an application become lines of the log."""
        return self.log_capture and not self.command

    @property
    def rules(self) -> Rules:
        """How it relates to the other services."""
        return Rules(self.depends, OnFailure(self.on_failure), self.is_sidecar)

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
            restart=Restart(self.restart),
            ending_signal=signal.Signals(self.stop_signal).name if self.command else "",
            overlaps=not self.command,
        )
