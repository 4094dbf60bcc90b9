"""Reading and checking the TLS files: the errors for wrong ones, and the limits of the check."""

from __future__ import annotations

import contextlib
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.certificates import PASSWORD, certificates
from support.handshakes import shake
from support.rows import for_each

from hybrid.config import certificate_check
from hybrid.config.certificates import CertificateError, read_tls
from hybrid.workers.accepting.tls import server_context
from hybrid.workers.http.settings import Tls

BOTH = "both.pem"  # in the directory of the certificates


def read(warn: Callable[[str], object] = pytest.fail, **changes: object) -> Tls | None:
    values: dict[str, object] = dict.fromkeys(
        ("certfile", "keyfile", "password", "ca_certs", "client_certificate", "ciphers", "sni_hook")
    )
    directory = certificates().folder
    return read_tls(**{**values, "directory": directory, "warn": warn, **changes})  # type: ignore[arg-type]


def refusal(**changes: object) -> tuple[str, str]:
    with pytest.raises(CertificateError) as raised:
        read(**changes)
    assert str(raised.value) == f"{raised.value.field}: {raised.value.reason}"
    return raised.value.field, raised.value.reason


def test_no_certificate_means_no_tls() -> None:
    assert read() is None
    assert read(client_certificate="none") is None


@for_each(
    ("field", "value"),
    [
        ("keyfile", "server.key"),
        ("password", "secret"),
        ("ca_certs", "ca.pem"),
        ("client_certificate", "required"),
        ("ciphers", "HIGH"),
        ("sni_hook", "app:choose"),
    ],
)
def test_a_value_that_needs_a_certificate_is_refused_without_one(field: str, value: str) -> None:
    assert refusal(**{field: value}) == (field, "has no effect without a certificate: give certfile too")


def test_the_files_are_read() -> None:
    tls = read(certfile="server.pem", keyfile="server.key", ca_certs="ca.pem", ciphers="HIGH:!aNULL:!eNULL")
    assert tls == Tls(
        certificate=certificates().certificate.read_bytes(),
        key=certificates().key.read_bytes(),
        client_ca=certificates().ca.read_bytes(),
        client_certificate="required",
        ciphers="HIGH:!aNULL:!eNULL",
    )


def test_a_key_in_the_file_of_the_certificate_is_found_and_kept_apart() -> None:
    tls = read(certfile=certificates().both)
    assert tls is not None
    assert b"PRIVATE KEY" not in tls.certificate
    shake(server_context(tls), certificates().client_context())


def test_the_password_of_a_key_is_passed_on() -> None:
    tls = read(certfile="server.pem", keyfile="encrypted.key", password=PASSWORD)
    assert tls is not None
    assert tls.password == PASSWORD


@pytest.mark.parametrize(
    ("keyfile", "password", "field", "said"),
    [
        ("encrypted.key", None, "password", "the private key is encrypted: its password is needed"),
        ("encrypted.key", "open", "password", "the private key cannot be decrypted: the password is wrong"),
        ("other.pem", None, "keyfile", "the private key does not belong to the certificate"),
        ("rsa.pem", None, "keyfile", "the private key does not belong to the certificate"),
    ],
)
def test_an_unusable_key_is_named(keyfile: str, password: str | None, field: str, said: str) -> None:
    found = refusal(certfile="server.pem", keyfile=keyfile, password=password)
    assert found == (field, f"{certificates().folder / keyfile}: {said}")


@for_each(
    ("changes", "field", "said"),
    [
        ({"certfile": "missing.pem"}, "certfile", "cannot read {}/missing.pem: No such file or directory"),
        ({"certfile": "."}, "certfile", "cannot read {}: Is a directory"),
        ({"certfile": "nu\0l"}, "certfile", "embedded null byte"),
        ({"certfile": "server.pem", "keyfile": "no.key"}, "keyfile", "cannot read {}/no.key: No such file"),
        ({"certfile": BOTH, "ca_certs": "no.pem"}, "ca_certs", "cannot read {}/no.pem: No such file"),
        ({"certfile": "server.pem"}, "keyfile", "is needed: {}/server.pem holds no private key"),
        ({"certfile": "server.pem", "keyfile": "ca.pem"}, "keyfile", "{}/ca.pem holds no private key in PEM form"),
        ({"certfile": "server.key", "keyfile": "server.pem"}, "certfile", "are the two files swapped?"),
        ({"certfile": BOTH, "client_certificate": "maybe"}, "client_certificate", "'maybe' is none of none, optional"),
        ({"certfile": BOTH, "client_certificate": "optional"}, "client_certificate", "optional needs ca_certs"),
        ({"certfile": BOTH, "client_certificate": "none", "ca_certs": "ca.pem"}, "ca_certs", "has no effect while"),
        ({"certfile": BOTH, "ciphers": "nonsense"}, "ciphers", "'nonsense' selects no TLS 1.2 cipher"),
        ({"certfile": BOTH, "sni_hook": "app.py"}, "sni_hook", "'app.py' is not of the form module:attribute"),
    ],
)
def test_an_unusable_value_is_explained(changes: dict[str, object], field: str, said: str) -> None:
    found, reason = refusal(**changes)
    assert found == field
    assert said.format(certificates().folder) in reason


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read every file")
def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "secret.pem").touch(mode=0)
    assert refusal(certfile=tmp_path / "secret.pem") == (
        "certfile",
        f"cannot read {tmp_path}/secret.pem: Permission denied",
    )


