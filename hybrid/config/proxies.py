"""`ProxyFields`: the options of a `Service` about proxies in front of it, and the contradictions among them."""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Sequence
from typing import Final

from hybrid.config.checks import ConfigError
from hybrid.config.declaring import Section, option
from hybrid.config.kinds import Choice, Switch, Text
from hybrid.workers.http.settings import HttpSettings

FORWARDED_HEADERS: Final = ("x-forwarded", "forwarded")
_HTTP: Final = HttpSettings()
_PROXIES: Final = Section.PROXIES


def _why_no_proxies(given: object) -> str | None:
    if not isinstance(given, str | Sequence) or not all(isinstance(entry, str) for entry in given):
        return f"{given!r}: give addresses as text, e.g. '127.0.0.1'"
    named = (entry for entry in _entries(given) if entry not in ("*", "unix"))
    return next((reason for entry in named if (reason := _why_no_network(entry)) is not None), None)


def _entries(given: str | Sequence[str]) -> tuple[str, ...]:
    """Return the single entries; texts are split at commas."""
    texts = (given,) if isinstance(given, str) else tuple(given)
    return tuple(entry for text in texts for part in text.split(",") if (entry := part.strip()))


def _why_no_network(entry: str) -> str | None:
    try:
        ipaddress.ip_network(entry)
    except ValueError:
        pass
    else:
        return None
    try:
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return f"{entry!r}: use addresses and networks such as 10.0.0.0/8, `unix`, or * for all"
    # 10.0.0.1/8: an address inside of a network
    return f"{entry!r}: write {network} for the network, or the address without /{network.prefixlen}"


@dataclasses.dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)  # `Service` makes all its methods
class ProxyFields:
    """Trusted proxies, and the headers they are trusted for."""

    forwarded_allow_ips: str | Sequence[str] = option(
        _HTTP.forwarded_allow_ips,
        Text("ADDRESSES"),
        _PROXIES,
        "Proxies trusted to forward the client's address and the scheme: addresses, networks, unix for UNIX sockets, "
        "* for all peers. Separated by commas; may be repeated.",
        is_repeated=True,
        shown="none",
        check=_why_no_proxies,
    )
    forwarded_headers: str = option(
        _HTTP.forwarded_headers,
        Choice(FORWARDED_HEADERS),
        _PROXIES,
        "The headers that these proxies set: X-Forwarded-For and -Proto, or Forwarded. The other ones are ignored, "
        "because clients may have set them. A Forwarded header that cannot be parsed is answered with 400.",
    )
    forwarded_host: bool = option(
        _HTTP.forwarded_host,
        Switch(),
        _PROXIES,
        "Let X-Forwarded-Host, or host in Forwarded, replace the request's Host. Use it only if the proxy sets or "
        "removes that header: nginx passes on the client's.",
    )
    proxy_protocol: bool = option(
        _HTTP.proxy_protocol,
        Switch(),
        _PROXIES,
        "Every connection begins with a PROXY header, version 1 or 2, also before TLS; others are closed. It is "
        "accepted from all peers, or only from --forwarded-allow-ips if given. The HTTP headers after it are trusted "
        "if the client that it names is.",
    )

    @property
    def trusted_proxies(self) -> tuple[str, ...]:
        """`forwarded_allow_ips` as a tuple of single entries."""
        return _entries(self.forwarded_allow_ips)


def check_proxies(fields: ProxyFields) -> None:
    """Check that the options, each valid by itself, are compatible. Raises `ConfigError`."""
    for field in ("forwarded_headers", "forwarded_host"):
        if getattr(fields, field) != getattr(_HTTP, field) and not fields.trusted_proxies:
            raise ConfigError(field, "no proxy is trusted: name yours with --forwarded-allow-ips too")
