"""From a `Service` to settings and an application."""

from __future__ import annotations

import dataclasses
import datetime
import re
from pathlib import Path

import dill
import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from hybrid.config.cpus import count_usable
from hybrid.config.service import ConfigError, Service
from hybrid.plan import Plan, _HomeFinder, plan
from hybrid.supervisor.listeners.addresses import TcpBind, UdpBind, UnixBind
from hybrid.workers.http.settings import HttpSettings


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
        if field.default is not dataclasses.MISSING:
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
    assert (made.settings.policy.reforks, made.application.wear.refork_after, made.warnings) == (True, 500, ())


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


@pytest.mark.parametrize(
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
