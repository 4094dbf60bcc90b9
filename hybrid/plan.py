"""Turns a `Service` into a `Plan`: the settings of the supervisor and the application of the workers."""

from __future__ import annotations

import dataclasses
import importlib.machinery
import importlib.util
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence, Set
from types import ModuleType
from typing import Any

from hybrid.admin.settings import AdminSettings
from hybrid.config.admin import ADMIN
from hybrid.config.certificates import CertificateError, read_tls
from hybrid.config.cpus import count_usable
from hybrid.config.declaring import declared
from hybrid.config.file import FileError
from hybrid.config.kinds import MOST_OFFLOAD_WORKERS, Seconds
from hybrid.config.offload import check_dask
from hybrid.config.privileges import UnknownAccountError, resolve
from hybrid.config.service import ConfigError, Service
from hybrid.config.shown import settings_of
from hybrid.config.targets import TargetError, describe
from hybrid.config.travel import home_of, parcel
from hybrid.config.tree import signal_number
from hybrid.supervisor.children.command import execute
from hybrid.supervisor.children.gateway import execute_gateway
from hybrid.supervisor.core.policy import Intensity
from hybrid.supervisor.core.roles import GATEWAY
from hybrid.supervisor.listeners.addresses import Bind, BindSyntaxError, parse_bind, with_families
from hybrid.supervisor.settings import Pool, Settings
from hybrid.workers.boot import application as workers
from hybrid.workers.boot.application import Application, LogConfig, RecycleLimits
from hybrid.workers.boot.resource import identify
from hybrid.workers.contract import log
from hybrid.workers.contract.offload_queue import DEFAULT
from hybrid.workers.contract.promoted import Promoted
from hybrid.workers.contract.worker_spec import ListenerKind, WorkerSpec
from hybrid.workers.http.settings import HttpSettings, Limits, Tls
from hybrid.workers.loops.registry import resolve as resolve_loop
from hybrid.workers.offload.settings import OffloadSettings, PoolSettings


