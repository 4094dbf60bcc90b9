"""Refused binds in words."""

from __future__ import annotations

import errno
import os
import socket

from support.rows import for_each

from hybrid.supervisor.listeners.addresses import parse_bind
from hybrid.supervisor.listeners.binding import explain
from hybrid.workers.contract.exits import Exit


@for_each(
    ("bind", "number", "says"),
    [
        ("127.0.0.1:1", errno.EADDRINUSE, "address already in use; see who listens with: ss -ltnp 'sport = :1'"),
        ("udp://127.0.0.1:1", errno.EADDRINUSE, "see who listens with: ss -lunp 'sport = :1'"),
        ("unix:/run/x", errno.EADDRINUSE, "see who listens with: ss -lxp 'src = /run/x'"),
        ("127.0.0.1:80", errno.EACCES, "permission denied; a port below 1024 needs root or CAP_NET_BIND_SERVICE"),
        ("127.0.0.1:8000", errno.EACCES, "permission denied"),
        ("192.0.2.1:80", errno.EADDRNOTAVAIL, "this machine has no such address; see which it has with: ip address"),
        ("[::]:80", errno.EAFNOSUPPORT, "this machine has no IPv6: use 0.0.0.0:80 for all IPv4 interfaces"),
        ("unix:/no/x", errno.ENOENT, "no such file or directory; its directory does not exist"),
        ("fd://9", errno.EBADF, "no such descriptor was passed to this process"),
        ("fd://0", errno.ENOTSOCK, "the descriptor is no socket"),
        ("unix:/run/x", errno.EROFS, "read-only file system"),
    ],
)
def test_a_refusal_has_a_reason_and_a_hint(bind: str, number: int, says: str) -> None:
    error = explain(parse_bind(bind), OSError(number, os.strerror(number)))
    assert str(error).startswith(f"cannot bind {bind}: ")
    assert str(error).endswith(says)
    assert error.code is Exit.BIND


def test_a_name_that_does_not_resolve_is_said_so() -> None:
    error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    text = str(explain(parse_bind("no.invalid:80"), error))
    assert text == "cannot bind no.invalid:80: the host name cannot be resolved (Name or service not known)"


def test_an_error_without_an_errno_keeps_its_text() -> None:
    assert str(explain(parse_bind("a:80"), OSError("odd"))) == "cannot bind a:80: odd"
