"""The difference between two deployments: what a running supervisor can apply, and what needs an upgrade. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final

from hybrid.supervisor.deployment import Deployment, ServiceSpec
from hybrid.workers.contract.records import record

_FIXED: Final = (
    *("binds", "backlog", "unix_mode", "stall_threshold", "pidfile", "control", "control_gid", "log_format"),
    *("log_file", "access_log_file", "log_capture", "on_event", "app_metrics"),
)
"""The settings that are used once, at the start of a supervisor."""
OF_SUPERVISOR: Final = frozenset({"control", "control_group", "pidfile", "log_file", "on_event"})
"""The keys among them that a supervisor has once for all services: a change of one is the same change in each."""
_NAMES: Final = {"binds": "bind", "control_gid": "control_group", "app_metrics": "admin_app_metrics"}
"""Setting -> its name for users, if that differs."""


@record(frozen=True, slots=True)
class Change:
    """A service whose configuration has changed."""

    spec: ServiceSpec
    """How it is to run now: as configured, except for what needs an upgrade."""
    configured: int
    """The number of workers in the new configuration."""
    is_scaled: bool
    """True if that number has changed."""
    needs_upgrade: tuple[str, ...]
    """The keys that need an upgrade."""


@record(frozen=True, slots=True)
class Revision:
    """What a new configuration changes."""

    added: tuple[ServiceSpec, ...]
    removed: tuple[str, ...]
    kept: Mapping[str, Change]
    """The services of both configurations, changed or not: their programs are made anew."""


def revise(old: Deployment, new: Deployment) -> Revision:
    """Return what `new` changes."""
    before = {spec.settings.service: spec for spec in old.services}
    after = {spec.settings.service: spec for spec in new.services}
    return Revision(
        added=tuple(spec for name, spec in after.items() if name not in before),
        removed=tuple(name for name in before if name not in after),
        kept={name: _change(before[name], spec) for name, spec in after.items() if name in before},
    )


def _change(before: ServiceSpec, after: ServiceSpec) -> Change:
    old, new = before.settings, after.settings
    fixed = [name for name in _FIXED if getattr(old, name) != getattr(new, name)]
    if (old.preload == "off") != (new.preload == "off"):
        fixed.append("preload")
    if bool(old.command) != bool(new.command):
        return _unlike(before, after)
    kept = {name: getattr(old, name) for name in fixed}
    return Change(
        spec=dataclasses.replace(after, settings=dataclasses.replace(new, **kept)),
        configured=new.workers,
        is_scaled=old.workers != new.workers,
        needs_upgrade=tuple(_typed(name, is_sidecar=new.is_sidecar) for name in fixed),
    )


def _typed(name: str, *, is_sidecar: bool) -> str:
    """Return the option that gives a setting, as users type it."""
    if name == "binds" and is_sidecar:
        return "admin"
    return _NAMES.get(name, name)


def _unlike(before: ServiceSpec, after: ServiceSpec) -> Change:
    """Return the change of an application that is a program now, or the reverse: it goes on as it was.

    Nearly all settings mean something else then. Only its relations must fit those of the other services.
    """
    new = after.settings
    settings = dataclasses.replace(before.settings, depends=new.depends, on_failure=new.on_failure)
    spec = dataclasses.replace(before, settings=settings)
    return Change(spec, before.settings.workers, is_scaled=False, needs_upgrade=("target", "command"))