@dataclasses.dataclass(frozen=True)
class Plan:
    """The complete configuration of a supervisor process; can be pickled."""

    settings: Settings
    application: Application
    directory: str
    """The working directory, absolute."""
    homes: tuple[tuple[str, str], ...] = ()
    """Names and files of modules that a callable target needs."""
    title: str = ""
    """What is served, as a person types it."""
    command: tuple[str, ...] = ()
    """The program that workers execute; empty: they serve the application."""
    changes_directory: bool = False
    """True if each child changes to the directory, because the supervisor has another one."""
    warnings: tuple[str, ...] = ()
    """Texts about values that work but are probably a mistake, such as an expired certificate."""
    admin: AdminSettings | None = None
    """How the sidecar for operators works; None: this is a service."""
    environment: tuple[tuple[str, str], ...] = dataclasses.field(default=(), repr=False)
    """Variables of env files, for the processes that run the application. Those that `os.environ` has win."""

    def enter(self) -> None:
        """Prepare this process to be the supervisor: log the warnings, change the directory. Raises `ConfigError`."""
        self.warn()
        try:
            os.chdir(self.directory)
        except OSError as error:
            raise ConfigError("chdir", f"cannot work in {self.directory}: {error.strerror}") from None

    def warn(self) -> None:
        """Log the warnings."""
        if self.warnings:
            form, level = self.settings.log_format, self.settings.log_level
            logger = log.configure(form, level, {"service": self.settings.service})
            for warning in self.warnings:
                logger.warning("%s", warning)

    def body(self, spec: WorkerSpec) -> int | Promoted:
        """Be a worker until it has drained; return its exit code. Called in the forked child.

        Serves the target that `warm` loaded in an ancestor of this process, or imports it here. Returns a `Promoted`
        if this process has to continue as a zygote.
        """
        if self.command:
            self._set_variables()
            identify(spec)
            return execute(self.command, spec, self.directory if self.changes_directory else None)
        if self.admin is not None:
            return self._serve_operators(spec, self.admin)
        if spec.companion == GATEWAY and spec.queue is not None:
            return self._execute_gateway(spec)
        self._make_importable()
        from hybrid.workers import main as entry  # import event loops: never in the supervisor
        from hybrid.workers import preload

        loaded = preload.loaded_for(self.application)
        if loaded is None:  # otherwise `warm` has set them, and the application may have removed some
            self._set_variables()
        identify(spec)
        return entry.main(spec, self.application, loaded)

    def _execute_gateway(self, spec: WorkerSpec) -> int:
        self._set_variables()
        offload = self.application.offload
        assert offload is not None, "its pool has a cluster"
        number, pool = next((number, pool) for number, pool in enumerate(self.settings.pools) if pool.to)
        return execute_gateway(spec, self.settings, pool, offload.pools[number].max_result)

    def _serve_operators(self, spec: WorkerSpec, admin: AdminSettings) -> int | Promoted:
        from hybrid.admin.app import Admin  # imports event loops and prometheus_client: never in the supervisor
        from hybrid.workers import main as entry

        assert spec.line is not None, "the settings ask for a connection to the supervisor"
        application = dataclasses.replace(self.application, factory=Admin(admin, spec.line, spec.metrics_home))
        return entry.main(spec, application, None)

    def warm(self, *, audit: bool, dump_fd: int) -> None:
        """Import the target in this process, from which workers will be forked. Called in a zygote; blocks meanwhile.

        If the import hangs and the supervisor asks, its stack is written to the descriptor `dump_fd`.
        Raises `CannotWarm` if the target cannot be loaded, and with `audit` `NotForkable` if it must not be forked.
        """
        self._make_importable()
        self._set_variables()
        from hybrid.workers import preload

        preload.warm(self.application, audit_import=audit, dump_fd=dump_fd)

    def check(self, kinds: frozenset[ListenerKind]) -> str:
        """Load the target for listeners of `kinds` and return its description. Called in a forked child.

        Raises any error of the import, and `BootError`.
        """
        self._make_importable()
        self._set_variables()
        from hybrid.workers import main as entry

        return entry.check(self.application, kinds)

    def _set_variables(self) -> None:
        for name, value in self.environment:
            os.environ.setdefault(name, value)

    def _make_importable(self) -> None:
        if self.changes_directory:
            os.chdir(self.directory)
        if self.directory not in sys.path:
            sys.path.insert(0, self.directory)
        for home in self.homes:
            if (finder := _HomeFinder(*home)) not in sys.meta_path:
                sys.meta_path.append(finder)


def plan(service: Service, *, travels: bool) -> Plan:
    """Return the plan of a service.

    `travels`: the plan will be sent to another process, so a callable target is pickled; only workers unpickle it.
    Reads the TLS files, so call it before privileges are dropped. Raises `ConfigError` for the values that `Service`
    could not check: addresses, the loop's name, accounts, certificates, the access log, the target.
    """
    warnings: list[str] = []
    if service.refork_after and service.preload == "off":
        warnings.append("--refork-after has no effect with --preload off: there is no zygote")
    pools = _pools(service)  # `auto` reads the limits of all cgroups: once is enough
    application, homes = _with_target(_application(service, pools, warnings), service.target, travels=travels)
    application, homes = _with_companions(application, homes, service, travels=travels)
    return Plan(
        settings=_settings(service, pools),
        application=application,
        directory=str(service.directory),
        homes=homes,
        command=service.words,
        title=shlex.join(service.words) or describe(service.target),
        warnings=tuple(warnings),
        environment=_environment(service),
    )


