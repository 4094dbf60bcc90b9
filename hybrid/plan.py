"""From a `Service` to what the two sides understand: settings for the supervisor, an application for the workers."""

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
    """All that a supervisor process needs to know; travels to another process."""

    settings: Settings
    application: Application
    directory: str
    """Where to work; absolute."""
    homes: tuple[tuple[str, str], ...] = ()
    """Names and files of modules that a callable target needs."""
    remarks: tuple[str, ...] = ()
    """What works but is probably not meant, such as a certificate that has expired."""

    def enter(self) -> None:
        """Make this process ready to be the supervisor: change the directory, log the remarks. Raises `ConfigError`."""
        if self.remarks:
            form, level = self.settings.log_format, self.settings.log_level
            logger = log.configure(form, level, {"service": self.settings.service})
            for remark in self.remarks:
                logger.warning("%s", remark)
        try:
            os.chdir(self.directory)
        except OSError as error:
            raise ConfigError("chdir", f"cannot work in {self.directory}: {error.strerror}") from None

    def body(self, seat: Seat) -> int | Promotion:
        """Be a worker until it has drained; return its exit code. Called in the forked child.

        What `warm` has loaded in an ancestor of this process is served; else the target is imported here. Returns a
        `Promotion` where this process is to be a zygote from now on.
        """
        self._make_importable()
        from hybrid.workers import main as entry  # import event loops: never in the supervisor
        from hybrid.workers import preload

        return entry.main(seat, self.application, preload.loaded_for(self.application))

    def warm(self, *, audit: bool, evidence: int) -> None:
        """Import the target in this process, whose forks will be workers. Called in a zygote; blocks meanwhile.

        Where it hangs is written to the descriptor `evidence` when the supervisor asks.
        Raises `CannotWarm` if it cannot be loaded, and with `audit` `NotForkable` if it must not be forked.
        """
        self._make_importable()
        from hybrid.workers import preload

        preload.warm(self.application, audit_import=audit, evidence=evidence)

    def check(self, kinds: frozenset[ListenerKind]) -> str:
        """Load the target for listeners of `kinds` and return what it is. Called in a forked child.

        Raises whatever importing the target raises, `BootError` among it.
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

    `travels`: the plan will be sent to another process, so a callable target is turned into bytes that only workers
    read. Reads the files of TLS, so it is to be called before privileges are dropped. Raises `ConfigError` for what
    `Service` could not check: addresses, the loop's name, accounts, certificates, the access log, the target.
    """
    remarks: list[str] = []
    if service.refork_after and service.preload == "off":
        remarks.append("--refork-after has no effect with --preload off: there is no zygote")
    application, homes = _with_target(_application(service, remarks), service.target, travels=travels)
    return Plan(
        settings=_settings(service),
        application=application,
        directory=str(service.directory),
        homes=homes,
        remarks=tuple(remarks),
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
        **_of_the_same_name(service, Settings, without={"workers", "pidfile"}),
    )


def _intensity(service: Service) -> Intensity | None:
    limit = service.max_restarts
    return None if limit is None else Intensity(limit.restarts, float(limit.seconds))


def _bind(text: str) -> Bind:
    try:
        return parse_bind(text)
    except BindSyntaxError as error:
        raise ConfigError("bind", str(error)) from None


def _application(service: Service, remarks: list[str]) -> Application:
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
        http=_http(service, remarks),
        wear=Wear(
            refork_after=0 if service.preload == "off" else service.refork_after,
            jitter=float(service.recycle_jitter),
            **_of_the_same_name(service, Wear, without={"refork_after"}),
        ),
    )


def _with_target(
    application: Application, target: str | Callable[..., Any], *, travels: bool
) -> tuple[Application, tuple[tuple[str, str], ...]]:
    """Return the application with its target, and the homes of that."""
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


def _http(service: Service, remarks: list[str]) -> HttpSettings:
    if service.access_log is not None:
        from hybrid.workers.http.access.line import check_format  # memory of the supervisor's, where there is no log

        try:
            check_format(service.access_log)
        except ValueError as error:
            raise ConfigError("access_log", str(error)) from None
    return HttpSettings(
        **_of_the_same_name(service, HttpSettings, without={"forwarded_allow_ips"}),
        limits=Limits(**_of_the_same_name(service, Limits)),
        forwarded_allow_ips=service.trusted_proxies,
        tls=_tls(service, remarks),
    )


def _of_the_same_name(service: Service, settings: type, without: Set[str] = frozenset()) -> dict[str, Any]:
    """Return the options for `settings` that are declared under the names of its fields; durations become floats.

    `without`: the fields whose value is another one than the option's.
    """
    names = {field.name for field in dataclasses.fields(settings)} - without
    values: dict[str, Any] = {}
    for option in declared(Service):
        if option.field in names:
            value = getattr(service, option.field)
            values[option.field] = float(value) if isinstance(option.kind, Seconds) else value
    return values


def _tls(service: Service, remarks: list[str]) -> Tls | None:
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
            warn=remarks.append,
        )
    except CertificateError as error:
        field = "keyfile_password" if error.field == "password" else error.field
        raise ConfigError(field, error.reason) from None


class _HomeFinder:
    """Finds the module of a callable target in its file, where `import` alone does not (it is asked last).

    A callable that is importable in the embedder travels as `module.name`. A test runner may have loaded that module
    under a name which no other process can import.
    """

    def __init__(self, name: str, file: str) -> None:
        self._name = name
        self._file = file

    def __eq__(self, other: object) -> bool:
        """Tell whether it finds the same."""
        return isinstance(other, _HomeFinder) and (self._name, self._file) == (other._name, other._file)

    def __hash__(self) -> int:
        return hash((self._name, self._file))

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return where the module is, an empty package for a parent of it, None for others."""
        if name == self._name:
            return importlib.util.spec_from_file_location(name, self._file)
        if self._name.startswith(f"{name}."):
            return importlib.machinery.ModuleSpec(name, None, is_package=True)
        return None
