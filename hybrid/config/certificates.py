"""The TLS files: the supervisor reads them while it may still be root, and checks them before any worker starts.

The check runs in a separate process (`certificate_check`), because the supervisor must not import `ssl`: workers are
forked from it, and gevent can patch `ssl` only before its first import.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hybrid.config.checks import ConfigError
from hybrid.config.targets import TargetError, check_reference
from hybrid.config.tls import CLIENT_CERTIFICATES
from hybrid.workers.http.settings import Tls

_PATIENCE = 30.0  # seconds; the check takes 0.1
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_PRIVATE_KEY = re.compile(rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----")
_CHILD = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); import hybrid.config.certificate_check as check; "
)
_CHILD += "check.main()"
_UNCHECKED = "the certificate could not be checked before the start of the workers"
_log = logging.getLogger("hybrid")

Name = str | os.PathLike[str] | None


class CertificateError(ConfigError):
    """A value about TLS that cannot be used: `field` is the name of the parameter of `read_tls`."""


def read_tls(
    *,
    certfile: Name,
    keyfile: Name,
    password: str | None,
    ca_certs: Name,
    client_certificate: str | None,
    ciphers: str | None,
    sni_hook: str | None,
    directory: Path,
    warn: Callable[[str], object] = _log.warning,
) -> Tls | None:
    """Read and check the files; None without `certfile`. Relative names start from `directory`.

    Without `keyfile` the key is in `certfile`. `client_certificate` None: `required` if there are `ca_certs`. Only the
    form of the SNI hook is checked, because it is the application's code. `warn` is called for values that work but
    are probably a mistake, such as an expired certificate.

    Raises `CertificateError`. Blocks for some tenths of a second, because it starts a process. Never asks for a
    password.
    """
    if certfile is None:
        _refuse_without_certificate(keyfile, password, ca_certs, client_certificate, ciphers, sni_hook)
        return None
    if client_certificate is None:
        client_certificate = "none" if ca_certs is None else "required"
    _check_values(client_certificate, ca_certs, sni_hook)
    certificates, key = directory / certfile, directory / (certfile if keyfile is None else keyfile)
    files = {"certfile": certificates, "keyfile": key, "password": key}  # field -> file that an error names
    if ca_certs is not None:
        files["ca_certs"] = directory / ca_certs
    tls = Tls(
        certificate=_certificates("certfile", certificates),
        key=_private_key(key, certificates),
        password=password,
        client_ca=None if ca_certs is None else _certificates("ca_certs", files["ca_certs"]),
        client_certificate=client_certificate,
        ciphers=ciphers,
        sni_hook=sni_hook,
    )
    _check(tls, files, warn)
    return tls


def _refuse_without_certificate(
    keyfile: Name,
    password: str | None,
    ca_certs: Name,
    client_certificate: str | None,
    ciphers: str | None,
    sni_hook: str | None,
) -> None:
    given = {
        "keyfile": keyfile,
        "password": password,
        "ca_certs": ca_certs,
        "client_certificate": None if client_certificate == "none" else client_certificate,
        "ciphers": ciphers,
        "sni_hook": sni_hook,
    }
    for field, value in given.items():
        if value is not None:
            raise CertificateError(field, "has no effect without a certificate: give certfile too")


def _check_values(client_certificate: str, ca_certs: Name, sni_hook: str | None) -> None:
    if client_certificate not in CLIENT_CERTIFICATES:
        raise CertificateError(
            "client_certificate", f"{client_certificate!r} is none of {', '.join(CLIENT_CERTIFICATES)}"
        )
    if client_certificate == "none" and ca_certs is not None:
        raise CertificateError("ca_certs", "has no effect while client_certificate is none: write optional or required")
    if client_certificate != "none" and ca_certs is None:
        raise CertificateError("client_certificate", f"{client_certificate} needs ca_certs, the authorities to accept")
    if sni_hook is not None:
        try:
            check_reference(sni_hook)
        except TargetError:
            raise CertificateError(
                "sni_hook", f"{sni_hook!r} is not of the form module:attribute, e.g. myapp.tls:choose"
            ) from None


def _read(field: str, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CertificateError(field, f"cannot read {file}: {error.strerror}") from None
    except ValueError as error:  # a NUL in the name
        raise CertificateError(field, f"cannot read {str(file)!r}: {error}") from None


def _certificates(field: str, file: Path) -> bytes:
    """Return the certificates in a file, without keys or comments between them."""
    content = _read(field, file)
    found = _CERTIFICATE.findall(content)
    if found:
        return b"\n".join(found) + b"\n"
    if _PRIVATE_KEY.search(content):
        raise CertificateError(field, f"{file} holds a private key and no certificate: are the two files swapped?")
    raise CertificateError(field, f"{file} holds no certificate in PEM form{_hint(content, 'x509', file)}")


def _private_key(file: Path, certfile: Path) -> bytes:
    content = _read("keyfile", file)
    if _PRIVATE_KEY.search(content):
        return content
    if file == certfile:
        raise CertificateError("keyfile", f"is needed: {file} holds no private key")
    raise CertificateError("keyfile", f"{file} holds no private key in PEM form{_hint(content, 'pkey', file)}")


def _hint(content: bytes, command: str, file: Path) -> str:
    """Say how to convert binary DER, which begins with the tag of a sequence."""
    is_der = content.startswith(b"\x30")
    return f"; if it is in DER form: openssl {command} -inform der -in {file} -out {file}.pem" if is_der else ""


def _check(tls: Tls, files: dict[str, Path], warn: Callable[[str], object]) -> None:
    """Let another process try to use the files; raise `CertificateError` for its complaint."""
    verdict = verdict_of(tls)
    if verdict.get("field") is not None:
        field, reason = verdict["field"], verdict["reason"]
        file = files.get(field)
        raise CertificateError(field, reason if file is None else f"{file}: {reason}")
    for text in verdict["warnings"]:
        warn(f"{files['certfile']}: {text}")


def verdict_of(tls: Tls) -> dict[str, Any]:
    """Return the answer of `certificate_check`; only a warning if it cannot run: the workers report errors too.

    Blocks for some tenths of a second, because it starts a process.
    """
    import pickle  # imported here, like subprocess: not needed without TLS
    import subprocess

    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _CHILD],
            input=pickle.dumps(sys.path) + pickle.dumps(dataclasses.replace(tls, sni_hook=None)),
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return {"warnings": [f"{_UNCHECKED}: {error}"]}
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        last_words = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return {"warnings": [f"{_UNCHECKED}: {last_words or 'no answer'}"]}
    return answer
