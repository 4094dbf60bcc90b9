"""Chooses the certificate for a client: the application's hook maps the requested server name to a context."""

from __future__ import annotations

import logging
import ssl
import weakref
from collections.abc import Callable, Sequence

HTTP1 = ("http/1.1",)
"""The protocols offered by ALPN to clients of HTTP/1 only."""
Hook = Callable[[str], ssl.SSLContext | None]
_UNKNOWN = ""  # not equal to any authorities
_log = logging.getLogger("hybrid")


class ServerNames:
    """Lets a hook choose the certificate by server name (RFC 6066, section 3).

    The hook is called during the handshake with the name in ASCII, and must not block. It returns None for the default
    certificate, which clients without a server name get as well, without a call. If the hook raises, or returns
    anything else, the error is logged and the handshake is refused with an alert: to the client, the default
    certificate would only look like an attack.

    From the returned context, only the certificate, its key and the ciphers apply. Everything else comes from the
    default context on every host, including the rules for client certificates: OpenSSL keeps them with the connection,
    and it resumes the session of one host at another. Therefore a context with authorities of its own is refused if
    clients are asked for certificates.
    """

    def __init__(
        self, hook: Hook, verify_mode: ssl.VerifyMode, authorities: str | None, protocols: Sequence[str] = HTTP1
    ) -> None:
        self._hook = hook
        self._verify_mode = verify_mode
        self._protocols = protocols  # offered by ALPN
        self._authorities = authorities  # PEM in ASCII; None: clients are not asked for certificates

    def __call__(self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> int | None:
        """Return None, or the alert to refuse the handshake with; see `ssl.SSLContext.sni_callback`."""
        if name is None:
            return None
        try:
            chosen = self._hook(name)
            if chosen is not None:
                self._adopt(chosen)
                connection.context = chosen
        except Exception:  # noqa: BLE001 - code of the application
            _log.exception("choosing a certificate for %r failed; the handshake is refused", name)
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        return None

    def _adopt(self, context: ssl.SSLContext) -> None:
        """Configure an application's context with the settings that OpenSSL reads from it, not from the connection."""
        if not isinstance(context, ssl.SSLContext):
            raise TypeError(f"the SNI hook returned an object of type {type(context).__name__}, not ssl.SSLContext")
        if _adopted.get(context, _UNKNOWN) == self._authorities:
            return
        if self._authorities is not None:
            if context.cert_store_stats()["x509"]:
                raise ValueError(
                    "the SNI hook returned a context with CA certificates of its own; use ca_certs instead"
                )
            context.load_verify_locations(cadata=self._authorities)
            context.verify_mode = self._verify_mode  # used by `getpeercert`
        context.set_alpn_protocols(list(self._protocols))
        _adopted[context] = self._authorities


_adopted: weakref.WeakKeyDictionary[ssl.SSLContext, str | None] = weakref.WeakKeyDictionary()
# ^ context of an application -> the authorities added to it
