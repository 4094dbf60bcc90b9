"""Turns a `Service` into a `Plan`: the settings of the supervisor and the application of the workers."""

from __future__ import annotations

import dataclasses
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence, Set
from types import ModuleType
from typing import Any

from hybrid.config.certificates import CertificateError, read_tls
from hybrid.config.cpus import count_usable
from hybrid.config.declaring import declared
from hybrid.config.kinds import Seconds
from hybrid.config.privileges import UnknownAccountError, resolve
from hybrid.config.service import ConfigError, Service
from hybrid.config.targets import TargetError, describe
from hybrid.config.travel import home_of, parcel
from hybrid.supervisor.core.policy import Intensity
from hybrid.supervisor.listeners.addresses import Bind, BindSyntaxError, parse_bind, with_families
from hybrid.supervisor.settings import Settings
from hybrid.workers.boot.application import Application, Wear
from hybrid.workers.contract import log
from hybrid.workers.contract.promotion import Promotion
from hybrid.workers.contract.seat import ListenerKind, Seat
from hybrid.workers.http.settings import HttpSettings, Limits, Tls
from hybrid.workers.loops.registry import resolve as resolve_loop


@dataclasses.dataclass(frozen=True)
class Plan:
    """The complete configuration of a supervisor process; can be pickled."""

    settings: Settings
    application: Application
    directory: str
    """The working directory, absolute."""
    homes: tuple[tuple[str, str], ...] = ()
    """Names and files of modules that a callable target needs."""
    warnings: tuple[str, ...] = ()
    """Texts about values that work but are probably a mistake, such as an expired certificate."""

    def enter(self) -> None:
        """Prepare this process to be the supervisor: log the warnings, change the directory. Raises `ConfigError`."""
        if self.warnings:
            form, level = self.settings.log_format, self.settings.log_level
            logger = log.configure(form, level, {"service": self.settings.service})
            for warning in self.warnings:
                logger.warning("%s", warning)
        try:
            os.chdir(self.directory)
        except OSError as error:
            raise ConfigError("chdir", f"cannot work in {self.directory}: {error.strerror}") from None

    def body(self, seat: Seat) -> int | Promotion:
        """Be a worker until it has drained; return its exit code. Called in the forked child.

        Serves the target that `warm` loaded in an ancestor of this process, or imports it here. Returns a `Promotion`
        if this process has to continue as a zygote.
        """
        self._make_importable()
        from hybrid.workers import main as entry  # import event loops: never in the supervisor
        from hybrid.workers import preload

        return entry.main(seat, self.application, preload.loaded_for(self.application))

    def warm(self, *, audit: bool, evidence: int) -> None:
        """Import the target in this process, from which workers will be forked. Called in a zygote; blocks meanwhile.

        If the import hangs and the supervisor asks, its stack is written to the descriptor `evidence`.
        Raises `CannotWarm` if the target cannot be loaded, and with `audit` `NotForkable` if it must not be forked.
        """
        self._make_importable()
        from hybrid.workers import preload

        preload.warm(self.application, audit_import=audit, evidence=evidence)

    def check(self, kinds: frozenset[ListenerKind]) -> str:
        """Load the target for listeners of `kinds` and return its description. Called in a forked child.

        Raises any error of the import, and `BootError`.
        """
        self._make_importable()
        from hybrid.workers import main as entry

        return entry.check(self.application, kinds)

    def _make_importable(self) -> None:
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
    application, homes = _with_target(_application(service, warnings), service.target, travels=travels)
    return Plan(
        settings=_settings(service),
        application=application,
        directory=str(service.directory),
        homes=homes,
        warnings=tuple(warnings),
    )


def _settings(service: Service) -> Settings:
    try:
        account = resolve(service.user, service.group)
    except UnknownAccountError as error:
        raise ConfigError(error.field, str(error)) from None
    return Settings(
        service=service.name,
        binds=with_families([_bind(text) for text in service.binds], ipv6_only=service.ipv6_only),
        workers=count_usable() if isinstance(service.workers, str) else service.workers,
        reforks=service.refork_after > 0,
        intensity=_intensity(service),
        pidfile=service.pidfile_path,
        uid=account.uid,
        gid=account.gid,
        **_same_named(service, Settings, without={"workers", "pidfile"}),
    )


def _intensity(service: Service) -> Intensity | None:
    limit = service.max_restarts
    return None if limit is None else Intensity(limit.restarts, float(limit.seconds))


def _bind(text: str) -> Bind:
    try:
        return parse_bind(text)
    except BindSyntaxError as error:
        raise ConfigError("bind", str(error)) from None


def _application(service: Service, warnings: list[str]) -> Application:
    try:
        loop = resolve_loop(service.loop)
    except ValueError as error:
        raise ConfigError("loop", str(error)) from None
    return Application(
        loop=loop,
        directory=str(service.directory),
        interface=service.interface,
        call_factory=service.factory,
        max_connections=service.max_connections,
        http=_http(service, warnings),
        wear=Wear(
            refork_after=0 if service.preload == "off" else service.refork_after,
            jitter=float(service.recycle_jitter),
            **_same_named(service, Wear, without={"refork_after"}),
        ),
    )


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


def _http(service: Service, warnings: list[str]) -> HttpSettings:
    if service.access_log is not None:
        from hybrid.workers.http.access.line import check_format  # costs the supervisor memory

        try:
            check_format(service.access_log)
        except ValueError as error:
            raise ConfigError("access_log", str(error)) from None
    return HttpSettings(
        **_same_named(service, HttpSettings, without={"forwarded_allow_ips"}),
        limits=Limits(**_same_named(service, Limits)),
        forwarded_allow_ips=service.trusted_proxies,
        tls=_tls(service, warnings),
    )


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


def _tls(service: Service, warnings: list[str]) -> Tls | None:
    try:
        return read_tls(
            certfile=service.certfile,
            keyfile=service.keyfile,
            password=service.keyfile_password,
            ca_certs=service.ca_certs,
            client_certificate=service.client_certificate_wanted,
            ciphers=service.ciphers,
            sni_hook=service.sni_hook,
            directory=service.directory,
            warn=warnings.append,
        )
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
