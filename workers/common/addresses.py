"""IPv4 peers of a socket that serves both families.

On such a socket the kernel writes 192.0.2.7 as ::ffff:192.0.2.7 (RFC 4291, section 2.5.5.2). Applications, logs and the
list of trusted proxies get the IPv4 address, as on an IPv4 socket.
"""

from __future__ import annotations

import socket
from typing import Any

_MAPPED = "::ffff:"


def serves_both(sock: socket.socket) -> bool:
    """Return True if `sock` is of IPv6 and may have IPv4 peers."""
    try:
        return sock.family == socket.AF_INET6 and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    except OSError:  # closed
        return False


def unmapped(address: Any) -> Any:
    """Return the IPv4 `(host, port)` of a mapped address from `accept` or `recvfrom`; other addresses unchanged."""
    host = address[0]
    return (host[len(_MAPPED) :], address[1]) if host.startswith(_MAPPED) and "." in host else address


def mapped(address: Any) -> Any:
    """Return an address that a socket of both families can send to: the opposite of `unmapped`."""
    host = address[0]
    is_ipv4 = ":" not in host and host[-1:].isdigit()  # no host name ends with a digit (RFC 1123, section 2.1)
    return (_MAPPED + host, *address[1:]) if is_ipv4 else address
