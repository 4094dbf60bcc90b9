"""The process that tries out a certificate: it loads it as a worker would, and verifies it as a client would.

`certificates` starts it. Nothing else imports it: it imports `ssl`, which the supervisor must not do.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pickle
import ssl
import sys
import time
from typing import Any

from hybrid.workers.accepting.tls import TlsError, server_context
from hybrid.workers.http.settings import Tls

_IGNORE_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of openssl/x509_vfy.h; `ssl` has no name for it


def main() -> None:
    """Read a pickled `Tls` from standard input and write one JSON object to standard output.

    `{"field": ..., "reason": ...}` if a worker could not use it, otherwise `{"warnings": [...], "expires": ...,
    "names": [...]}`; the last two only if a client could read them.
    """
    tls: Tls = pickle.load(sys.stdin.buffer)  # from our own parent
    json.dump(examine(tls, time.time()), sys.stdout)


def examine(tls: Tls, now: float) -> dict[str, Any]:
    """Return the answer for `tls` at the time `now`, in seconds since the epoch. Does not load an SNI hook."""
    try:
        context = server_context(dataclasses.replace(tls, sni_hook=None))
    except TlsError as error:
        return {"field": error.field, "reason": error.reason}
    context.verify_mode = ssl.CERT_NONE
    return _as_a_client(context, tls.certificate.decode("ascii", "ignore"), now)


def _as_a_client(server: ssl.SSLContext, certificates: str, now: float) -> dict[str, Any]:
    """Shake hands with a client that trusts this very certificate; return its complaints, and what it sees."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(cadata=certificates)
    client.check_hostname = False
    client.verify_flags = ssl.VerifyFlags(ssl.VERIFY_X509_PARTIAL_CHAIN | _IGNORE_TIME)
    try:
        certificate = _peer_certificate(client, server)
    except ssl.SSLCertVerificationError as error:
        return {"warnings": [f"clients may refuse it: {error.verify_message}"]}
    except ssl.SSLError as error:
        return {"warnings": [f"a handshake with it fails: {error.reason}"]}
    expires = ssl.cert_time_to_seconds(certificate["notAfter"])
    names = [value for kind, value in certificate.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    warnings = []
    if expires <= now:
        warnings.append(f"the certificate expired on {certificate['notAfter']}")
    elif ssl.cert_time_to_seconds(certificate["notBefore"]) > now:
        warnings.append(f"the certificate is not valid before {certificate['notBefore']}")
    return {"warnings": warnings, "expires": expires, "names": names}


def _peer_certificate(client: ssl.SSLContext, server: ssl.SSLContext) -> dict[str, Any]:
    """Return the certificate of `server`, decoded: `ssl` only decodes the certificate of a peer."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    for side in (asking, answering) * 3:  # enough round trips for TLS 1.2, if 1.3 is switched off
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return dict(asking.getpeercert() or {})
