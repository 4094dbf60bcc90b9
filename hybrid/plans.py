"""`Plans`: the plans of all services of one supervisor, checked against each other."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from hybrid.config.admin import ADMIN, SHARED
from hybrid.config.declaring import declared
from hybrid.config.service import ConfigError, Service
from hybrid.config.targets import DASHBOARD
from hybrid.demonstration.links import has_link
from hybrid.plan import Plan, plan, plan_of_admin
from hybrid.supervisor.deployment import CannotReread, Deployment, ServiceSpec
from hybrid.supervisor.upgrade.invocation import Invocation
from hybrid.workers.contract.log import LOGGER_NAME
from hybrid.workers.contract.metric_seat import VARIABLE as METRICS_VARIABLE

_ONE_FOR_ALL: Final = "a supervisor has one for all services: set it at the top level of the file"
_OPTIONS = {
    "pidfile_path": "pidfile",
    "log_file_path": "log_file",
    "event_words": "on_event",
}  # property of a service -> its option
logger = logging.getLogger(LOGGER_NAME)


@dataclasses.dataclass(frozen=True)
class Plans:
    """The complete configuration of a supervisor; can be pickled if its plans travel."""

    plans: tuple[Plan, ...]
    """At least one, in the order of the configuration."""
    name: str | None = None
    """The name of the supervisor; None: that of the first service."""
    reread: Callable[[], Sequence[Service]] | None = None
    """Returns the services as they are configured now. Raises `ValueError`. None: the configuration cannot change."""

    @classmethod
    def of(cls, services: Sequence[Service], *, travels: bool, name: str | None = None) -> Plans:
        """Return the plans of `services`; `travels` as for `plan`. Raises `ConfigError`."""
        if not services:
            raise ConfigError("target", "give at least one service")
        made = tuple(_planned(service, len(services) > 1, travels=travels) for service in services)
        _check_names(services)
        _check_companions(services)
        _check_addresses(services)
        _check_shared(services)
        shared = {field: _shared(services, field) for field in SHARED}
        if shared["otel_endpoint"] is not None and shared["admin"] is None:
            raise ConfigError("otel_endpoint", "the process of --admin sends the metrics: set --admin too")
        if shared["admin"] is not None:
            made = tuple(_with_app_metrics(one, service) for one, service in zip(made, services, strict=True))
            made = tuple(_with_dashboard(one, service, shared) for one, service in zip(made, services, strict=True))
            sidecar = plan_of_admin(dataclasses.replace(services[0], **shared), services)
            made = (*made, _reading(sidecar, made))
        complaint = cls(made, name).deployment.complaint
        if complaint is not None:
            raise ConfigError("depends", f"service {complaint[0]}: {complaint[1]}")
        if len({one.directory for one in made}) > 1:
            made = tuple(dataclasses.replace(one, changes_directory=True) for one in made)
        return cls(made, name)

    @property
    def deployment(self) -> Deployment:
        """The same for the supervisor."""
        made = Deployment.of(*(ServiceSpec(one.settings, one, one.title) for one in self.plans), name=self.name)
        return made if self.reread is None else dataclasses.replace(made, reread=self._planned_anew)

    def _planned_anew(self) -> Deployment:
        """Return the deployment as it is configured now. Raises `CannotReread`."""
        assert self.reread is not None, "only called if there is a file"
        try:
            with _where_it_was_typed():
                anew = Plans.of(self.reread(), travels=False, name=self.name)
            if not self.plans[0].changes_directory and self.plans[0].directory == anew.plans[0].directory:
                made = anew.plans  # the supervisor is there
            else:
                made = tuple(dataclasses.replace(one, changes_directory=True) for one in anew.plans)
        except (ValueError, OSError) as error:  # OSError: a file that other options name, or no memory to read it
            raise CannotReread(str(error)) from None
        for one in made:
            for warning in one.warnings:
                logger.warning("%s", warning, extra={"service": one.settings.service})
        return dataclasses.replace(anew, plans=made, reread=self.reread).deployment

    @property
    def patience(self) -> float:
        """Seconds until a start has certainly succeeded or failed, but for the time to start an interpreter."""
        every = [one.settings for one in self.plans]  # one may wait for another
        return sum(one.boot_attempts * (one.boot_timeout + one.backoff_max) for one in every)

    @property
    def graceful_timeout(self) -> float:
        """Seconds that a stop may take: one service may wait for another."""
        every = [one.settings for one in self.plans]
        delay = max(one.shutdown_delay for one in every)
        return delay + sum(one.graceful_timeout * (2 if one.companions else 1) for one in every)  # companions end last

    def enter(self) -> None:
        """Prepare this process to be the supervisor. Raises `ConfigError`.

        Logs the warnings, and changes to the directory of the services if they have the same.
        """
        if not self.plans[0].changes_directory:
            self.plans[0].enter()
        for one in self.plans if self.plans[0].changes_directory else self.plans[1:]:
            one.warn()
            if not os.access(one.directory, os.X_OK):
                raise ConfigError("chdir", f"cannot work in {one.directory}")


@contextlib.contextmanager
def _where_it_was_typed() -> Iterator[None]:
    """Be in the directory where the command was typed: relative paths begin there. Raises `OSError` if it is gone.

    The way back has no name, as the directory of an old release may be removed meanwhile.
    """
    back = os.open(".", os.O_PATH | os.O_DIRECTORY)
    try:
        os.chdir(Invocation.current().directory)
        yield
    finally:
        os.fchdir(back)
        os.close(back)


def _planned(service: Service, is_one_of_several: bool, *, travels: bool) -> Plan:
    try:
        return plan(service, travels=travels)
    except ConfigError as error:
        if not is_one_of_several:
            raise
        raise ConfigError(error.field, f"service {service.name}: {error.reason}") from None


def _with_app_metrics(made: Plan, service: Service) -> Plan:
    """Return the plan of a service beside --admin: its workers write the metrics of the application."""
    if made.command or not service.admin_app_metrics:
        return made
    given = {**dict(made.environment), **os.environ}  # as workers see them
    chosen = given.get(METRICS_VARIABLE) or given.get(METRICS_VARIABLE.lower())
    where = "auto" if not chosen else str(service.directory / chosen)
    return dataclasses.replace(made, settings=dataclasses.replace(made.settings, app_metrics=where))


def _with_dashboard(made: Plan, service: Service, shared: Mapping[str, Any]) -> Plan:
    """Return the plan of a service beside --admin: the page of the demonstration links to the dashboard."""
    if not service.is_demonstration or not has_link(shared["admin"]):
        return made
    return dataclasses.replace(made, environment=(*made.environment, (DASHBOARD, shared["admin"])))


def _reading(admin: Plan, others: Sequence[Plan]) -> Plan:
    """Return the plan of the sidecar, which reads the metrics of applications if some are written."""
    where = "auto" if any(one.settings.app_metrics != "off" for one in others) else "off"
    return dataclasses.replace(admin, settings=dataclasses.replace(admin.settings, app_metrics=where))


def _check_names(services: Sequence[Service]) -> None:
    names = [service.name for service in services]
    twice = next((name for name in names if names.count(name) > 1), None)
    if ADMIN in names and _shared(services, "admin") is not None:
        raise ConfigError("name", f"{ADMIN!r} is the process of --admin: give the service another name")
    if twice is not None:
        raise ConfigError("name", f"two services are called {twice!r}: give each a name of its own")


def _check_companions(services: Sequence[Service]) -> None:
    """Refuse a service whose name is that of companions or offload workers: commands could not tell them apart."""
    names = {service.name for service in services}
    for service in services:
        kinds = (("companions", "companion", service.companions), ("offload_pools", "pool", service.offload_pools))
        for field, kind, beside in kinds:
            for one in beside:
                if (name := f"{service.name}.{one.name}") in names:
                    text = f"service {service.name}: its {kind} {one.name!r} is called {name!r}, as another service is"
                    raise ConfigError(field, f"{text}: give one of them another name")


def _check_shared(services: Sequence[Service]) -> None:
    """Refuse different values for what the supervisor has once."""
    for field in ("control", "control_group", "pidfile_path", "log_file_path", "event_words"):
        values = {getattr(service, field) for service in services}
        if field != "log_file_path":  # a service without it would log elsewhere
            values -= {None}
        if len(values) > 1:
            raise ConfigError(_OPTIONS.get(field, field), _ONE_FOR_ALL)


def _shared(services: Sequence[Service], field: str) -> Any:
    """Return the value of an option that a supervisor has once: from the services that set it. Raises `ConfigError`."""
    default = next(one.default for one in declared(Service) if one.field == field)
    values = {getattr(service, field) for service in services} - {default}
    if len(values) > 1:
        raise ConfigError(field, _ONE_FOR_ALL)
    return next(iter(values), default)


def _check_addresses(services: Sequence[Service]) -> None:
    admin = _shared(services, "admin")
    owners = {} if admin is None else {admin: ADMIN}
    for service in services:
        for address in service.binds:
            other = owners.setdefault(address, service.name)
            if other == ADMIN and other != service.name and not address.endswith(":0"):
                raise ConfigError("admin", f"{address} is an address of service {service.name}: give it another one")
            if other != service.name and not address.endswith(":0"):
                text = f"service {service.name}: {address} is an address of service {other}: give it another one"
                raise ConfigError("bind", text)
