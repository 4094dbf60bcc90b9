"""`TlsFields`: the options of a `Service` about TLS, and the contradictions among them.

`hybrid.config.certificates` reads the files when the service starts.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Final

from hybrid.config.checks import DAY, ConfigError
from hybrid.config.declaring import Section, option
from hybrid.config.kinds import Choice, File, Seconds, Text
from hybrid.config.targets import TargetError, check_reference
from hybrid.workers.http.settings import Limits

CLIENT_CERTIFICATES: Final = ("none", "optional", "required")
_LIMITS: Final = Limits()
_TLS: Final = Section.TLS


def _why_no_text(text: object) -> str | None:
    """Return an error text without the value: it may be the password."""
    return None if isinstance(text, str) and text else "give a text that is not empty"


def _why_no_hook(hook: object) -> str | None:
    if not isinstance(hook, str) or not hook:
        return _why_no_text(hook)
    try:
        check_reference(hook)
    except TargetError:
        return f"{hook!r}: write module:attribute, e.g. myapp.tls:choose"
    return None


@dataclasses.dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)  # `Service` makes all its methods
class TlsFields:
    """Certificates of the server, and those required of clients."""

    certfile: str | os.PathLike[str] | None = option(
        None,
        File(),
        _TLS,
        "PEM file of the certificate and its chain. Enables TLS on all addresses.",
    )
    keyfile: str | os.PathLike[str] | None = option(
        None, File(), _TLS, "PEM file of the private key, if it is not in the certificate file."
    )
    keyfile_password: str | None = option(
        None,
        Text("TEXT"),
        _TLS,
        "Password of the private key. Prefer the environment variable: a command line can be read by all users.",
        is_secret=True,
        check=_why_no_text,
    )
    ca_certs: str | os.PathLike[str] | None = option(
        None, File(), _TLS, "PEM file of the authorities whose client certificates are accepted."
    )
    client_certificate: str | None = option(
        None,
        Choice(CLIENT_CERTIFICATES),
        _TLS,
        "Whether clients must present a certificate.",
        shown="required with --ca-certs, else none",
    )
    ciphers: str | None = option(
        None, Text("LIST"), _TLS, "OpenSSL's list of ciphers for TLS 1.2.", shown="Python's", check=_why_no_text
    )
    sni_hook: str | None = option(
        None,
        Text("MODULE:NAME"),
        _TLS,
        "A function hook(server_name) that returns the ssl.SSLContext for a name, or None for the default one.",
        check=_why_no_hook,
    )
    tls_handshake_timeout: float = option(
        _LIMITS.tls_handshake_timeout,
        Seconds(0, DAY, zero="no limit"),
        _TLS,
        "How long a TLS handshake may take. 0: no limit.",
    )

    @property
    def client_certificate_wanted(self) -> str:
        """`client_certificate`, or its default, which depends on `ca_certs`."""
        return self.client_certificate or ("none" if self.ca_certs is None else "required")


def check_tls(fields: TlsFields) -> None:
    """Check that the options, each valid by itself, are compatible. Raises `ConfigError`."""
    for field in ("keyfile", "keyfile_password", "ca_certs", "ciphers", "sni_hook"):
        if getattr(fields, field) is not None and fields.certfile is None:
            raise ConfigError(field, "TLS needs a certificate: give --certfile too")
    wanted = fields.client_certificate_wanted
    if wanted != "none" and fields.ca_certs is None:
        raise ConfigError("client_certificate", f"{wanted!r}: give the accepted authorities, --ca-certs")
    if wanted == "none" and fields.ca_certs is not None:
        raise ConfigError("client_certificate", "'none': leave it out, or --ca-certs: they are for client certificates")
