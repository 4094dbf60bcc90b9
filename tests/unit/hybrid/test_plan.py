"""From a `Service` to settings and an application."""

from __future__ import annotations

import dataclasses
import datetime
import re
from pathlib import Path
from typing import Any

import dill
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from support.rows import for_each

from hybrid.config import admin as admin_options
from hybrid.config.cpus import count_usable
from hybrid.config.pools import OffloadPool
from hybrid.config.service import ConfigError, Service
from hybrid.config.targets import DEMONSTRATION
from hybrid.plan import Plan, _HomeFinder, plan
from hybrid.plans import Plans
from hybrid.supervisor.listeners.addresses import TcpBind, UdpBind, UnixBind
from hybrid.supervisor.settings import Pool
from hybrid.workers.http.settings import HttpSettings
from hybrid.workers.offload.settings import OffloadSettings, PoolSettings


def handle(sock: object, address: object) -> str:
    """A target."""
    return "handled"


def plan_of(target: object = "app:handle", *, travels: bool = False, **values: object) -> Plan:
    return plan(Service(target, **values), travels=travels)  # type: ignore[arg-type]


def test_addresses_are_parsed() -> None:
    binds = plan_of(bind=["127.0.0.1:80", "udp://[::1]:53", "unix:/run/x"]).settings.binds
    assert binds == (TcpBind("127.0.0.1", 80), UdpBind("::1", 53), UnixBind("/run/x"))


def test_auto_means_as_many_workers_as_cores_are_usable() -> None:
    assert plan_of().settings.workers == count_usable()


def test_the_default_loop_is_resolved() -> None:
    assert plan_of().application.loop == "epoll"


def test_values_reach_the_supervisor_or_the_workers() -> None:
    made = plan_of(name="lines", workers=3, backlog=7, max_connections=9, interface="stream", pin=True, backoff=1)
    assert (made.settings.service, made.settings.workers, made.settings.backlog) == ("lines", 3, 7)
    assert (made.settings.pin, made.settings.backoff) == (True, 1.0)
    assert (made.application.max_connections, made.application.interface) == (9, "stream")


def test_every_default_is_the_same_in_service_and_settings() -> None:
    """The defaults are stated twice and must not diverge."""
    settings = plan_of().settings
    for field in dataclasses.fields(settings):
        if field.default is not dataclasses.MISSING and field.name != "pools":  # which depends on the cores
            assert getattr(settings, field.name) == field.default, field.name


def test_every_default_of_http_is_that_of_the_workers() -> None:
    application = plan_of().application
    assert application.http == HttpSettings()
    assert application.call_factory is False


