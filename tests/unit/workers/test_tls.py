"""The context of a TLS server: protocols, client certificates, and unusable settings."""

from __future__ import annotations

import os
import pickle
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from support.certificates import PASSWORD, certificates
from support.handshakes import RefusedError, answer_to_client_hello, shake
from support.rows import for_each

from hybrid.workers.accepting.tls import TlsError, peer_certificate_facts, server_context
from hybrid.workers.contract.exits import Exit

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
ALERT_PROTOCOL_VERSION = bytes([2, 70])  # fatal, protocol_version: RFC 8446, section 6


def refusal(**changes: object) -> tuple[str, str]:
    with pytest.raises(TlsError) as raised:
        server_context(certificates().tls(**changes))
    assert raised.value.code is Exit.USAGE
    return raised.value.field, raised.value.reason


def for_clients(mode: str, **changes: object) -> ssl.SSLContext:
    return server_context(certificates().tls(client_ca=certificates().ca, client_certificate=mode, **changes))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_modern_client_gets_http_1_1(version: ssl.TLSVersion) -> None:
    client = certificates().client_context(version=version)
    client.set_alpn_protocols(["h2", "http/1.1"])
    ends = shake(server_context(certificates().tls()), client)
    assert ends.server.selected_alpn_protocol() == "http/1.1"
    assert ends.server.compression() is None


def test_tls_1_1_is_refused_with_an_alert() -> None:
    assert answer_to_client_hello(server_context(certificates().tls()), 0x0302).endswith(ALERT_PROTOCOL_VERSION)


def test_a_client_that_supports_only_http_2_negotiates_nothing() -> None:
    client = certificates().client_context()
    client.set_alpn_protocols(["h2"])
    assert shake(server_context(certificates().tls()), client).client.selected_alpn_protocol() is None


def test_compression_and_renegotiation_are_off() -> None:
    assert server_context(certificates().tls()).options & ssl.OP_NO_COMPRESSION
    assert server_context(certificates().tls()).options & ssl.OP_NO_RENEGOTIATION


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_is_resumed(version: ssl.TLSVersion) -> None:
    server, client = server_context(certificates().tls()), certificates().client_context(version=version)
    first = shake(server, client)
    assert not first.server.session_reused
    assert shake(server, client, session=first.client.session).server.session_reused


def test_key_and_certificate_may_be_in_one_file() -> None:
    both = certificates().both
    shake(server_context(certificates().tls(certificate=both, key=both)), certificates().client_context())


def test_comments_between_the_blocks_may_be_in_any_language() -> None:
    remark = "# für localhost\n".encode()
    tls = certificates().tls(certificate=remark + certificates().certificate.read_bytes())
    shake(server_context(tls), certificates().client_context())


def test_an_encrypted_key_is_decrypted_with_its_password() -> None:
    tls = certificates().tls(key=certificates().encrypted_key, password=PASSWORD)
    shake(server_context(tls), certificates().client_context())


@pytest.mark.parametrize(
    ("password", "said"),
    [(None, "is needed"), ("wrong", "is wrong"), ("", "is wrong"), ("x" * 1025, "longer than the 1024 bytes")],
)
def test_an_encrypted_key_without_a_password_is_an_error_without_a_prompt(password: str | None, said: str) -> None:
    field, reason = refusal(key=certificates().encrypted_key, password=password)
    assert field == "password"
    assert said in reason


@pytest.mark.parametrize("name", ["rsa", "other"])
def test_a_key_of_another_certificate_is_refused(name: str) -> None:
    key = getattr(certificates(), name)
    assert refusal(key=key) == ("keyfile", "the private key does not belong to the certificate")


@for_each(
    ("changes", "field", "said"),
    [
        ({"certificate": b""}, "certfile", "the certificate or its chain cannot be read"),
        ({"key": b""}, "keyfile", "the private key is damaged"),
        ({"client_certificate": "optional", "client_ca": b"no"}, "ca_certs", "the list of authorities"),
        ({"client_certificate": "optional"}, "ca_certs", "requires CA certificates"),
        ({"client_certificate": "perhaps"}, "client_certificate", "not one of none, optional, required"),
        ({"ciphers": "nonsense"}, "ciphers", "'nonsense' selects no TLS 1.2 cipher"),
        ({"ciphers": "TLS_AES_128_GCM_SHA256"}, "ciphers", "TLS 1.3 ciphers cannot be configured"),
        ({"ciphers": "A\0B"}, "ciphers", "selects no TLS 1.2 cipher"),
        ({"ciphers": "NULL"}, "ciphers", "append :!aNULL:!eNULL"),
        ({"ciphers": "aNULL"}, "ciphers", "append :!aNULL:!eNULL"),
    ],
)
def test_an_unusable_setting_is_named(changes: dict[str, object], field: str, said: str) -> None:
    found, reason = refusal(**changes)
    assert found == field
    assert said in reason


