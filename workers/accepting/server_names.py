"""Which certificate a client gets, chosen by a function of the application from the name that the client asks for."""

from __future__ import annotations

import logging
import ssl
import weakref
from collections.abc import Callable

ALPN = ["http/1.1"]
Hook = Callable[[str], ssl.SSLContext | None]
_UNKNOWN = ""  # not the authorities of any server
_log = logging.getLogger("hybrid")


class ServerNames:
    """Lets a function choose the certificate by the name the client asks for (RFC 6066, section 3).

    The function is called inside of the handshake with the name in ASCII, and must not block. None: the default
    certificate; that is also for clients that send no name, for whom it is not called. When it raises, or returns
    something else, that is logged and the handshake is refused with an alert: the default certificate would only
    look like an attack to the client.

    Of the context it returns, the certificate, its key and the ciphers count. All else is the default's on every
    host, the rules for client certificates too: OpenSSL keeps them at the connection, and it resumes the session of
    one host at another. A context that trusts authorities of its own is therefore refused where clients are asked.
    """

    def __init__(self, hook: Hook, verify_mode: ssl.VerifyMode, authorities: str | None) -> None:
        self._hook = hook
        self._verify_mode = verify_mode
        self._authorities = authorities  # PEM in ASCII; None: clients are not asked for a certificate

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
        """Give a context of the application what OpenSSL looks up in it and not in the connection."""
        if not isinstance(context, ssl.SSLContext):
            raise TypeError(f"the SNI hook returned an object of type {type(context).__name__}, not ssl.SSLContext")
        if _adopted.get(context, _UNKNOWN) == self._authorities:
            return
        if self._authorities is not None:
            if context.cert_store_stats()["x509"]:
                raise ValueError("the context of the SNI hook trusts authorities of its own; leave them to ca_certs")
            context.load_verify_locations(cadata=self._authorities)
            context.verify_mode = self._verify_mode  # `getpeercert` looks at it
        context.set_alpn_protocols(ALPN)
        _adopted[context] = self._authorities


_adopted: weakref.WeakKeyDictionary[ssl.SSLContext, str | None] = weakref.WeakKeyDictionary()
# ^ context of an application -> the authorities given to it