def plan_of_admin(like: Service, services: Iterable[Service]) -> Plan:
    """Return the plan of the sidecar of `like.admin`, beside these services. Raises `ConfigError`."""
    assert like.admin is not None, "only called if there is one"
    sidecar = Service(
        bind=like.admin,
        workers=1,
        loop="epoll",
        interface="asgi",
        preload="off",
        offload_workers=0,
        name=ADMIN,
        graceful_timeout=min(like.graceful_timeout, _GRACE_OF_ADMIN),
        **{field: getattr(like, field) for field in _AS_OTHERS},
    )
    try:
        made = plan(sidecar, travels=False)
    except ConfigError as error:
        raise ConfigError("admin" if error.field == "bind" else error.field, error.reason) from None
    rights = "full" if like.admin_actions else "look"
    return dataclasses.replace(
        made,
        settings=dataclasses.replace(made.settings, is_sidecar=True, line=rights),
        admin=AdminSettings(
            like.admin_token,
            like.admin_actions,
            like.otel_endpoint,
            float(like.otel_interval),
            {service.name: settings_of(service) for service in services},
        ),
        title="metrics, health and dashboard",
    )


_GRACE_OF_ADMIN = 2.0  # seconds; a dashboard connects again
_AS_OTHERS = (
    "log_format",
    "log_level",
    "log_file",
    "log_capture",
    "user",
    "group",
    "control",
    "control_group",
    "chdir",
    "unix_mode",
)


def _environment(service: Service) -> tuple[tuple[str, str], ...]:
    """Return the variables of the env files, without secrets of hybrid itself."""
    if not service.env_files:
        return ()
    from hybrid.config import env_file  # most services have none

    secrets = [option for option in declared(Service) if option.is_secret]
    try:
        found = env_file.read_all(service.env_files)
    except FileError as error:
        raise ConfigError("env_file", str(error)) from None
    return tuple(
        (name, one.value) for name, one in found.items() if not any(option.is_set_by(name) for option in secrets)
    )


def _settings(service: Service, pools: tuple[Pool, ...]) -> Settings:
    try:
        account = resolve(service.user, service.group)
    except UnknownAccountError as error:
        raise ConfigError(error.field, str(error)) from None
    return Settings(
        service=service.name,
        binds=with_families([_bind(text) for text in service.binds], ipv6_only=service.ipv6_only),
        workers=_workers(service),
        pools=pools,
        command=service.words,
        on_event=service.event_words or (),
        companions=tuple((one.name, one.workers) for one in service.companions),
        control=_control(service),
        control_gid=_control_gid(service),
        stop_signal=signal_number(service.stop_signal),
        depends=service.dependencies,
        **(_UNOBSERVED if service.words else {}),
        reforks=service.refork_after > 0,
        intensity=_intensity(service),
        pidfile=service.pidfile_path,
        log_file=service.log_file_path,
        access_log_file=service.access_log_file_path,
        uid=account.uid,
        gid=account.gid,
        **_same_named(service, Settings, without=_DERIVED | (_UNOBSERVED.keys() if service.words else set())),
    )


_DERIVED = frozenset(
    {
        *("workers", "pidfile", "log_file", "access_log_file", "command", "companions", "on_event", "control"),
        *("stop_signal", "depends"),
    }
)
_UNOBSERVED: dict[str, Any] = {
    "preload": "off",
    "balance": "off",
    "stall_threshold": 0.0,
    "stall_report": 0.0,
    "stall_timeout": 0.0,
}
"""The settings for a program: its loop, if it has one, cannot be observed."""


def _control(service: Service) -> str:
    return service.control if service.control in ("auto", "off") else str(service.directory / service.control)


def _control_gid(service: Service) -> int | None:
    try:
        return resolve(None, service.control_group).gid
    except UnknownAccountError as error:
        raise ConfigError("control_group", str(error)) from None


def _workers(service: Service) -> int:
    if not isinstance(service.workers, str):
        return service.workers
    return 1 if service.words else count_usable()


def _intensity(service: Service) -> Intensity | None:
    limit = service.max_restarts
    return None if limit is None else Intensity(limit.restarts, float(limit.seconds))


def _bind(text: str) -> Bind:
    try:
        return parse_bind(text)
    except BindSyntaxError as error:
        raise ConfigError("bind", str(error)) from None


