"""Certificates by server name: the arguments of the application's hook, and the effect of its results."""

from __future__ import annotations

import logging
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.certificates import certificates
from support.handshakes import RefusedError, shake

from hybrid.workers.accepting.server_names import Hook, ServerNames
from hybrid.workers.accepting.tls import TlsError, peer_certificate_facts, server_context
from hybrid.workers.contract.exits import Exit

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
MODULE = """
import ssl
other = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
other.load_cert_chain({other!r})
asked = []
number = 7
def choose(name):
    asked.append(name)
    return other if name == "other.test" else None
async def choose_later(name): ...
def fail(name):
    raise LookupError("no such host")
def confuse(name):
    return name
"""


@pytest.fixture(autouse=True)
def hooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module `sample_hooks`, forgotten afterwards."""
    (tmp_path / "sample_hooks.py").write_text(MODULE.format(other=str(certificates().other)))
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("sample_hooks", None)


def server(hook: str = "choose", **changes: object) -> ssl.SSLContext:
    return server_context(certificates().tls(sni_hook=f"sample_hooks:{hook}", **changes))


def with_clients(hook: str = "choose") -> ssl.SSLContext:
    return server(hook, client_ca=certificates().ca, client_certificate="required")


def names_on(end: ssl.SSLObject) -> set[str]:
    certificate = end.getpeercert()
    assert certificate is not None
    return {str(value) for _, value in certificate["subjectAltName"]}  # type: ignore[misc]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_host_has_the_certificate_that_the_hook_chose(version: ssl.TLSVersion) -> None:
    client = certificates().client_context(version=version)
    client.set_alpn_protocols(["h2", "http/1.1"])
    ends = shake(server(), client, "other.test")
    assert names_on(ends.client) == {"other.test"}
    assert ends.client.selected_alpn_protocol() == "http/1.1"
    assert peer_certificate_facts(ends.server)["server_cert"] is None


def test_none_is_the_default_certificate() -> None:
    assert "localhost" in names_on(shake(server(), certificates().client_context(), "localhost").client)


def test_a_client_without_a_server_name_gets_the_default_without_a_call() -> None:
    client = certificates().client_context()
    client.check_hostname = False
    shake(server(), client, None)
    assert sys.modules["sample_hooks"].asked == []


@pytest.mark.parametrize(("hook", "said"), [("fail", "no such host"), ("confuse", "of type str")])
def test_a_failing_hook_is_logged_and_the_handshake_refused(
    hook: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    context = server(hook)
    with caplog.at_level(logging.ERROR, "hybrid"), pytest.raises(RefusedError) as refused:
        shake(context, certificates().client_context())
    assert "alert internal error" in str(refused.value.client).lower().replace("_", " ")
    assert "choosing a certificate for 'localhost' failed" in caplog.text
    assert said in caplog.text


@pytest.mark.parametrize("version", VERSIONS)
def test_client_certificates_are_required_on_every_host(version: ssl.TLSVersion) -> None:
    context = with_clients()
    with pytest.raises(RefusedError):
        shake(context, certificates().client_context(version=version), "other.test")
    with pytest.raises(RefusedError):
        shake(context, certificates().client_context(certificates().stranger, version), "other.test")
    ends = shake(context, certificates().client_context(certificates().client, version), "other.test")
    assert str(peer_certificate_facts(ends.server)["client_cert_name"]).startswith("CN=Alice")


def test_a_context_may_serve_two_servers() -> None:
    client = certificates().client_context(certificates().client)
    for context in (server(), with_clients(), with_clients(), server()):
        assert names_on(shake(context, client, "other.test").client) == {"other.test"}


def own_authorities() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates().other)
    context.load_verify_locations(certificates().stranger_ca)
    return context


def hooked(hook: Hook, mode: ssl.VerifyMode, authorities: str | None) -> ssl.SSLContext:
    context = server_context(certificates().tls())
    context.sni_callback = ServerNames(hook, mode, authorities)
    return context


def test_a_host_with_its_own_authorities_is_refused_if_clients_are_asked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """OpenSSL would resume sessions there that another host, with other authorities, has admitted."""
    context = hooked(lambda _: own_authorities(), ssl.CERT_REQUIRED, certificates().ca.read_text())
    with pytest.raises(RefusedError):
        shake(context, certificates().client_context(certificates().stranger), "other.test")
    assert "CA certificates of its own" in caplog.text


def test_a_hosts_authorities_do_not_matter_if_clients_are_not_asked() -> None:
    context = hooked(lambda _: own_authorities(), ssl.CERT_NONE, None)
    assert names_on(shake(context, certificates().client_context(), "other.test").client) == {"other.test"}


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        ("missing", "'sample_hooks' has no attribute 'missing'"),
        ("number", "'sample_hooks:number' is an object of type int"),
        ("choose_later", "'sample_hooks:choose_later' is a coroutine function"),
    ],
)
def test_an_invalid_hook_is_refused_at_the_start(hook: str, said: str) -> None:
    with pytest.raises(TlsError) as raised:
        server(hook)
    assert (raised.value.field, raised.value.code) == ("sni_hook", Exit.TARGET)
    assert said in raised.value.reason


def test_a_missing_module_is_named() -> None:
    with pytest.raises(TlsError, match="there is no module 'no_such_module'"):
        server_context(certificates().tls(sni_hook="no_such_module:choose"))
