"""Everything that a supervisor runs: its services, and what they share. The code that makes it checks the values."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid.supervisor.core import dependencies
from hybrid.supervisor.settings import Settings
from hybrid.workers.contract.records import record

if TYPE_CHECKING:
    from hybrid.supervisor.children.spawn import Program


@record(frozen=True, slots=True)
class ServiceSpec:
    """A service: its settings, and the program of its workers."""

    settings: Settings
    program: Program
    title: str = ""
    """What is served, as a person types it."""


class CannotReread(Exception):  # noqa: N818 - the user's mistake, not a bug
    """The configuration cannot be used as it is now; the text says why and where."""


@record(frozen=True, slots=True)
class Deployment:
    """The services of one supervisor; at least one, each with a name of its own."""

    services: tuple[ServiceSpec, ...]
    """In the order of the configuration."""
    name: str
    """The name of the supervisor: in its log lines, and for its clients."""
    reread: Callable[[], Deployment] | None = None
    """Reads the configuration again, and returns it. Raises `CannotReread`. None: there is no file to read."""

    @classmethod
    def of(cls, *services: ServiceSpec, name: str | None = None) -> Deployment:
        """Return a deployment; `name` None: that of the first service."""
        return cls(services, services[0].settings.service if name is None else name)

    def with_services(self, services: Iterable[ServiceSpec]) -> Deployment:
        """Return the same with other services."""
        return dataclasses.replace(self, services=tuple(services))

    @property
    def pid(self) -> int:
        """Process id of the supervisor, which is this process."""
        return os.getpid()

    @property
    def first(self) -> Settings:
        """The settings of the first service: the supervisor logs as it does."""
        return self.services[0].settings

    @property
    def shutdown_delay(self) -> float:
        """Seconds between a request to stop the supervisor and the stop."""
        return max(spec.settings.shutdown_delay for spec in self.services)

    @property
    def pidfile(self) -> Path | None:
        """The file for the supervisor's pid: the first that a service names."""
        return next((spec.settings.pidfile for spec in self.services if spec.settings.pidfile is not None), None)

    @property
    def on_event(self) -> tuple[str, ...]:
        """The program for events: that of the first service that names one; empty: none."""
        return next((spec.settings.on_event for spec in self.services if spec.settings.on_event), ())

    @property
    def workers(self) -> Mapping[str, int]:
        """Service -> its number of workers."""
        return {spec.settings.service: spec.settings.workers for spec in self.services}

    @property
    def complaint(self) -> tuple[str, str] | None:
        """A service and why its dependencies are impossible; None if all are fine."""
        return dependencies.complaint({spec.settings.service: spec.settings.depends for spec in self.services})