def _application(service: Service, pools: tuple[Pool, ...], warnings: list[str]) -> Application:
    try:
        loop = resolve_loop(service.loop)
    except ValueError as error:
        raise ConfigError("loop", str(error)) from None
    return Application(
        loop=loop,
        directory=str(service.directory),
        interface=service.interface,
        call_factory=service.factory,
        hooks=service.hooks,
        ready_check_interval=float(service.ready_check_interval),
        offload=_offload(service, pools),
        max_connections=service.max_connections,
        stall_threshold=float(service.stall_threshold),
        accounting=service.accounting,
        log_config=_log_config(service),
        captured_level=service.log_level if service.log_capture else None,
        http=_http(service, warnings),
        recycle=RecycleLimits(
            refork_after=0 if service.preload == "off" else service.refork_after,
            jitter=float(service.recycle_jitter),
            **_same_named(service, RecycleLimits, without={"refork_after"}),
        ),
    )


def _offload(service: Service, pools: tuple[Pool, ...]) -> OffloadSettings | None:
    """Return the limits of the calls to each pool, in the order of `_pools`; None for a program."""
    if service.words:
        return None
    return OffloadSettings(tuple(_limits(service, pool.name) for pool in pools))


def _limits(service: Service, name: str) -> PoolSettings:
    """Return the limits of a pool: its own options, or those of the service."""
    named = next((one for one in service.pools if one.name == name), None)
    keys = {field.name for field in dataclasses.fields(PoolSettings)} - {"name"}
    values: dict[str, Any] = {
        key: getattr(service, f"offload_{key}") if named is None else getattr(named, key) for key in keys
    }
    return PoolSettings(name=name, **{**values, "timeout": float(values["timeout"])})


def _pools(service: Service) -> tuple[Pool, ...]:
    """Return the pools of a service; that of calls which name none is the first, if it has processes."""
    if service.words:
        return ()
    workers, scheduler = _offload_workers(service.offload_workers), _offload_to(service)
    default = Pool(DEFAULT, workers, service.offload_at_start, scheduler, service.offload_fallback)
    named = (Pool(one.name, _offload_workers(one.workers), bool(one.at_start)) for one in service.pools)
    return (default, *named) if workers or scheduler else tuple(named)


def _offload_workers(given: int | str) -> int:
    return max(1, min(count_usable() - 1, MOST_OFFLOAD_WORKERS)) if isinstance(given, str) else given


def _offload_to(service: Service) -> str:
    if not service.offload_to:
        return ""
    check_dask()
    return service.offload_to


def _log_config(service: Service) -> LogConfig | None:
    path = service.log_config_path
    if path is None or service.words:
        return None
    from hybrid.config import log_config  # most services have none

    try:
        return log_config.read(path)
    except FileError as error:
        raise ConfigError("log_config", str(error)) from None


def _with_target(
    application: Application, target: str | Callable[..., Any], *, travels: bool
) -> tuple[Application, tuple[tuple[str, str], ...]]:
    """Return the application with its target, and the modules that the target needs."""
    if isinstance(target, str):
        return dataclasses.replace(application, reference=target), ()
    if not travels:
        home = home_of(target)
        return dataclasses.replace(application, factory=target), () if home is None else (home,)
    try:
        sent = parcel(target)
    except TargetError as error:
        raise ConfigError("target", str(error)) from None
    return (
        dataclasses.replace(application, pickled=sent.content, reference=sent.reference, title=describe(target)),
        sent.homes,
    )


