"""`Service`: what to run and how, checked as far as it can be without looking at the machine.

Addresses and loops are checked by `Supervisor`, which knows the two sides that understand them. What is about web
applications stands in `hybrid.config.http`, about the lives of workers in `hybrid.config.life`; the tools of
checking in `hybrid.config.checks`.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from hybrid.config.checks import (
    DAY,
    ConfigError,
    Range,
    check_choices,
    check_paths,
    check_ranges,
    check_switches,
    is_whole,
)
from hybrid.config.http import HttpFields, check_http
from hybrid.config.life import LifeFields, check_life
from hybrid.config.targets import DEMONSTRATION, TargetError, check_reference
from hybrid.supervisor.upgrade.invocation import working_directory

__all__ = ["DEFAULT_BIND", "INTERFACES", "LOG_FORMATS", "LOG_LEVELS", "MAX_WORKERS", "ConfigError", "Service"]

DEFAULT_BIND: Final = "127.0.0.1:8000"
INTERFACES: Final = ("auto", "stream", "protocol", "datagram", "wsgi", "asgi")
LOG_FORMATS: Final = ("text", "json")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
MAX_WORKERS: Final = 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclasses.dataclass(frozen=True)
class Service(LifeFields, HttpFields):
    """A target and how to serve it. All values are checked on construction; a bad one raises `ConfigError`.

    Durations are seconds, sizes bytes. The fields that only web applications need are those of `HttpFields`, those
    about stalls and the renewal of workers those of `LifeFields`.
    """

    target: str | Callable[..., Any] = DEMONSTRATION
    """`module:attribute`, or the web application, handler, protocol factory or datagram handler itself."""
    _: dataclasses.KW_ONLY
    bind: str | Sequence[str] = (DEFAULT_BIND,)
    """Addresses: `host:port`, `[ipv6]:port`, `unix:/path`, `udp://host:port`, `fd://N`. Port 0: a free one."""
    workers: int | str = "auto"
    """How many, or `auto`: as many as cores are usable here."""
    loop: str = "auto"
    """`select`, `poll`, `epoll`, `gevent`, `asyncio`, `uvloop`; `auto` is `epoll`."""
    interface: str = "auto"
    """What the target is: `stream`, `protocol`, `datagram`, `wsgi`, `asgi`; `auto` tells by its signature."""
    name: str = "web"
    """The name of the service in logs and in `status()`."""
    graceful_timeout: float = 30.0
    """How long a worker may finish its connections when it is asked to stop; then it is killed."""
    boot_timeout: float = 60.0
    """How long a worker may take to import the target and to be ready; then it is killed."""
    backoff: float = 0.1
    """The first pause before a worker that died again is restarted; it doubles each time."""
    backoff_max: float = 10.0
    """The longest such pause."""
    backlog: int = 2048
    """Connections that the kernel may queue for each worker (it caps this at net.core.somaxconn)."""
    max_connections: int = 0
    """Connections a worker serves at once; the others wait in the queue. 0: no limit."""
    ipv6_only: bool = False
    """Whether `[::]:port` serves IPv6 only; else it serves both families."""
    unix_mode: int = 0o600
    """File mode of UNIX sockets."""
    pidfile: str | os.PathLike[str] | None = None
    """A file that holds the supervisor's process id while it runs."""
    chdir: str | os.PathLike[str] | None = None
    """The directory to work in; relative names in the other values start from there."""
    user: str | int | None = None
    """Name or number the workers run as; needs root. The sockets are made before."""
    group: str | int | None = None
    """Name or number of the group the workers run as; needs root."""
    pin: bool = False
    """Bind each worker to one core."""
    log_format: str = "text"
    """`text` or `json`."""
    log_level: str = "info"
    """`debug`, `info`, `warning` or `error`."""

    def __post_init__(self) -> None:
        _check_target(self.target)
        _check_addresses(self.binds)
        _check_workers(self.workers)
        check_choices(self, _CHOICES)
        if not isinstance(self.loop, str):
            raise ConfigError("loop", f"{self.loop!r}: give its name, e.g. 'epoll'")
        _check_numbers(self)
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ConfigError("name", f"{self.name!r}: use up to 64 letters, digits, dots, dashes and underscores")
        check_switches(self, "ipv6_only", "pin")
        check_paths(self, "pidfile", "chdir")
        if not _is_directory(self.directory):
            raise ConfigError("chdir", _why_no_directory(self))
        _check_accounts(self)
        check_http(self, self.loop)
        check_life(self)

    @property
    def binds(self) -> tuple[str, ...]:
        """The addresses, always as a tuple."""
        return (self.bind,) if isinstance(self.bind, str) else tuple(self.bind)

    @property
    def directory(self) -> Path:
        """The directory to work in, absolute. A link in its name is kept: a new release may move it."""
        return Path(working_directory(os.environ)) / (self.chdir or "")

    @property
    def pidfile_path(self) -> Path | None:
        """The pidfile, absolute; None if there shall be none."""
        return None if self.pidfile is None else self.directory / self.pidfile


def _check_target(target: object) -> None:
    if isinstance(target, str):
        try:
            check_reference(target)
        except TargetError as error:
            raise ConfigError("target", str(error)) from None
    elif not callable(target):
        raise ConfigError("target", f"{target!r}: give 'module:attribute' or a callable")


def _check_addresses(binds: tuple[object, ...]) -> None:
    if not binds:
        raise ConfigError("bind", f"no address: give at least one, e.g. {DEFAULT_BIND!r}")
    for bind in binds:
        if not isinstance(bind, str):
            raise ConfigError("bind", f"{bind!r}: give addresses as text, e.g. {DEFAULT_BIND!r}")


def _check_workers(workers: object) -> None:
    if workers == "auto" or (is_whole(workers) and 1 <= workers <= MAX_WORKERS):
        return
    raise ConfigError("workers", f"{workers!r}: use 'auto' or a number from 1 to {MAX_WORKERS}")


_CHOICES: Final = {"interface": INTERFACES, "log_format": LOG_FORMATS, "log_level": LOG_LEVELS}  # field -> values
_SECONDS: Final = " (seconds)"
_RANGES: Final = {
    "graceful_timeout": Range(0, DAY, False, _SECONDS),
    "boot_timeout": Range(0.01, DAY, False, _SECONDS),
    "backoff": Range(0.001, DAY, False, _SECONDS),
    "backoff_max": Range(0.001, DAY, False, _SECONDS),
    "backlog": Range(1, 65_535, True),
    "max_connections": Range(0, 10_000_000, True),
}  # field -> allowed values


def _check_numbers(service: Service) -> None:
    check_ranges(service, _RANGES)
    if service.backoff_max < service.backoff:
        raise ConfigError("backoff_max", f"{service.backoff_max!r}: use at least the first pause, {service.backoff!r}")
    if not is_whole(service.unix_mode) or not 0 <= service.unix_mode <= 0o777:
        raise ConfigError("unix_mode", f"{service.unix_mode!r}: use a file mode from 0o000 to 0o777")


def _why_no_directory(service: Service) -> str:
    if service.chdir is None:
        return "the current directory was removed: change to one that exists, or give an absolute path here"
    return f"{str(service.chdir)!r}: there is no such directory"


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # may not be looked at
        return False


def _check_accounts(service: Service) -> None:
    for field in ("user", "group"):
        value = getattr(service, field)
        if value is not None and not is_whole(value) and not (isinstance(value, str) and value):
            raise ConfigError(field, f"{value!r}: give a name or a number")
