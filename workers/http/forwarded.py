"""A request's client, scheme and host according to trusted proxies. Pure: bytes in, facts out.

Headers from an untrusted peer are never read. Nothing here raises because of input from a peer.
"""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import re
from collections.abc import Iterable, Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Endpoint = tuple[str, int]
Element = dict[bytes, bytes]

_CACHE_SIZE = 1024
_LONGEST_NODE = 80  # an address in brackets and a port have 53 characters; the rest is room for an obfuscated port
_LONGEST_HOST = 261  # a domain name, a colon and a port
_FIELDS = {
    "x-forwarded": frozenset({b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"}),
    "forwarded": frozenset({b"forwarded"}),
}  # family -> its header fields
_SCHEMES = {b"http": "http", b"ws": "http", b"https": "https", b"wss": "https"}

_NODE = re.compile(rb"(?:([0-9.]{7,15})|\[([0-9A-Fa-f:.]{2,45})\])(?::(?:([0-9]{1,5})|_[A-Za-z0-9._-]+))?")
_BARE_V6 = re.compile(rb"[0-9A-Fa-f:.]{2,45}")
_HOST = re.compile(rb"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?")
# RFC 7239 section 4: one pair and its terminator. Unquoted values may contain `:`, `[` and `]`, which the RFC wants
# quoted and many proxies do not quote. `*+` never backtracks: white space must not cost quadratic time.
_PAIR = re.compile(
    rb"[ \t]*+(?:([!#$%&'*+.^_`|~0-9A-Za-z-]++)="
    rb"(?:([]!#$%&'*+.^_`|~0-9A-Za-z:[-]++)|\"((?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+)\"))?+"
    rb"[ \t]*+([;,]|\Z)"
)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


@dataclasses.dataclass(slots=True)  # not frozen: one is made per request, in a third of the time
class Forwarded:
    """The effective values of a request after its proxies are taken into account."""

    client: Endpoint | None
    """Host and port (0: unknown); None: the peer of a UNIX socket."""
    scheme: str
    """`http` or `https`, or the connection's own scheme; a proxy's `ws` and `wss` are mapped to these two."""
    host: bytes | None
    """The requested host, a name or address with an optional port; None: neither request nor proxy named one."""
    error: str | None = None
    """Set if a trusted proxy's header cannot be parsed: the reason to refuse the request."""


class Proxies:
    """The trusted proxies, and the family of forwarding headers that they write.

    One family, because a proxy writes one and passes the other on as the client sent it: nginx, HAProxy, Traefik,
    Caddy, Envoy and the load balancers of the large clouds write `X-Forwarded-*` and leave `Forwarded` (RFC 7239)
    alone. The other family is always ignored.

    Client. Every proxy appends the address of its own peer, so the list is walked from the right: the peer of this
    connection is trusted, so its entry is true; if that entry names a trusted proxy, the next one is true too; the
    first untrusted address is the client. With `*` that is the leftmost entry. An entry that is not an address
    (`unknown`, an obfuscated `_id`, garbage) ends the walk, because no trusted proxy vouches for the entries left of
    it; the client is then the last address seen, or is left unchanged. With `*` such entries are skipped.

    Scheme and host. Their lists are read hop by hop too, from the right, for as many hops as the walk made (one, if
    there is no address). A shorter list is read to its left end: inner proxies mostly leave the values of the outer one
    alone. The value nearest to the client wins. A scheme is http, https, ws or wss; a host looks like a name or an
    address with an optional port; other values are ignored. The host is trusted only with `trusts_host`: by default
    nginx passes `X-Forwarded-Host` on as the client sent it.

    `error` is set if the walk met a `Forwarded` line that cannot be parsed: text in front of a proxy's own elements (an
    open quote) may have swallowed them.
    """

    def __init__(self, allowed: tuple[str, ...], family: str = "x-forwarded", *, trusts_host: bool = False) -> None:
        """Take addresses, networks, `unix` (peers on UNIX sockets) and `*` (all peers); `x-forwarded` or `forwarded`.

        IPv4-mapped addresses (`::ffff:10.0.0.1`, RFC 4291 section 2.5.5.2) are treated as IPv4, both here and in the
        addresses compared. Raises `ValueError` for anything else, and for a network with host bits set.
        """
        self._fields = _FIELDS[family]
        self._trusts_host = trusts_host
        self._everybody = "*" in allowed
        self._unix = "unix" in allowed
        self._networks = tuple(_network(text) for text in allowed if text not in {"*", "unix"})
        self._known: dict[str, bool] = {}  # address as text -> True if trusted; at most _CACHE_SIZE

    def trusts(self, client_host: str | None) -> bool:
        """Return True if a peer is trusted; None and an empty string stand for the peer of a UNIX socket."""
        if self._everybody:
            return True
        if not client_host:
            return self._unix
        known = self._known.get(client_host)
        return self._decide(client_host) if known is None else known

    def _decide(self, host: str) -> bool:
        try:
            address = _unmapped(ipaddress.ip_address(host.partition("%")[0]))
        except ValueError:
            return False
        trusted = any(address in network for network in self._networks)
        if len(self._known) >= _CACHE_SIZE:
            self._known.clear()
        self._known[host] = trusted
        return trusted

    def resolve(
        self, client: Endpoint | None, scheme: str, host: bytes | None, headers: Iterable[tuple[bytes, bytes]]
    ) -> Forwarded:
        """Return the client, scheme and host of a request, from the connection's facts and the header fields.

        Header names are in lower case. Several lines of one field form one list. Malformed values are ignored.
        """
        if not self.trusts(client[0] if client else None):
            return Forwarded(client, scheme, host)
        wanted = self._fields
        fields: dict[bytes, list[bytes]] = {}
        for name, value in headers:
            if name in wanted:
                fields.setdefault(name, []).append(value)
        if not fields:
            return Forwarded(client, scheme, host)
        lines = fields.get(b"forwarded")
        forwarded = self._from_x_forwarded(fields) if lines is None else self._from_forwarded(lines)
        forwarded.client = forwarded.client or client
        forwarded.scheme = forwarded.scheme or scheme
        forwarded.host = (forwarded.host if self._trusts_host else None) or host
        return forwarded

    def _from_x_forwarded(self, fields: dict[bytes, list[bytes]]) -> Forwarded:
        client, hops = None, 0
        for entry in reversed(_entries(fields.get(b"x-forwarded-for", ()))):
            node = endpoint(entry)
            client = node or client
            hops += 1
            if not self._goes_on(node):
                break
        scheme, host = "", None
        for entry in _passed(fields.get(b"x-forwarded-proto", ()), hops or 1):
            scheme = _SCHEMES.get(entry.lower()) or scheme
        for entry in _passed(fields.get(b"x-forwarded-host", ()), hops or 1):
            host = _host(entry) or host
        return Forwarded(client, scheme, host)

    def _from_forwarded(self, lines: Sequence[bytes]) -> Forwarded:
        client, scheme, host = None, "", None
        for line in reversed(lines):
            elements = _elements(line)
            if elements is None:
                return Forwarded(client, scheme, host, "Forwarded cannot be parsed")
            for element in reversed(elements):
                scheme = _SCHEMES.get(element.get(b"proto", b"").lower()) or scheme
                host = _host(element.get(b"host", b"")) or host
                node = endpoint(element.get(b"for", b""))
                client = node or client
                if not self._goes_on(node):
                    return Forwarded(client, scheme, host)
        return Forwarded(client, scheme, host)

    def _goes_on(self, node: Endpoint | None) -> bool:
        """Return True if a trusted proxy wrote the entry to the left of this one."""
        return self._everybody or (node is not None and self.trusts(node[0]))


def endpoint(text: bytes) -> Endpoint | None:
    """Return the host and port of `1.2.3.4`, `1.2.3.4:80`, `::1` or `[::1]:80`; port 0 if absent or obfuscated.

    Return None for anything else, including names, zones (`%eth0`) and RFC 7239's `unknown` and `_hidden`.
    """
    return _endpoint(text) if len(text) <= _LONGEST_NODE else None  # the cache keeps its keys


@functools.lru_cache(maxsize=_CACHE_SIZE)
def _endpoint(text: bytes) -> Endpoint | None:
    found = _NODE.fullmatch(text)
    if found is None and not _BARE_V6.fullmatch(text):
        return None
    v4, v6, port = found.groups() if found else (None, text, None)
    number = int(port or 0)
    try:
        address = ipaddress.IPv4Address(v4.decode()) if v4 else _unmapped(ipaddress.IPv6Address(v6.decode()))
    except ValueError:
        return None
    return (str(address), number) if number <= 65535 else None


def _unmapped(address: Address) -> Address:
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


def _network(text: str) -> Network:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not an address, a network, `unix` or `*`: {error}") from None
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((mapped, network.prefixlen - 96))
    return network


def _entries(lines: Sequence[bytes]) -> list[bytes]:
    """Return the members of a list field without empty ones (RFC 9110 section 5.6.1)."""
    return [entry for part in b",".join(lines).split(b",") if (entry := part.strip(b" \t"))]


def _passed(lines: Sequence[bytes], hops: int) -> list[bytes]:
    """Return the last `hops` members of a list field in reverse: the member nearest to the client comes last."""
    return _entries(lines)[: -hops - 1 : -1]


def _elements(line: bytes) -> list[Element] | None:
    """Return the elements of one `Forwarded` line, names in lower case; None if it violates RFC 7239 section 4."""
    elements: list[Element] = []
    element: Element = {}
    place = 0
    while found := _PAIR.match(line, place):
        name, bare, quoted, end = found.groups()
        if name is not None:
            if name.lower() in element:
                return None
            element[name.lower()] = _ESCAPED.sub(rb"\1", quoted) if bare is None else bare
        if end != b";" and element:
            elements.append(element)
            element = {}
        if not end:
            return elements
        place = found.end()
    return None


def _host(text: bytes) -> bytes | None:
    found = _HOST.fullmatch(text) if len(text) <= _LONGEST_HOST else None
    return text if found and int(found[1] or 0) <= 65535 else None
