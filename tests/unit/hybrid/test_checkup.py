"""Facts in, findings out: what `hybrid check` says about a service and a machine."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from support.rows import for_each

from hybrid.checkup.collecting import _log_files
from hybrid.checkup.facts import Address, Certificate, EnvFile, Facts, Holder, Machine, Pidfile, Platform, Target
from hybrid.checkup.findings import Finding, Level, as_json, as_text, exit_code
from hybrid.checkup.judging import DAY, judge, judge_together
from hybrid.config.service import Service

NOW = 1_800_000_000.0
MIB = 1 << 20
AMPLE = Machine(
    cores=4,
    memory=8 << 30,
    nofile=65_536,
    nofile_hard=65_536,
    somaxconn=4096,
    platform=Platform.NONE,
    is_root=False,
    now=NOW,
)


def facts(machine: dict[str, Any] | None = None, service: dict[str, Any] | None = None, **changes: Any) -> Facts:
    given = Facts(
        service=Service("shop:app", **(service or {})),
        machine=dataclasses.replace(AMPLE, **(machine or {})),
        target=Target("shop:app: WSGI application on epoll", memory=30 * MIB),
        addresses=(Address("127.0.0.1:8000"),),
    )
    return dataclasses.replace(given, **changes)


def about(what: str, given: Facts) -> list[tuple[Level, str]]:
    """Return level and reason of the findings about one part."""
    return [(finding.level, finding.why) for finding in judge(given) if finding.what == what]


def test_a_service_without_problems_has_no_finding_above_ok() -> None:
    found = judge(facts())
    assert {finding.level for finding in found} == {Level.OK}
    assert {finding.service for finding in found} == {"web"}


@for_each(
    ("what", "given", "level", "part"),
    [
        ("access_log", facts(other_problems=(("access_log", "no field x"),)), Level.ERROR, "no field x"),
        ("refork_after", facts(service={"refork_after": 9, "preload": "off"}), Level.WARNING, "has no effect"),
        ("user", facts(account_problem="there is no user 'x'"), Level.ERROR, "there is no user 'x'"),
        ("user", facts(service={"user": "nobody"}), Level.OK, "workers run as nobody"),
        ("user", facts({"is_root": True}), Level.NOTE, "workers run as root: set user"),
        ("loop", facts(loop_problem="uvloop is not installed"), Level.ERROR, "see: hybrid loops"),
        ("target", facts(target=Target(problem="shop:app: no such module")), Level.ERROR, "no such module"),
        ("nofile", facts({"nofile": 70}, {"workers": 8}), Level.ERROR, "72 descriptors are needed"),
        ("nofile", facts({"nofile": 1024}), Level.NOTE, "nofile is 1024"),
        ("nofile", facts({"nofile": 1024}), Level.NOTE, "the hard limit is 65536"),
        ("nofile", facts({"nofile": 1024}, {"max_connections": 2000}), Level.WARNING, "not max_connections = 2000"),
        ("nofile", facts({"nofile": 1024}, {"max_connections": 900}), Level.OK, "1024 descriptors"),
        ("backlog", facts({"somaxconn": 128}), Level.WARNING, "sysctl -w net.core.somaxconn=2048"),
        ("backlog", facts({"somaxconn": 128}, {"backlog": 128}), Level.OK, "128 connections"),
        ("workers", facts(service={"workers": 6}), Level.NOTE, "6 workers share 4 cores"),
        ("workers", facts(service={"workers": 17}), Level.WARNING, "set workers = 16 or less"),
        ("workers", facts({"cores": 1}), Level.OK, "1 of 1 core"),
        ("max_memory", facts({"memory": 1 << 30}, {"max_memory": 1 << 29}), Level.WARNING, 'max_memory = "256M"'),
        ("memory", facts({"memory": 100 * MIB}), Level.WARNING, "need up to 120 MiB, of 100 MiB here: set workers = 3"),
        ("graceful_timeout", facts({"platform": Platform.KUBERNETES}), Level.NOTE, "terminationGracePeriodSeconds"),
        ("graceful_timeout", facts({"platform": Platform.CONTAINER}), Level.NOTE, "kills 10s after"),
    ],
)
def test_a_problem_has_its_level_and_what_to_type(what: str, given: Facts, level: Level, part: str) -> None:
    assert [found for found in about(what, given) if found[0] is level and part in found[1]]


def test_a_time_for_the_stop_below_the_default_of_the_platform_needs_no_note() -> None:
    given = facts({"platform": Platform.SYSTEMD}, {"graceful_timeout": 60.0})
    assert about("graceful_timeout", given) == []


def test_limits_that_are_not_known_give_no_finding() -> None:
    given = facts({"memory": None, "somaxconn": None})
    assert not [one for one in judge(given) if one.what in ("backlog", "memory")]


@pytest.mark.parametrize(
    ("holder", "level", "part"),
    [
        (None, Level.ERROR, "cannot bind"),
        (Holder(7, is_hybrid=False, works_here=True), Level.ERROR, "cannot bind"),
        (Holder(7, is_hybrid=True, works_here=False), Level.ERROR, "another running hybrid, pid 7"),
        (Holder(7, is_hybrid=True, works_here=True), Level.NOTE, "a hybrid that runs here, pid 7: replace it"),
    ],
)
def test_an_address_in_use_names_a_running_hybrid(holder: Holder | None, level: Level, part: str) -> None:
    ((found, why),) = about(":1", facts(addresses=(Address(":1", "cannot bind :1: address in use", holder),)))
    assert found is level
    assert part in why


def certificate(days: float, **changes: Any) -> Certificate:
    given = Certificate("cert.pem", expires=NOW + days * DAY, names=("shop.example",))
    return dataclasses.replace(given, **changes)


@for_each(
    ("given", "level", "part"),
    [
        (certificate(90), Level.OK, "lasts 90 days, until 2027-04-15, for shop.example"),
        (certificate(30), Level.OK, "lasts 30 days"),
        (certificate(29.9), Level.WARNING, "lasts 29 more days"),
        (certificate(-0.1, warnings=("the certificate expired on x",)), Level.ERROR, "expired on 2027-01-15"),
        (certificate(90, names=()), Level.WARNING, "has no subjectAltName"),
        (certificate(90, warnings=("cert.pem: not valid before y",)), Level.WARNING, "not valid before y"),
        (Certificate("c", "keyfile: c: the key does not fit"), Level.ERROR, "the key does not fit"),
    ],
)
def test_a_certificate_is_judged_by_its_days_and_names(given: Certificate, level: Level, part: str) -> None:
    found = about("certificate", facts(certificate=given))
    assert max(found)[0] is level
    assert part in max(found)[1]


def test_a_log_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    paths = {"there": Level.OK, "new": Level.OK, "missing/log": Level.ERROR, ".": Level.ERROR}
    for path, level in paths.items():
        service = Service("shop:app", log_file=tmp_path / path, access_log="json", access_log_file=tmp_path / "access")
        files = _log_files(service)
        assert [one for one, _ in about("log_file", facts(log_files=files))] == [level], path
        assert [one for one, _ in about("access_log_file", facts(log_files=files))] == [Level.OK]
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("given", "level"),
    [
        (Pidfile("/run/x.pid"), Level.OK),
        (Pidfile("/run/x.pid", "/run does not exist"), Level.ERROR),
        (Pidfile("/run/x.pid", holder=Holder(7, True, True)), Level.NOTE),
        (Pidfile("/run/x.pid", holder=Holder(7, False, True)), Level.ERROR),
    ],
)
def test_a_pidfile_may_be_held_by_a_running_hybrid_only(given: Pidfile, level: Level) -> None:
    assert [found for found, _ in about("pidfile", facts(pidfile=given))] == [level]


def test_an_env_file_that_all_may_read_or_that_expects_substitution_is_noted() -> None:
    given = facts(env_files=(EnvFile(".env", 1, substituted=("URL",), is_public=True),))
    assert [level for level, _ in about("env_file", given)] == [Level.OK, Level.NOTE, Level.NOTE]


def test_two_services_with_one_address_are_an_error() -> None:
    services = [Service("a:b", name="a", bind=[":0", ":1"]), Service("a:b", name="b", bind=[":0", ":1"])]
    assert judge_together(services) == [
        Finding(Level.ERROR, ":1", "service a has this address too: give each service its own", "b")
    ]


@pytest.mark.parametrize(
    ("levels", "code"),
    [([], 0), ([Level.OK, Level.NOTE], 0), ([Level.WARNING, Level.OK], 1), ([Level.WARNING, Level.ERROR], 2)],
)
def test_the_exit_code_tells_the_worst_level(levels: list[Level], code: int) -> None:
    assert exit_code([Finding(level, "x", "y") for level in levels]) == code


def test_findings_are_lines_and_services_are_named_if_there_are_several() -> None:
    one = [Finding(Level.OK, "target", "fine", "web"), Finding(Level.WARNING, "user", "a\nb", "web")]
    assert as_text(one) == "ok       target  fine\nwarning  user    a (all of it: --json)"
    two = [*one, Finding(Level.ERROR, "target", "bad", "chat")]
    assert as_text(two).splitlines()[2] == "error    chat target  bad"


def test_findings_are_an_object_for_programs() -> None:
    found = json.loads(as_json([Finding(Level.NOTE, "user", "root", "web"), Finding(Level.OK, "x", "y")]))
    assert found == {
        "result": "note",
        "findings": [
            {"level": "note", "service": "web", "what": "user", "why": "root"},
            {"level": "ok", "service": "", "what": "x", "why": "y"},
        ],
    }