def _with_companions(
    application: Application, homes: tuple[tuple[str, str], ...], service: Service, *, travels: bool
) -> tuple[Application, tuple[tuple[str, str], ...]]:
    """Return the application with its companions, and the modules that they and the target need."""
    found = []
    for one in service.companions:
        if isinstance(one.target, str):
            found.append(workers.Companion(one.name, reference=one.target))
        elif not travels:
            home = home_of(one.target)
            homes = homes if home is None else (*homes, home)
            found.append(workers.Companion(one.name, factory=one.target))
        else:
            try:
                sent = parcel(one.target)
            except TargetError as error:
                raise ConfigError("companions", f"companion {one.name}: {error}") from None
            homes = (*homes, *sent.homes)
            title = describe(one.target)
            found.append(workers.Companion(one.name, sent.reference, pickled=sent.content, title=title))
    return dataclasses.replace(application, companions=tuple(found)), tuple(dict.fromkeys(homes))


def _http(service: Service, warnings: list[str]) -> HttpSettings:
    if service.access_log is not None:
        from hybrid.workers.http.access.line import check_format  # costs the supervisor memory

        try:
            check_format(service.access_log)
        except ValueError as error:
            raise ConfigError("access_log", str(error)) from None
    return HttpSettings(
        **_same_named(service, HttpSettings, without={"forwarded_allow_ips", "access_log_skip", "http"}),
        http=_http_versions(service, warnings),
        access_log_skip=service.skipped_paths,
        limits=Limits(**_same_named(service, Limits)),
        forwarded_allow_ips=service.trusted_proxies,
        tls=_tls(service, warnings),
    )


def _http_versions(service: Service, warnings: list[str]) -> str:
    """Return the versions of HTTP to speak: HTTP/2 needs a package of others. Raises `ConfigError`."""
    if service.http == "1" or importlib.util.find_spec("ngh2") is not None:
        return service.http
    why = "the package ngh2 is not installed: pip install 'hybrid-runtime[http2]'"
    if service.http == "2":
        raise ConfigError("http", f"'2': {why}")
    warnings.append(f"HTTP/2 is off: {why}, or switch it off with --http 1")
    return "1"


def _same_named(service: Service, settings: type, without: Set[str] = frozenset()) -> dict[str, Any]:
    """Return the options that have the same names as the fields of `settings`; durations become floats.

    `without`: fields whose value differs from the option's.
    """
    names = {field.name for field in dataclasses.fields(settings)} - without
    values: dict[str, Any] = {}
    for option in declared(Service):
        if option.field in names:
            value = getattr(service, option.field)
            values[option.field] = float(value) if isinstance(option.kind, Seconds) else value
    return values


def tls_of(service: Service, warn: Callable[[str], object]) -> Tls | None:
    """Return the TLS files of a service, read and tried; None without any. Raises `CertificateError`.

    `warn` is called with what works but is probably a mistake. Blocks while a process tries them.
    """
    return read_tls(
        certfile=service.certfile,
        keyfile=service.keyfile,
        password=service.keyfile_password,
        ca_certs=service.ca_certs,
        client_certificate=service.client_certificate_wanted,
        ciphers=service.ciphers,
        sni_hook=service.sni_hook,
        directory=service.directory,
        warn=warn,
    )


def _tls(service: Service, warnings: list[str]) -> Tls | None:
    try:
        return tls_of(service, warnings.append)
    except CertificateError as error:
        field = "keyfile_password" if error.field == "password" else error.field
        raise ConfigError(field, error.reason) from None


class _HomeFinder:
    """Finds the module of a callable target by its file if `import` cannot. It is the last finder in `sys.meta_path`.

    A callable that the embedder can import travels as `module.name`. A test runner may have loaded that module under a
    name that no other process can import.
    """

    def __init__(self, name: str, file: str) -> None:
        self._name = name
        self._file = file

    def __eq__(self, other: object) -> bool:
        """True if `other` finds the same module."""
        return isinstance(other, _HomeFinder) and (self._name, self._file) == (other._name, other._file)

    def __hash__(self) -> int:
        return hash((self._name, self._file))

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of the module, an empty package for each of its parents, and None for others."""
        if name == self._name:
            return importlib.util.spec_from_file_location(name, self._file)
        if self._name.startswith(f"{name}."):
            return importlib.machinery.ModuleSpec(name, None, is_package=True)
        return None
