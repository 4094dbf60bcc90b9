"""IPv4 peers on sockets of both families."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from hybrid.workers.common.addresses import mapped, serves_both, unmapped


@pytest.mark.parametrize(
    ("address", "plain"),
    [
        (("::ffff:192.0.2.7", 80, 0, 0), ("192.0.2.7", 80)),
        (("2001:db8::1", 80, 0, 0), ("2001:db8::1", 80, 0, 0)),
        (("fe80::1%lo", 80, 0, 1), ("fe80::1%lo", 80, 0, 1)),
        (("::ffff:0:1", 80, 0, 0), ("::ffff:0:1", 80, 0, 0)),
    ],
)
def test_a_mapped_address_becomes_ipv4_and_others_stay(address: Any, plain: Any) -> None:
    assert unmapped(address) == plain


@pytest.mark.parametrize(
    ("address", "sendable"),
    [
        (("192.0.2.7", 80), ("::ffff:192.0.2.7", 80)),
        (("2001:db8::1", 80, 0, 0), ("2001:db8::1", 80, 0, 0)),
        (("localhost", 80), ("localhost", 80)),
        (("", 80), ("", 80)),
    ],
)
def test_an_ipv4_address_is_mapped_to_be_sent_to(address: Any, sendable: Any) -> None:
    assert mapped(address) == sendable


@pytest.mark.parametrize(("family", "only", "both"), [(socket.AF_INET6, 0, True), (socket.AF_INET6, 1, False)])
def test_an_ipv6_socket_serves_both_unless_it_is_told_not_to(family: int, only: int, both: bool) -> None:
    with socket.socket(family) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        assert serves_both(sock) is both
    assert not serves_both(sock)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_other_sockets_serve_their_own_family(family: int) -> None:
    with socket.socket(family) as sock:
        assert not serves_both(sock)
