"""From a `Service` to settings and an application."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import dill
import pytest

from hybrid.config import ConfigError, Service
from hybrid.cpus import count_usable
from hybrid.plan import Plan, _HomeFinder, plan
from hybrid.supervisor.addresses import TcpBind, UdpBind, UnixBind


def handle(sock: object, address: object) -> str:
    """A target."""
    return "handled"


def plan_of(target: object = "app:handle", *, travels: bool = False, **values: object) -> Plan:
    return plan(Service(target, **values), travels=travels)  # type: ignore[arg-type]


def test_addresses_are_understood() -> None:
    binds = plan_of(bind=["127.0.0.1:80", "udp://[::1]:53", "unix:/run/x"]).settings.binds
    assert binds == (TcpBind("127.0.0.1", 80), UdpBind("::1", 53), UnixBind("/run/x"))


def test_auto_means_as_many_workers_as_cores_are_usable() -> None:
    assert plan_of().settings.workers == count_usable()


def test_auto_means_a_certain_loop() -> None:
    assert plan_of().application.loop == "epoll"


def test_values_reach_the_side_they_are_for() -> None:
    made = plan_of(name="lines", workers=3, backlog=7, max_connections=9, interface="stream", pin=True, backoff=1)
    assert (made.settings.service, made.settings.workers, made.settings.backlog) == ("lines", 3, 7)
    assert (made.settings.pin, made.settings.backoff) == (True, 1.0)
    assert (made.application.max_connections, made.application.interface) == (9, "stream")


def test_every_default_is_the_same_on_both_sides_of_the_plan() -> None:
    """What is stated twice must not drift apart."""
    settings = plan_of().settings
    for field in dataclasses.fields(settings):
        if field.default is not dataclasses.MISSING:
            assert getattr(settings, field.name) == field.default, field.name


def test_a_reference_stays_a_reference() -> None:
    assert plan_of("app:handle", travels=True).application.reference == "app:handle"


def test_a_callable_that_stays_in_this_process_is_left_as_it_is() -> None:
    assert plan_of(handle).application.factory is handle


def test_a_callable_that_travels_becomes_bytes() -> None:
    data = plan_of(lambda sock, address: "far away", travels=True).application.pickled
    assert data is not None
    assert dill.loads(data)(None, None) == "far away"


def test_a_whole_plan_travels() -> None:
    made = plan_of(travels=True, pidfile="x.pid", bind=["unix:@x"])
    assert dill.loads(dill.dumps(made)) == made


@pytest.mark.parametrize(
    ("field", "value"), [("bind", "nonsense"), ("loop", "epol"), ("user", "no-such-user"), ("group", "no-such-group")]
)
def test_what_only_the_sides_can_tell_is_named_too(field: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_of(**{field: value})
    assert caught.value.field == field


def test_a_directory_that_has_gone_is_named(tmp_path: Path) -> None:
    made = plan_of(chdir=tmp_path)
    tmp_path.rmdir()
    with pytest.raises(ConfigError, match=f"cannot work in {tmp_path}: No such file"):
        made.enter()


def test_the_home_of_a_target_is_found_under_its_name(tmp_path: Path) -> None:
    (tmp_path / "file.py").write_text("word = 5\n")
    spec = _HomeFinder("odd.name", str(tmp_path / "file.py")).find_spec("odd.name")
    assert spec is not None
    assert spec.origin == str(tmp_path / "file.py")


def test_the_parents_of_that_home_are_empty_packages() -> None:
    spec = _HomeFinder("odd.deep.name", "file.py").find_spec("odd.deep")
    assert spec is not None
    assert spec.submodule_search_locations == []


def test_other_modules_are_none_of_its_business() -> None:
    assert _HomeFinder("odd.name", "file.py").find_spec("od") is None
