"""The difference between two deployments."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from support.rows import for_each
from support.shell import NoProgram, settings

from hybrid.supervisor.deployment import Deployment, ServiceSpec
from hybrid.supervisor.listeners.addresses import parse_bind
from hybrid.supervisor.revision import Change, revise
from hybrid.supervisor.settings import Settings

OTHERS = {
    "binds": (parse_bind("127.0.0.1:1"),),
    "backlog": 7,
    "on_event": ("notify",),
    "unix_mode": 0o666,
    "stall_threshold": 0.5,
    "pidfile": os.devnull,
    "control": "auto",
    "control_gid": 7,
    "log_format": "json",
    "log_file": Path("/log"),
    "access_log_file": Path("/log"),
    "log_capture": True,
    "preload": "on",
}
"""The settings that need an upgrade, each with a value that the tests' settings do not have."""


def spec(settings: Settings, title: str = "") -> ServiceSpec:
    return ServiceSpec(settings, NoProgram(), title)


def of(*services: Settings) -> Deployment:
    return Deployment.of(*(spec(one) for one in services), name="shop")


def change(before: Settings, after: Settings) -> Change:
    return revise(of(before), of(after)).kept[before.service]


def test_services_are_added_removed_and_kept() -> None:
    before = of(settings(service="web"), settings(service="chat"))
    after = of(settings(service="chat"), settings(service="mail"))
    revision = revise(before, after)
    assert [one.settings.service for one in revision.added] == ["mail"]
    assert revision.removed == ("web",)
    assert list(revision.kept) == ["chat"]


def test_without_a_difference_only_the_program_is_new() -> None:
    before, after = settings(), spec(settings(), "anew")
    found = revise(of(before), Deployment.of(after)).kept["web"]
    assert (found.is_scaled, found.needs_upgrade) == (False, ())
    assert found.spec.settings == before
    assert found.spec.program is after.program


def test_a_number_of_workers_that_differs_is_told() -> None:
    found = change(settings(workers=2), settings(workers=5))
    assert (found.is_scaled, found.configured) == (True, 5)


def test_a_limit_is_applied() -> None:
    found = change(settings(), settings(graceful_timeout=3.0))
    assert (found.spec.settings.graceful_timeout, found.needs_upgrade) == (3.0, ())


def test_the_address_of_a_sidecar_is_the_option_admin() -> None:
    before = settings(service="admin", is_sidecar=True)
    found = change(before, dataclasses.replace(before, binds=OTHERS["binds"]))  # type: ignore[arg-type]
    assert found.needs_upgrade == ("admin",)


@for_each("field", OTHERS)
def test_what_is_used_once_stays_and_needs_an_upgrade(field: str) -> None:
    before = settings()
    found = change(before, dataclasses.replace(before, **{field: OTHERS[field]}))  # type: ignore[arg-type]
    names = {"binds": "bind", "control_gid": "control_group"}
    assert found.needs_upgrade == (names.get(field, field),)
    assert found.spec.settings == before


def test_what_needs_an_upgrade_is_told_each_time() -> None:
    before, after = of(settings(backlog=1)), of(settings(backlog=2))
    kept = revise(before, after).kept["web"].spec
    assert revise(Deployment.of(kept), after).kept["web"].needs_upgrade == ("backlog",)


def test_another_way_to_preload_is_applied_at_once() -> None:
    found = change(settings(preload="auto"), settings(preload="on"))
    assert (found.spec.settings.preload, found.needs_upgrade) == ("on", ())


def test_an_application_that_becomes_a_program_goes_on_but_for_its_relations() -> None:
    before = spec(settings(workers=2), "app")
    after = of(settings(command=("sleep", "9"), workers=1, on_failure="stop"))
    found = revise(Deployment.of(before), after).kept["web"]
    assert found.needs_upgrade == ("target", "command")
    assert (found.spec.program, found.configured, found.is_scaled) == (before.program, 2, False)
    assert found.spec.settings == dataclasses.replace(before.settings, on_failure="stop")