def test_values_about_http_reach_the_workers() -> None:
    made = plan_of(
        factory=True, keep_alive_timeout=7, max_body_size=9, root_path="/x", forwarded_allow_ips="unix,::1", threads=3
    )
    http = made.application.http
    assert (http.limits.keep_alive_timeout, http.limits.max_body_size, http.root_path) == (7.0, 9, "/x")
    assert (http.forwarded_allow_ips, http.threads) == (("unix", "::1"), 3)
    assert isinstance(http.limits.keep_alive_timeout, float)
    assert made.application.call_factory is True


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """A directory with cert.pem, key.pem, and ca.pem."""
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost")
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    leaf.private_key_pem.write_to_path(tmp_path / "key.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path


def test_tls_files_are_read_from_the_working_directory(certificates: Path) -> None:
    made = plan_of(chdir=certificates, certfile="cert.pem", keyfile="key.pem", ca_certs="ca.pem", sni_hook="app:hook")
    tls = made.application.http.tls
    assert tls is not None
    assert b"BEGIN CERTIFICATE" in tls.certificate
    assert tls.key == (certificates / "key.pem").read_bytes()
    assert tls.client_ca is not None
    assert (tls.client_certificate, tls.sni_hook) == ("required", "app:hook")
    assert dill.loads(dill.dumps(made)) == made


def test_a_private_key_is_not_shown(certificates: Path) -> None:
    made = plan_of(chdir=certificates, certfile="cert.pem", keyfile="key.pem")
    assert "PRIVATE KEY" not in repr(made)


@pytest.mark.parametrize(
    ("files", "field", "reason"),
    [
        ({"certfile": "no.pem", "keyfile": "key.pem"}, "certfile", "no.pem"),
        ({"certfile": "cert.pem", "keyfile": "no.pem"}, "keyfile", "no.pem"),
        ({"certfile": "cert.pem", "keyfile": "key.pem", "ca_certs": "key.pem"}, "ca_certs", "no certificate"),
        ({"certfile": "cert.pem", "keyfile": "locked.pem"}, "keyfile_password", ""),
        ({"certfile": "cert.pem", "keyfile": "locked.pem", "keyfile_password": "wrong"}, "keyfile_password", ""),
        ({"certfile": "cert.pem", "keyfile": "key.pem", "ciphers": "nonsense"}, "ciphers", ""),
    ],
)
def test_an_error_about_tls_files_names_the_option(
    certificates: Path, files: dict[str, str], field: str, reason: str
) -> None:
    key = serialization.load_pem_private_key((certificates / "key.pem").read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (certificates / "locked.pem").write_bytes(locked)
    with pytest.raises(ConfigError) as caught:
        plan_of(chdir=certificates, **files)
    assert caught.value.field == field
    assert reason in caught.value.reason


def test_warnings_are_logged_when_the_process_becomes_the_supervisor(
    certificates: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(certificates)
    past = trustme.CA().issue_cert("localhost", not_after=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
    past.private_key_and_cert_chain_pem.write_to_path(certificates / "past.pem")
    made = plan_of(certfile="past.pem")
    assert capfd.readouterr().err == ""
    made.enter()
    assert re.search(r" WARNING .*past\.pem: .*2020", capfd.readouterr().err)


def test_supervisor_and_workers_get_refork_after() -> None:
    made = plan_of(refork_after=500)
    assert (made.settings.policy.reforks, made.application.recycle.refork_after, made.warnings) == (True, 500, ())


def test_reforks_have_no_effect_without_a_zygote() -> None:
    made = plan_of(refork_after=500, preload="off")
    assert not made.settings.policy.reforks
    assert made.warnings == ("--refork-after has no effect with --preload off: there is no zygote",)


def test_a_reference_stays_a_reference() -> None:
    assert plan_of("app:handle", travels=True).application.reference == "app:handle"


def test_a_callable_for_this_process_is_not_pickled() -> None:
    assert plan_of(handle).application.factory is handle


def test_a_callable_for_another_process_is_pickled() -> None:
    data = plan_of(lambda sock, address: "far away", travels=True).application.pickled
    assert data is not None
    assert dill.loads(data)(None, None) == "far away"


def test_a_plan_can_be_pickled() -> None:
    made = plan_of(travels=True, pidfile="x.pid", bind=["unix:@x"])
    assert dill.loads(dill.dumps(made)) == made


@for_each(
    ("field", "value"),
    [
        ("bind", "nonsense"),
        ("loop", "epol"),
        ("user", "no-such-user"),
        ("group", "no-such-group"),
        ("access_log", "%(nonsense)s"),
    ],
)
def test_values_that_service_cannot_check_are_refused_by_name(field: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_of(**{field: value})
    assert caught.value.field == field


def test_a_removed_directory_is_named(tmp_path: Path) -> None:
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


def test_the_finder_ignores_other_modules() -> None:
    assert _HomeFinder("odd.name", "file.py").find_spec("od") is None


def test_a_supervisor_has_one_program_for_events() -> None:
    one, other = (Service("app:handle", name=name, bind=f"127.0.0.1:{port}") for name, port in (("a", 1), ("b", 2)))
    notified = dataclasses.replace(other, on_event=("notify", "ops"))
    assert Plans.of((one, notified), travels=False).deployment.on_event == ("notify", "ops")
    assert Plans.of((one, other), travels=False).deployment.on_event == ()
    with pytest.raises(ConfigError, match="one for all services") as caught:
        Plans.of((dataclasses.replace(one, on_event=("mail",)), notified), travels=False)
    assert caught.value.field == "on_event"


def test_a_supervisor_has_one_log_and_each_service_an_access_log_of_its_own(tmp_path: Path) -> None:
    def service(name: str, **fields: Any) -> Service:
        return Service(
            "shop:app", name=name, bind=f"unix:{tmp_path}/{name}", chdir=tmp_path, access_log="json", **fields
        )

    web, chat = service("web", log_file="log"), service("chat")
    with pytest.raises(ConfigError, match="a supervisor has one for all services: set it at the top level"):
        Plans.of([web, chat], travels=False)
    chat = service("chat", log_file="log", access_log_file="chat")
    made = [one.settings for one in Plans.of([web, chat], travels=False).plans]
    assert [one.log_file for one in made] == [tmp_path / "log"] * 2
    assert [one.access_log_file for one in made] == [None, tmp_path / "chat"]


def test_an_access_log_file_needs_an_access_log() -> None:
    with pytest.raises(ConfigError, match="it needs an access log: add --access-log"):
        Service("shop:app", access_log_file="x")


def where_metrics_go(*services: Service) -> dict[str, str]:
    """Return where the metrics of the applications are written, by service."""
    return {one.settings.service: one.settings.app_metrics for one in Plans.of(services, travels=False).plans}


def test_metrics_of_the_application_are_written_beside_admin_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    assert where_metrics_go(Service("app:handle")) == {"web": "off"}
    admin = Service("app:handle", admin="127.0.0.1:0")
    chat = Service("app:handle", name="chat", bind="127.0.0.1:0", admin_app_metrics=False)
    program = Service(command=("sleep", "1"), name="program", bind="127.0.0.1:1")
    found = where_metrics_go(admin, chat, program)
    assert found == {"web": "auto", "chat": "off", "program": "off", "admin": "auto"}
    alone = Service("app:handle", admin="127.0.0.1:0", admin_app_metrics=False)
    assert where_metrics_go(alone) == {"web": "off", "admin": "off"}


def test_the_users_directory_for_metrics_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "env").write_text("PROMETHEUS_MULTIPROC_DIR=metrics\n")
    service = Service("app:handle", admin="127.0.0.1:0", chdir=str(tmp_path), env_file=tmp_path / "env")
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    assert where_metrics_go(service)["web"] == str(tmp_path / "metrics")
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/run/metrics")
    assert where_metrics_go(service) == {"web": "/run/metrics", "admin": "auto"}


@for_each(
    ("target", "admin", "expected"),
    [
        (DEMONSTRATION, "127.0.0.1:9100", {"HYBRID_DEMONSTRATION_DASHBOARD": "127.0.0.1:9100"}),
        (DEMONSTRATION, "127.0.0.1:0", {}),
        (DEMONSTRATION, "unix:/run/admin", {}),
        (DEMONSTRATION, None, {}),
        ("app:handle", "127.0.0.1:9100", {}),
    ],
)
def test_only_the_demonstration_is_told_where_the_dashboard_is(
    target: str, admin: str | None, expected: dict[str, str]
) -> None:
    made = Plans.of([Service(target, admin=admin)], travels=False)
    assert dict(made.plans[0].environment) == expected


def test_the_process_of_admin_is_told_the_collector() -> None:
    service = Service("app:handle", admin="127.0.0.1:0", otel_endpoint="http://127.0.0.1:4318", otel_interval=5)
    chat = Service("app:handle", name="chat", bind="127.0.0.1:1")
    plans = Plans.of([chat, service], travels=False).plans
    assert [one.admin and (one.admin.otel_endpoint, one.admin.otel_interval) for one in plans] == [
        None,
        None,
        ("http://127.0.0.1:4318", 5.0),
    ]


def test_the_process_of_admin_is_told_what_was_set_without_secrets() -> None:
    web = Service(
        "shop:app",
        name="web",
        admin="127.0.0.1:9100",
        admin_token="a-secret-of-the-test",
        keep_alive_timeout=30,
    )
    made = Plans.of([web], travels=False)
    told = made.plans[-1].admin
    assert told is not None
    found = dict(told.configuration["web"])
    assert (found["admin_token"], found["keep_alive_timeout"]) == ("***", "30s")
    assert "graceful_timeout" not in found
    assert "secret" not in repr(told)


def test_a_collector_needs_the_process_of_admin() -> None:
    with pytest.raises(ConfigError, match="the process of --admin sends the metrics: set --admin too"):
        Plans.of([Service("app:handle", otel_endpoint="http://127.0.0.1:4318")], travels=False)


def test_a_collector_needs_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_options, "_OTEL_PARTS", ("no/such/part",))
    with pytest.raises(ConfigError, match=r"not installed: pip install 'hybrid-runtime\[otel\]'"):
        Service("app:handle", admin="127.0.0.1:0", otel_endpoint="http://127.0.0.1:4318")


@for_each(
    ("endpoint", "reason"),
    [
        ("collector:4318", "use http://HOST:PORT"),
        ("ftp://collector", "use http://HOST:PORT"),
        ("http://", "use http://HOST:PORT"),
        ("http://collector:65536", "use http://HOST:PORT"),
        ("http://collector?x", "use http://HOST:PORT"),
        ("http://shop:hunter2@collector", "set the variable OTEL_EXPORTER_OTLP_HEADERS"),
    ],
)
def test_an_address_of_a_collector_is_checked(endpoint: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        Service("app:handle", admin="127.0.0.1:0", otel_endpoint=endpoint)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("endpoint", ["http://[::1]:4318", "https://otel.example/shop/v1/metrics", "http://collector"])
def test_addresses_of_collectors_are_urls(endpoint: str) -> None:
    assert Service("app:handle", admin="127.0.0.1:0", otel_endpoint=endpoint).otel_endpoint == endpoint


def test_the_address_of_a_cluster_is_for_the_supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls are offloaded then even without offload workers. Dask is looked for, and not imported."""
    (tmp_path / "distributed.py").write_text("raise ImportError")
    monkeypatch.syspath_prepend(tmp_path)
    made = plan(Service("a:b", offload_to="tcp://x:1", offload_workers=0), travels=False)
    assert made.settings.pools == (Pool("cpu", 0, to="tcp://x:1"),)
    assert made.application.offload == OffloadSettings((PoolSettings("cpu"),))


def test_a_pool_has_the_options_of_the_service_that_it_does_not_set() -> None:
    pools = (OffloadPool("ml", workers=2, timeout=5, at_start=True), OffloadPool("slow"))
    made = plan_of(offload_workers=3, offload_pools=pools, offload_timeout=9, offload_nice=7)
    assert made.settings.pools == (Pool("cpu", 3), Pool("ml", 2, at_start=True), Pool("slow", 1))
    assert made.application.offload == OffloadSettings(
        (
            PoolSettings("cpu", timeout=9.0, nice=7),
            PoolSettings("ml", timeout=5.0, nice=7),
            PoolSettings("slow", timeout=9.0, nice=7),
        )
    )


def test_a_pool_of_its_own_needs_no_other_offload_workers() -> None:
    made = plan_of(offload_workers=0, offload_pools=(OffloadPool("ml"),))
    assert made.settings.pools == (Pool("ml"),)
    assert made.application.offload is not None
    assert made.application.offload.names == ("cpu", "ml"), "a call that names no pool runs in a process for itself"


def test_with_a_cluster_a_pool_of_its_own_stays_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "distributed.py").write_text("raise ImportError")
    monkeypatch.syspath_prepend(tmp_path)
    made = plan(Service("a:b", offload_to="tcp://x:1", offload_pools=[OffloadPool("ml")]), travels=False)
    assert [(pool.name, pool.to) for pool in made.settings.pools] == [("cpu", "tcp://x:1"), ("ml", "")]


def test_a_program_has_no_pools() -> None:
    """They may stand at the top level of a file, for all services."""
    made = plan(Service(command=("true",), offload_pools=[OffloadPool("ml")]), travels=False)
    assert (made.settings.pools, made.application.offload) == ((), None)
