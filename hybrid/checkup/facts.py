"""Facts about a service and this machine, from which `judging` draws its findings. Plain data, made by `collecting`."""

from __future__ import annotations

import dataclasses
import enum

from hybrid.config.service import Service


class Platform(enum.Enum):
    """What stops the service, and kills it after a while; only what this process can see of it."""

    NONE = "none"
    KUBERNETES = "Kubernetes"
    CONTAINER = "a container engine"
    SYSTEMD = "systemd"


@dataclasses.dataclass(frozen=True)
class Holder:
    """A process that holds what the service needs."""

    pid: int
    is_hybrid: bool
    works_here: bool
    """True if it has the working directory of the service: probably this very service."""


@dataclasses.dataclass(frozen=True)
class Target:
    """The attempt to load the target in a child process."""

    description: str = ""
    """What it is and where it would run; empty if it cannot be loaded."""
    problem: str = ""
    memory: int = 0
    """Bytes that the child process had in memory at most; 0: not known."""


@dataclasses.dataclass(frozen=True)
class Address:
    """The attempt to bind an address."""

    text: str
    problem: str = ""
    holder: Holder | None = None
    """The process that has bound it, if that is visible."""


@dataclasses.dataclass(frozen=True)
class Certificate:
    """The TLS files, as a worker would use them."""

    file: str
    problem: str = ""
    warnings: tuple[str, ...] = ()
    expires: float | None = None
    """Seconds since the epoch."""
    names: tuple[str, ...] = ()
    """The host names and addresses that clients accept it for."""


@dataclasses.dataclass(frozen=True)
class Pidfile:
    """The pidfile, and why it cannot be written."""

    path: str
    problem: str = ""
    holder: Holder | None = None
    """The living process whose pid it has."""


@dataclasses.dataclass(frozen=True)
class LogFile:
    """A file of the log, and why it cannot be written."""

    option: str
    path: str
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class EnvFile:
    """An env file."""

    path: str
    variables: int
    substituted: tuple[str, ...] = ()
    """Variables whose value looks as if another variable should be put into it."""
    is_public: bool = False
    """True if every user of this machine may read it."""


@dataclasses.dataclass(frozen=True)
class Machine:
    """The limits of this machine, or of the container."""

    cores: int
    memory: int | None
    """Bytes that this process and its neighbours may use; None: not known."""
    nofile: int
    """The soft limit of open descriptors, which workers inherit."""
    nofile_hard: int
    somaxconn: int | None
    """Longest queue of a listening socket; None: not known."""
    platform: Platform
    is_root: bool
    now: float
    """Seconds since the epoch."""


@dataclasses.dataclass(frozen=True)
class Facts:
    """All facts about one service."""

    service: Service
    machine: Machine
    target: Target
    addresses: tuple[Address, ...]
    account_problem: str = ""
    loop_problem: str = ""
    other_problems: tuple[tuple[str, str], ...] = ()
    """Options that contradict the machine, and the reasons."""
    certificate: Certificate | None = None
    pidfile: Pidfile | None = None
    log_files: tuple[LogFile, ...] = ()
    env_files: tuple[EnvFile, ...] = ()
