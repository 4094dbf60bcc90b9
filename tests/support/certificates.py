"""Certificates of one authority, made once per process in a directory that goes with it, and clients that trust it.

The server is `localhost`, 127.0.0.1 and ::1.
"""

from __future__ import annotations

import atexit
import dataclasses
import datetime
import functools
import os
import shutil
import ssl
import tempfile
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hybrid.workers.http.settings import Tls

PASSWORD = "open sesame"
CLIENT = "alice@example.test"


@dataclasses.dataclass(frozen=True)
class Certificates:
    """Names of PEM files."""

    folder: Path
    ca: Path
    """The authority of all but `stranger`."""
    certificate: Path
    key: Path
    both: Path
    """Key and certificate of the server in one file."""
    encrypted_key: Path
    """The server's key, under `PASSWORD`."""
    rsa: Path
    """A server's certificate and key of the other kind, in one file."""
    other: Path
    """Certificate and key of the host other.test."""
    expired: Path
    """Certificate and key of the server, over since 2001."""
    client_only: Path
    """Certificate and key that are for clients and not for servers, made by themselves."""
    client: Path
    """Certificate and key of the client `CLIENT`."""
    long_chain: Path
    """The same for a client whose authority was made by `ca`."""
    stranger: Path
    """Certificate and key of a client that another authority made."""
    stranger_ca: Path

    def tls(self, **changes: object) -> Tls:
        """Return what a worker is given for the server's certificate; bytes are read from a `Path`."""
        values: dict[str, object] = {"certificate": self.certificate, "key": self.key, **changes}
        contents = {name: value.read_bytes() if isinstance(value, Path) else value for name, value in values.items()}
        return Tls(**contents)  # type: ignore[arg-type]

    def client_context(self, certificate: Path | None = None, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        """Return a context that trusts the authority, shows `certificate` and speaks only `version`."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if certificate is not None:
            context.load_cert_chain(certificate)
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context


@functools.cache
def certificates() -> Certificates:
    """Return the certificates of this process; made on the first call, in some milliseconds."""
    folder = Path(tempfile.mkdtemp(prefix="hybrid-certificates-"))
    atexit.register(_remove, folder, os.getpid())
    authority, stranger = trustme.CA(), trustme.CA()
    server = authority.issue_cert("localhost", "127.0.0.1", "::1")
    expired = authority.issue_cert("localhost", not_before=_year(2000), not_after=_year(2001))
    rsa = authority.issue_cert("localhost", key_type=trustme.KeyType.RSA)
    (folder / "server.pem").write_bytes(b"".join(pem.bytes() for pem in server.cert_chain_pems))
    (folder / "server.key").write_bytes(server.private_key_pem.bytes())
    (folder / "encrypted.key").write_bytes(encrypted(server.private_key_pem.bytes(), PASSWORD))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    stranger.cert_pem.write_to_path(str(folder / "stranger_ca.pem"))
    leaves = {
        "both": server,
        "rsa": rsa,
        "other": authority.issue_cert("other.test"),
        "expired": expired,
        "client": authority.issue_cert(
            CLIENT, common_name="Alice, + Bob", organization_name=" Example #1", organization_unit_name="ends in space "
        ),
        "long_chain": authority.create_child_ca().issue_cert("bob@example.test"),
        "stranger": stranger.issue_cert("mallory@example.test"),
    }
    for name, leaf in leaves.items():
        leaf.private_key_and_cert_chain_pem.write_to_path(str(folder / f"{name}.pem"))
    (folder / "client_only.pem").write_bytes(_client_only())
    return Certificates(
        folder=folder,
        ca=folder / "ca.pem",
        certificate=folder / "server.pem",
        key=folder / "server.key",
        encrypted_key=folder / "encrypted.key",
        stranger_ca=folder / "stranger_ca.pem",
        client_only=folder / "client_only.pem",
        **{name: folder / f"{name}.pem" for name in leaves},
    )


def encrypted(key: bytes, password: str) -> bytes:
    """Return a private key in PEM form (PKCS #8) under a password."""
    return serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password.encode()),
    )


def _client_only() -> bytes:
    """Return a key and its certificate, whose extended key usage is without servers: RFC 5280, section 4.2.1.12."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "client")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, _year(2000), _year(2100))
        .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    return certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain
    )


def _year(number: int) -> datetime.datetime:
    return datetime.datetime(number, 1, 1, tzinfo=datetime.UTC)


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # and not in a process that a test forked
        shutil.rmtree(folder, ignore_errors=True)
