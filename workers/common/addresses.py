"""IPv4 peers of a socket that serves both families.

The kernel writes 192.0.2.7 as ::ffff:192.0.2.7 there (RFC 4291, section 2.5.5.2). Applications, logs and the list of
trusted proxies know such a peer by its IPv4 address, as on a socket of that family.
"""

from __future__ import annotations

import socket
from typing import Any

_MAPPED = "::ffff:"


def serves_both(sock: socket.socket) -> bool:
    """Tell whether peers of `sock` may be of IPv4 although its family is IPv6."""
    try:
        return sock.family == socket.AF_INET6 and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    except OSError:  # closed
        return False


def unmapped(address: Any) -> Any:
    """Return `(host, port)` of IPv4 for a mapped address as `accept` or `recvfrom` tells it; others unchanged."""
    host = address[0]
    return (host[len(_MAPPED) :], address[1]) if host.startswith(_MAPPED) and "." in host else address


def mapped(address: Any) -> Any:
    """Return an address that a socket of both families can send to: the opposite of `unmapped`."""
    host = address[0]
    is_ipv4 = ":" not in host and host[-1:].isdigit()  # no name of a host ends with a digit (RFC 1123, section 2.1)
    return (_MAPPED + host, *address[1:]) if is_ipv4 else address