def test_the_error_for_a_der_file_has_the_command_that_converts_it(tmp_path: Path) -> None:
    first = certificates().certificate.read_text().partition("-----END CERTIFICATE-----")
    (tmp_path / "cert.der").write_bytes(ssl.PEM_cert_to_DER_cert("".join(first[:2]) + "\n"))
    assert f"openssl x509 -inform der -in {tmp_path}/cert.der -out" in refusal(certfile=tmp_path / "cert.der")[1]


def test_a_damaged_certificate_is_named(tmp_path: Path) -> None:
    text = certificates().both.read_text().replace("-----BEGIN CERTIFICATE-----\nMII", "-----BEGIN CERTIFICATE-----\n")
    (tmp_path / "damaged.pem").write_text(text)
    field, reason = refusal(certfile=tmp_path / "damaged.pem")
    assert field == "certfile"
    assert reason == f"{tmp_path}/damaged.pem: the certificate or its chain cannot be read: it is damaged PEM"


def test_an_expired_certificate_is_a_warning() -> None:
    heard: list[str] = []
    assert read(heard.append, certfile="expired.pem") is not None
    assert heard == [f"{certificates().expired}: the certificate expired on Jan  1 00:00:00 2001 GMT"]


def test_a_certificate_that_is_not_yet_valid_is_a_warning() -> None:
    tls = certificates().tls(certificate=certificates().expired, key=certificates().expired)
    answer = certificate_check.examine(tls, now=0.0)
    assert answer["warnings"] == ["the certificate is not valid before Jan  1 00:00:00 2000 GMT"]


def test_the_end_and_the_names_of_a_certificate_are_told() -> None:
    answer = certificate_check.examine(certificates().tls(), now=time.time())
    assert answer["warnings"] == []
    assert answer["expires"] > time.time()
    assert set(answer["names"]) >= {"localhost", "127.0.0.1"}


def test_a_certificate_for_clients_only_is_a_warning() -> None:
    """Its extended key usage allows clients only: RFC 5280, section 4.2.1.12."""
    tls = certificates().tls(certificate=certificates().client_only, key=certificates().client_only)
    (warning,) = certificate_check.examine(tls, now=0.0)["warnings"]
    assert warning.startswith("clients may refuse it: ")


def test_a_check_that_cannot_run_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    assert read(heard.append, certfile=BOTH) is not None
    assert "could not be checked before the start of the workers: " in heard[0]


def test_a_check_that_dies_is_a_warning_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    monkeypatch.setattr(sys, "path", [])
    assert read(heard.append, certfile=BOTH) is not None
    assert "could not be checked before the start of the workers: ModuleNotFoundError: " in heard[0]


READING = """
import sys
from pathlib import Path
from hybrid.config.certificates import CertificateError, read_tls
def read(keyfile):
    return read_tls(certfile="server.pem", keyfile=keyfile, password=None, ca_certs="ca.pem",
        client_certificate="optional", ciphers=None, sni_hook=None, directory=Path(sys.argv[1]))
"""
GEVENT = """
tls = read("server.key")
assert not {"ssl", "_ssl", "asyncio", "gevent"} & set(sys.modules)
from gevent import monkey
monkey.patch_all()
import gevent, socket, ssl
from hybrid.workers.accepting.tls import peer_certificate_facts, server_context
ours, theirs = socket.socketpair()
client = ssl.create_default_context(cafile=sys.argv[1] + "/ca.pem")
server = gevent.spawn(server_context(tls).wrap_socket, ours, server_side=True)
with client.wrap_socket(theirs, server_hostname="localhost"), server.get() as answering:
    print(hex(peer_certificate_facts(answering)["tls_version"]))
"""


def test_the_supervisor_does_not_import_ssl_so_that_gevent_can_patch_it() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", READING + GEVENT, str(certificates().folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd="/",
    )
    assert (done.stdout, done.stderr) == ("0x304\n", "")


ON_A_TERMINAL = """
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
open("/dev/tty").close()
try:
    read("encrypted.key")
except CertificateError as error:
    print(error.reason)
"""


def test_openssl_does_not_prompt_for_a_password() -> None:
    """OpenSSL would open the terminal itself, regardless of standard input."""
    ours, theirs = os.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        with os.fdopen(theirs, "rb", buffering=0) as terminal:
            child = subprocess.Popen(
                [sys.executable, "-P", "-c", READING + ON_A_TERMINAL, str(certificates().folder)],
                stdin=terminal,
                stdout=terminal,
                stderr=terminal,
                start_new_session=True,
                cwd="/",
            )
        shown = b""
        with child, contextlib.suppress(OSError):  # EIO: the other side is closed
            while (data := screen.read(4096)) and b"pass phrase" not in shown:
                shown += data
            child.kill()
    assert child.returncode == 0, shown.decode()
    assert shown.strip().endswith(b"its password is needed")
