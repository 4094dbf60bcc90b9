"""`Service`: a target and its options, checked as far as possible without inspecting the machine.

Each field except the target declares an option (`hybrid.config.declaring`). `Supervisor` checks addresses and loops,
with the code of the supervisor and the workers. Options of web applications are in `hybrid.config.http`,
`hybrid.config.tls` and `hybrid.config.proxies`, those about logs in `hybrid.config.logs`, those about the life cycle of
workers in `hybrid.config.life` and `hybrid.config.hooks`, those about several services in `hybrid.config.tree`.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from hybrid.config.admin import AdminFields, check_admin
from hybrid.config.checks import DAY, ConfigError, is_whole
from hybrid.config.declaring import Section, check_declared, option
from hybrid.config.hooks import HookFields
from hybrid.config.http import HttpFields, check_http
from hybrid.config.kinds import Choice, Count, Directory, File, Mode, Seconds, Switch, Text, Workers
from hybrid.config.life import LifeFields
from hybrid.config.logs import LOG_FORMATS, LOG_LEVELS, LogFields, check_logs
from hybrid.config.offload import OffloadFields, check_offload
from hybrid.config.pools import OffloadPool, PoolFields, check_pools
from hybrid.config.proxies import ProxyFields, check_proxies
from hybrid.config.targets import DEMONSTRATION, TargetError, check_reference
from hybrid.config.tls import TlsFields, check_tls
from hybrid.config.tree import TreeFields, check_tree
from hybrid.supervisor.upgrade.invocation import working_directory

__all__ = ["DEFAULT_BIND", "INTERFACES", "LOG_FORMATS", "LOG_LEVELS", "ConfigError", "Service"]

DEFAULT_BIND: Final = "127.0.0.1:8000"
INTERFACES: Final = ("auto", "stream", "protocol", "datagram", "wsgi", "asgi")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PROCESS: Final = Section.PROCESS


def _why_no_addresses(bind: object) -> str | None:
    addresses: Sequence[object] = (bind,) if isinstance(bind, str) else tuple(bind)  # type: ignore[arg-type]
    if not addresses:
        return f"no address: give at least one, e.g. {DEFAULT_BIND!r}"
    strange = [one for one in addresses if not isinstance(one, str)]
    return f"{strange[0]!r}: give addresses as text, e.g. {DEFAULT_BIND!r}" if strange else None


def _why_no_loop(loop: object) -> str | None:
    return None if isinstance(loop, str) else f"{loop!r}: give its name, e.g. 'epoll'"


def _why_no_name(name: object) -> str | None:
    if isinstance(name, str) and _NAME.fullmatch(name):
        return None
    return f"{name!r}: use up to 64 letters, digits, dots, dashes and underscores"


def _why_no_control(where: object) -> str | None:
    is_place = isinstance(where, str) and where and not where.startswith("@")
    return None if is_place else f"{where!r}: use 'auto', 'off' or the path of a socket"


def _why_no_account(account: object) -> str | None:
    is_account = is_whole(account) or (isinstance(account, str) and account)
    return None if is_account else f"{account!r}: give a name or a number"


@dataclasses.dataclass(frozen=True)
class Service(
    TreeFields,
    HookFields,
    LifeFields,
    OffloadFields,
    PoolFields,
    LogFields,
    AdminFields,
    ProxyFields,
    TlsFields,
    HttpFields,
):
    """A target and how to serve it. All values are checked on construction; a bad one raises `ConfigError`.

    Durations are seconds, sizes bytes. Each field is explained in its declaration and in `docs/options.md`.
    """

    target: str | Callable[..., Any] = DEMONSTRATION
    """`module:attribute`, or the web application, handler, protocol factory or datagram handler itself."""
    _: dataclasses.KW_ONLY
    bind: str | Sequence[str] = option(
        (DEFAULT_BIND,),
        Text("ADDRESS"),
        _PROCESS,
        "Where to listen: HOST:PORT, [IPV6]:PORT ([::]:PORT is IPv4 too), unix:/PATH, unix:@NAME, udp://HOST:PORT, or "
        "fd://N for a socket that is open already. Port 0 means any free port. May be repeated. Without it, sockets "
        "passed by systemd are used, or 0.0.0.0 with the port in the variable PORT.",
        is_repeated=True,
        shown=DEFAULT_BIND,
        check=_why_no_addresses,
    )
    workers: int | str = option(
        "auto",
        Workers(),
        _PROCESS,
        "Number of worker processes. auto: one per usable core (affinity and cgroup quota).",
        more_variables=("WEB_CONCURRENCY",),
    )
    loop: str = option(
        "auto",
        Text("NAME"),
        _PROCESS,
        "Event loop: select, poll, epoll, gevent, asyncio or uvloop; auto is epoll. See: hybrid loops.",
        check=_why_no_loop,
    )
    interface: str = option(
        "auto",
        Choice(INTERFACES),
        _PROCESS,
        "Kind of TARGET: wsgi, an application (environ, start_response); asgi, an application (scope, receive, send); "
        "stream, a handler of one connection, sync (sock, address) or async (reader, writer); protocol, a factory of "
        "asyncio.Protocol; datagram, a handler (data, address, transport). auto decides by the signature: a sync "
        "TARGET with two parameters is WSGI if they are called environ, start_response, and a stream handler "
        "otherwise; an async one with three is ASGI if the first is called scope, and a datagram handler otherwise.",
    )
    factory: bool = option(
        False,
        Switch(),
        _PROCESS,
        "TARGET is an application factory: call it without arguments and serve its result.",
    )
    name: str = option(
        "web",
        Text("NAME"),
        _PROCESS,
        "Name of the service in the log.",
        name="service",
        is_of_the_run=True,
        check=_why_no_name,
    )
    graceful_timeout: float = option(
        30.0,
        Seconds(0, DAY),
        _PROCESS,
        "How long workers may take to finish their connections at a stop before they are killed.",
    )
    boot_timeout: float = option(
        60.0,
        Seconds(0.01, DAY),
        _PROCESS,
        "How long a worker may take to become ready before it is killed and restarted.",
    )
    backoff: float = option(
        0.1,
        Seconds(0.001, DAY),
        _PROCESS,
        "First pause before a worker that keeps dying is restarted; doubles each time.",
    )
    backoff_max: float = option(10.0, Seconds(0.001, DAY), _PROCESS, "Longest such pause.")
    backlog: int = option(
        2048,
        Count(1, 65_535),
        _PROCESS,
        "Connections the kernel queues per worker (at most net.core.somaxconn).",
    )
    balance: str = option(
        "auto",
        Choice(("auto", "off")),
        _PROCESS,
        "auto: a worker passes a connection that it has accepted to the worker with the fewest, at most 200 each "
        "second, so that few long connections spread evenly. off: each serves what the kernel gave it.",
    )
    rebalance: str = option(
        "auto",
        Choice(("auto", "off")),
        _PROCESS,
        "auto: a worker with far more connections than the others, as after a reload or a change of the number of "
        "workers, ends kept-alive ones with their next response (HTTP/2: when no request is in progress), each second "
        "two or an eighth of its own, so that their clients come to the others. off: they stay. Needs balance = auto.",
    )
    max_connections: int = option(
        0,
        Count(0, 10_000_000),
        Section.LIMITS,
        "Connections that one worker serves at once; further ones wait in its queue.",
    )
    ipv6_only: bool = option(
        False, Switch(), _PROCESS, "Let [::]:PORT serve IPv6 only. Without this option it serves IPv4 too."
    )
    unix_mode: int = option(0o600, Mode(), _PROCESS, "File mode of UNIX sockets.")
    pidfile: str | os.PathLike[str] | None = option(None, File(), _PROCESS, "File for the supervisor's process id.")
    control: str = option(
        "auto",
        Text("auto|off|PATH"),
        _PROCESS,
        "Where the commands hybrid status, reload, scale and others reach the supervisor. auto: a name without a file, "
        "@hybrid/NAME/PID.RANDOM; PATH: a UNIX socket; off: nowhere.",
        check=_why_no_control,
    )
    control_group: str | int | None = option(
        None,
        Text("NAME|GID"),
        _PROCESS,
        "Group whose members may look at the status, but change nothing. Only root and the supervisor's account may.",
        check=_why_no_account,
    )
    chdir: str | os.PathLike[str] | None = option(
        None, Directory(), _PROCESS, "Working directory; it is searched for TARGET first."
    )
    env_file: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = option(
        (),
        File(),
        _PROCESS,
        "File of KEY=VALUE lines, e.g. .env: variables for the application, and HYBRID_*, PORT and WEB_CONCURRENCY for "
        "hybrid. Those that the environment has already win. May be repeated; a later file overrides an earlier one.",
        is_repeated=True,
        shown="none",
    )
    user: str | int | None = option(
        None,
        Text("NAME|UID"),
        _PROCESS,
        "Run the workers as this user (needs root; sockets are opened before). HOME, USER and LOGNAME are set to those "
        "of its account, unless they differ from root's.",
        check=_why_no_account,
    )
    group: str | int | None = option(
        None, Text("NAME|GID"), _PROCESS, "Run the workers as this group (needs root).", check=_why_no_account
    )
    pin: bool = option(False, Switch(), _PROCESS, "Bind each worker to one core.")

    def __post_init__(self) -> None:
        _check_target(self.target)
        check_declared(self, Service)
        if self.backoff_max < self.backoff:
            raise ConfigError("backoff_max", f"{self.backoff_max!r}: use at least the first pause, {self.backoff!r}")
        if not _is_directory(self.directory):
            raise ConfigError("chdir", _why_no_directory(self))
        check_http(self, self.loop)
        check_tls(self)
        check_logs(self)
        check_proxies(self)
        check_tree(self)
        check_admin(self)
        check_offload(self)
        check_pools(self)

    @property
    def binds(self) -> tuple[str, ...]:
        """The addresses, always as a tuple; none for a program."""
        if self.command is not None:
            return ()
        return (self.bind,) if isinstance(self.bind, str) else tuple(self.bind)

    @property
    def words(self) -> tuple[str, ...]:
        """The program and its arguments; empty for an application."""
        return () if self.command is None else tuple(self.command)

    @property
    def pools(self) -> tuple[OffloadPool, ...]:
        """The pools of offload workers with names of their own; what they do not say is as this service has it."""
        return tuple(one.within(self) for one in self.offload_pools)

    @property
    def is_demonstration(self) -> bool:
        """True if it serves the built-in demonstration."""
        return self.target == DEMONSTRATION and self.command is None

    @property
    def event_words(self) -> tuple[str, ...] | None:
        """The program for events and its arguments; None: none."""
        return None if self.on_event is None else tuple(self.on_event)

    @property
    def dependencies(self) -> tuple[str, ...]:
        """The services it depends on, always as a tuple."""
        return (self.depends,) if isinstance(self.depends, str) else tuple(self.depends)

    @property
    def env_files(self) -> tuple[str | os.PathLike[str], ...]:
        """The env files, always as a tuple."""
        return (self.env_file,) if isinstance(self.env_file, str | os.PathLike) else tuple(self.env_file)

    @property
    def directory(self) -> Path:
        """The working directory, absolute. Symbolic links in it are kept: a new release may move them."""
        return Path(working_directory(os.environ)) / (self.chdir or "")

    @property
    def pidfile_path(self) -> Path | None:
        """The absolute path of the pidfile, or None."""
        return self._path(self.pidfile)

    @property
    def log_file_path(self) -> Path | None:
        """The absolute path of the log, or None."""
        return self._path(self.log_file)

    @property
    def access_log_file_path(self) -> Path | None:
        """The absolute path of the access log, or None."""
        return self._path(self.access_log_file)

    @property
    def log_config_path(self) -> Path | None:
        """The absolute path of the configuration of `logging`, or None."""
        return self._path(self.log_config)

    def _path(self, path: str | os.PathLike[str] | None) -> Path | None:
        return None if path is None else self.directory / path


def _check_target(target: object) -> None:
    if isinstance(target, str):
        try:
            check_reference(target)
        except TargetError as error:
            raise ConfigError("target", str(error)) from None
    elif not callable(target):
        raise ConfigError("target", f"{target!r}: give 'module:attribute' or a callable")


def _why_no_directory(service: Service) -> str:
    if service.chdir is None:
        return "the current directory was removed: change to one that exists, or give an absolute path here"
    return f"{str(service.chdir)!r}: there is no such directory"


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # no permission
        return False