def test_a_certificate_with_a_flipped_bit_is_damaged() -> None:
    lines = certificates().certificate.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].swapcase()
    field, reason = refusal(certificate=b"".join(lines))
    assert (field, reason) == ("certfile", "the certificate or its chain cannot be read: it is damaged PEM")


def test_the_list_of_ciphers_is_for_tls_1_2() -> None:
    server = server_context(certificates().tls(ciphers="ECDHE-ECDSA-CHACHA20-POLY1305"))
    ends = shake(server, certificates().client_context(version=ssl.TLSVersion.TLSv1_2))
    cipher = ends.server.cipher()
    assert cipher is not None
    assert cipher[0] == "ECDHE-ECDSA-CHACHA20-POLY1305"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("mode", "shown", "is_let_in"),
    [
        ("none", None, True),
        ("none", "stranger", True),  # not requested
        ("optional", None, True),
        ("optional", "client", True),
        ("optional", "stranger", False),
        ("required", None, False),
        ("required", "client", True),
        ("required", "stranger", False),
    ],
)
def test_client_certificates_are_checked_as_configured(
    version: ssl.TLSVersion, mode: str, shown: str | None, is_let_in: bool
) -> None:
    client = certificates().client_context(getattr(certificates(), shown) if shown else None, version)
    if is_let_in:
        shake(for_clients(mode), client)
    else:
        with pytest.raises(RefusedError) as refused:
            shake(for_clients(mode), client)
        assert refused.value.server
        assert "alert" in str(refused.value.client).lower()


@pytest.mark.parametrize("key", ["key", "other"])
def test_no_file_stays_open(key: str) -> None:
    try:
        server_context(certificates().tls(key=getattr(certificates(), key)))
    except TlsError:
        assert key == "other"
    assert not [entry for entry in Path("/proc/self/fd").iterdir() if "memfd:tls" in os.path.realpath(entry)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_worker_without_privileges_can_load_the_key() -> None:
    code = """if True:
        import os, pickle, sys
        from hybrid.workers.accepting.tls import server_context
        tls = pickle.load(sys.stdin.buffer)
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        server_context(tls)
        print("loaded")
    """
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        input=pickle.dumps(certificates().tls()),
        capture_output=True,
        timeout=60,
        check=False,
        cwd="/",
    )
    assert done.stdout == b"loaded\n", done.stderr.decode()


@pytest.mark.parametrize(("version", "number"), [(VERSIONS[0], 0x0303), (VERSIONS[1], 0x0304)])
def test_the_facts_of_a_connection_without_a_client_certificate(version: ssl.TLSVersion, number: int) -> None:
    server = server_context(certificates().tls(ciphers="ECDHE-ECDSA-AES128-GCM-SHA256"))
    facts = peer_certificate_facts(shake(server, certificates().client_context(version=version)).server)
    own, end = certificates().certificate.read_text().partition("-----END CERTIFICATE-----")[:2]
    assert facts.pop("cipher_suite") in ((0xC02B,) if number == 0x0303 else (0x1301, 0x1302, 0x1303))
    assert facts == {
        "server_cert": own + end + "\n",
        "client_cert_chain": [],
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": number,
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_the_facts_of_a_connection_with_a_client_certificate(version: ssl.TLSVersion) -> None:
    """The name is escaped and has its last part first: RFC 4514."""
    server, client = for_clients("required"), certificates().client_context(certificates().client, version)
    first = shake(server, client)
    resumed = shake(server, client, session=first.client.session)
    assert resumed.server.session_reused
    for ends in (first, resumed):
        facts = peer_certificate_facts(ends.server)
        assert facts["client_cert_name"] == r"CN=Alice\, \+ Bob,OU=ends in space\ ,O=\ Example #1"
        assert facts["client_cert_chain"][0] in certificates().client.read_text()
        assert facts["client_cert_error"] is None


@pytest.mark.skipif(sys.version_info < (3, 13), reason="ssl shows the chain of a peer since Python 3.13")
def test_the_clients_whole_chain_is_included() -> None:
    ends = shake(for_clients("required"), certificates().client_context(certificates().long_chain))
    assert len(peer_certificate_facts(ends.server)["client_cert_chain"]) == 2
