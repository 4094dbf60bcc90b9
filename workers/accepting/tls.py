"""TLS in a worker: builds the server's context from file contents, and extracts facts about a peer.

Importing this module imports `ssl`: on gevent after the patching, and never in the supervisor. Nothing here opens a
file on disk: the worker's user may not be allowed to read the key.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import ssl
from collections.abc import Iterator, Sequence
from typing import Any

from hybrid.workers.accepting.server_names import HTTP1, Hook, ServerNames
from hybrid.workers.boot import target
from hybrid.workers.boot.application import Application
from hybrid.workers.common.errors import BootError
from hybrid.workers.contract.exits import Exit
from hybrid.workers.http.settings import Tls

_VERIFY = {"optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_DIFFERENT_KEY = frozenset({"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"})
# ^ the last one is raised for a key of another type, such as RSA with an elliptic-curve certificate (OpenSSL 3.0)
_VERSIONS: dict[str | None, int] = {"TLSv1.2": ssl.TLSVersion.TLSv1_2.value, "TLSv1.3": ssl.TLSVersion.TLSv1_3.value}
_SPECIAL = frozenset('"+,;<>\\')
_SHORT = {
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}  # OpenSSL's name -> the name in RFC 4514, section 3


class TlsError(BootError):
    """A value of `Tls` that cannot be used; `field` names the setting it came from."""

    def __init__(self, field: str, reason: str, code: Exit = Exit.USAGE) -> None:
        super().__init__(code, reason)
        self.field = field
        """`certfile`, `keyfile`, `password`, `ca_certs`, `client_certificate`, `ciphers` or `sni_hook`."""


class ServerContext(ssl.SSLContext):
    """A context that remembers its own certificate, which `ssl` does not return."""

    certificate: str | None = None
    """PEM, without the chain."""


def server_context(tls: Tls, protocols: Sequence[str] = HTTP1) -> ssl.SSLContext:
    """Return the context for all connections of this process: TLS 1.2 and 1.3, no renegotiation.

    `protocols` are offered by ALPN, the preferred one first.

    A session ticket is valid only in the worker that issued it: the keys are random for each context, and `ssl` cannot
    share them. A resumption that fails elsewhere becomes a full handshake. One ticket per handshake, not two. Imports
    the module of the SNI hook, see `ServerNames`. Raises `TlsError`; never asks for a password on a terminal.
    """
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 1
    context.set_alpn_protocols(list(protocols))
    if tls.ciphers is not None:
        _set_ciphers(context, tls.ciphers)
    _load_pair(context, tls)
    authorities = _ask_clients(context, tls)
    if tls.sni_hook is not None:
        _ask_for_names(context, ServerNames(_hook(tls.sni_hook), context.verify_mode, authorities, protocols))
    return context


def _ask_for_names(context: ssl.SSLContext, names: ServerNames) -> None:
    """Set `sni_callback` through the descriptor of the C type.

    The one of gevent's contexts (26.9) passes on the `SSLSocket` of a connection, and fails for a connection over a
    `MemoryBIO`.
    """
    first = next(vars(kind)["sni_callback"] for kind in reversed(type(context).__mro__) if "sni_callback" in vars(kind))
    first.__set__(context, names)


def _set_ciphers(context: ssl.SSLContext, ciphers: str) -> None:
    try:
        context.set_ciphers(ciphers)
    except (ssl.SSLError, ValueError):  # ValueError: a NUL in it
        raise TlsError(
            "ciphers",
            f"{ciphers!r} selects no TLS 1.2 cipher (TLS 1.3 ciphers cannot be configured); see: openssl ciphers -v",
        ) from None
    for cipher in context.get_ciphers():
        if not cipher["strength_bits"] or cipher["auth"] == "auth-null":
            raise TlsError(
                "ciphers",
                f"{ciphers!r} allows {cipher['name']}, which does not encrypt or does not authenticate: "
                "append :!aNULL:!eNULL",
            )


def _load_pair(context: ServerContext, tls: Tls) -> None:
    """Load the certificate and its key through memory: `load_cert_chain` takes only file names."""
    # only to detect damage: the error of `load_cert_chain` does not tell which of the two files is at fault
    _trust(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), tls.certificate, "certfile", "the certificate or its chain")
    asked = False

    def password() -> str:
        # without this function OpenSSL prompts on the terminal; it is called only for an encrypted key
        nonlocal asked
        asked = True
        if tls.password is None:
            raise TlsError("password", "the private key is encrypted: its password is needed")
        return tls.password

    try:
        with _in_memory(tls.certificate) as certificate, _in_memory(tls.key) as key:
            context.load_cert_chain(certificate, key, password)
    except ssl.SSLError as error:
        raise _why_not_loaded(error, asked=asked) from None
    except ValueError:
        raise TlsError("password", "the password is longer than the 1024 bytes that OpenSSL takes") from None
    except OSError as error:  # no /proc, or memfd_create(2) forbidden
        raise TlsError(
            "certfile", f"the certificate cannot be passed through memory and /proc/self/fd: {error.strerror}"
        ) from None
    context.certificate = _first_block(tls.certificate)


def _why_not_loaded(error: ssl.SSLError, *, asked: bool) -> TlsError:
    if error.reason in _DIFFERENT_KEY:
        return TlsError("keyfile", "the private key does not belong to the certificate")
    if asked:
        return TlsError("password", "the private key cannot be decrypted: the password is wrong")
    if error.reason:  # e.g. EE_KEY_TOO_SMALL: below the security level of this OpenSSL
        return TlsError("certfile", f"OpenSSL refuses the certificate: {error.reason.replace('_', ' ').lower()}")
    return TlsError("keyfile", "the private key is damaged or of a type unknown to OpenSSL")


@contextlib.contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """Yield a file name from which `content` can be read during the block, only by this user (memfd_create(2)).

    A process that has changed its user may still open files behind its own descriptors: proc(5), /proc/pid/fd.
    """
    fd = os.memfd_create("tls")
    try:
        os.fchmod(fd, 0o600)
        with os.fdopen(fd, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _trust(context: ssl.SSLContext, pem: bytes, field: str, what: str) -> str:
    """Let `context` trust the certificates in `pem`; return them as text."""
    text = _text(pem)
    try:
        context.load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError):  # ValueError: empty
        raise TlsError(field, f"{what} cannot be read: it is damaged PEM") from None
    return text


def _ask_clients(context: ssl.SSLContext, tls: Tls) -> str | None:
    """Return the authorities as text; None if clients are not asked."""
    if tls.client_certificate == "none":
        return None
    if tls.client_certificate not in _VERIFY:
        raise TlsError("client_certificate", f"{tls.client_certificate!r} is not one of none, optional, required")
    if tls.client_ca is None:
        raise TlsError("ca_certs", "checking client certificates requires CA certificates")
    context.verify_mode = _VERIFY[tls.client_certificate]
    return _trust(context, tls.client_ca, "ca_certs", "the list of authorities for client certificates")


def _text(pem: bytes) -> str:
    """Decode PEM, which is ASCII (RFC 7468, section 2), although the text between the blocks may not be."""
    return pem.decode("ascii", "ignore")


def _first_block(pem: bytes) -> str:
    text, end = _text(pem), "-----END CERTIFICATE-----"
    return text[text.index("-----BEGIN CERTIFICATE-----") : text.index(end) + len(end)] + "\n"


def _hook(reference: str) -> Hook:
    try:
        hook = target.load(Application(reference=reference))
    except BootError as error:
        raise TlsError("sni_hook", error.reason, Exit.TARGET) from None
    if not callable(hook) or inspect.iscoroutinefunction(hook):
        kind = "a coroutine function" if callable(hook) else f"an object of type {type(hook).__name__}"
        raise TlsError("sni_hook", f"{reference!r} is {kind} not a function", Exit.TARGET)
    found: Hook = hook
    return found


def peer_certificate_facts(connection: ssl.SSLObject | ssl.SSLSocket) -> dict[str, Any]:
    """Return the ASGI extension `tls` (version 0.2) of a connection after its handshake.

    `client_cert_error` is always None: an invalid certificate ends the handshake. Before Python 3.13
    `client_cert_chain` contains only the client's own certificate. `server_cert` is None if the SNI hook chose a
    context. Does not block; takes 1 us without a client certificate and 27 us with one, so call it once per connection.
    """
    chain, name = _client_certificates(connection)
    return {
        "server_cert": getattr(connection.context, "certificate", None),
        "client_cert_chain": chain,
        "client_cert_name": name,
        "client_cert_error": None,
        "tls_version": _VERSIONS.get(connection.version()),
        "cipher_suite": _suite_number(connection),
    }


def _client_certificates(connection: ssl.SSLObject | ssl.SSLSocket) -> tuple[list[str], str | None]:
    """Return the certificates sent by the client, its own first, and the subject name of that one."""
    own = connection.getpeercert(binary_form=True)
    if own is None:
        return [], None
    sent_chain = getattr(connection, "get_unverified_chain", list)  # Python 3.13
    chain = [ssl.DER_cert_to_PEM_cert(der) for der in sent_chain() or [own]]
    subject: Any = (connection.getpeercert() or {}).get("subject", ())
    return chain, _distinguished_name(subject)


def _distinguished_name(subject: tuple[tuple[tuple[str, str], ...], ...]) -> str:
    """Format a distinguished name as text: RFC 4514, section 2; its last part comes first."""
    return ",".join(
        "+".join(f"{_SHORT.get(kind, kind)}={_escaped(value)}" for kind, value in part) for part in reversed(subject)
    )


def _escaped(value: str) -> str:
    """Escape a value: RFC 4514, section 2.4; control characters too, so that the name stays on one line."""
    text = "".join(
        f"\\{char}" if char in _SPECIAL else f"\\{ord(char):02X}" if char < " " or char == "\x7f" else char
        for char in value
    )
    if text.startswith((" ", "#")):
        text = f"\\{text}"
    return f"{text[:-1]}\\ " if value.endswith(" ") and len(value) > 1 else text


def _suite_number(connection: ssl.SSLObject | ssl.SSLSocket) -> int | None:
    """Return the IANA number of the cipher suite, the lower half of OpenSSL's number."""
    cipher = connection.cipher()
    if cipher is None:
        return None
    name = cipher[0]
    if name not in _suites:
        _suites.update((known["name"], known["id"] & 0xFFFF) for known in connection.context.get_ciphers())
    return _suites.get(name)


_suites: dict[str, int] = {}  # OpenSSL's name -> IANA's number
