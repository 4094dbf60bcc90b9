"""The syntax of `--bind`: text in, a typed address out. Nothing is resolved or opened here.

127.0.0.1:9000   [::1]:9000   example.org:80      TCP; [::]:9000 is all interfaces of both families
udp://127.0.0.1:53                                UDP
unix:/run/app.sock   unix:@name                   UNIX stream socket: a file, or a name in the abstract namespace
fd://3                                            a socket that this process inherited
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from hybrid.workers.contract.records import record

_MAX_PORT = 65535
_MAX_UNIX_PATH = 107
"""Bytes of a path in `sockaddr_un` without its final NUL (unix(7))."""


class BindSyntaxError(ValueError):
    """A text that is no address; the message shows a valid one."""


@record(frozen=True, slots=True)
class TcpBind:
    """A TCP address; `host` may be a name, `port` 0 lets the kernel choose."""

    host: str
    port: int
    ipv6_only: bool = dataclasses.field(default=False, compare=False)
    """True if an IPv6 socket accepts no IPv4 peers, which `::` does otherwise."""

    def __str__(self) -> str:
        return join_host_port(self.host, self.port)


@record(frozen=True, slots=True)
class UdpBind:
    """A UDP address; `host` may be a name, `port` 0 lets the kernel choose."""

    host: str
    port: int
    ipv6_only: bool = dataclasses.field(default=False, compare=False)
    """See `TcpBind`."""

    def __str__(self) -> str:
        return f"udp://{join_host_port(self.host, self.port)}"


@record(frozen=True, slots=True)
class UnixBind:
    """The path of a UNIX stream socket, or `@` and a name in the abstract namespace."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"

    @property
    def is_abstract(self) -> bool:
        """True if it has a name and no file."""
        return self.path.startswith("@")


@record(frozen=True, slots=True)
class FdBind:
    """The descriptor of a bound socket that this process inherited."""

    fd: int

    def __str__(self) -> str:
        return f"fd://{self.fd}"


Bind = TcpBind | UdpBind | UnixBind | FdBind


def parse_bind(text: str) -> Bind:
    """Return the address in `text`. Raises `BindSyntaxError`."""
    if text.startswith("unix:"):
        return _parse_unix(text)
    scheme, separator, rest = text.partition("://")
    match scheme if separator else "tcp":
        case "tcp":
            return TcpBind(*_parse_host_port(rest if separator else text, text))
        case "udp":
            return UdpBind(*_parse_host_port(rest, text))
        case "fd":
            return FdBind(_parse_number(rest, text, "a file descriptor", 2**31 - 1))
        case _:
            raise BindSyntaxError(
                f"unknown kind of address {scheme + '://'!r} in {text!r}: use tcp://, udp://, unix: or fd://"
            )


def with_families(binds: Sequence[Bind], *, ipv6_only: bool) -> tuple[Bind, ...]:
    """Return `binds`, each IPv6 address for both families unless `ipv6_only` or an IPv4 address has the same port.

    Beside `0.0.0.0:80`, `[::]:80` for both families would be in use already.
    """
    taken = {(type(bind), bind.port) for bind in binds if isinstance(bind, TcpBind | UdpBind) and ":" not in bind.host}
    return tuple(
        dataclasses.replace(bind, ipv6_only=ipv6_only or (bind.port != 0 and (type(bind), bind.port) in taken))
        if isinstance(bind, TcpBind | UdpBind)
        else bind
        for bind in binds
    )


def join_host_port(host: str, port: int) -> str:
    """Return `host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _parse_unix(text: str) -> UnixBind:
    path = text.removeprefix("unix:")
    if path in ("", "@", "//"):
        raise BindSyntaxError(f"{text!r} has no path: write unix:/run/app.sock or unix:@name")
    if "\0" in path:
        raise BindSyntaxError(f"{text!r} has a NUL in its path")
    path = "/" + path.lstrip("/") if path.startswith("//") else path  # unix:///run/app.sock is common too
    if len(path.encode("utf-8", "surrogateescape")) > _MAX_UNIX_PATH:
        raise BindSyntaxError(f"the path in {text!r} is longer than the {_MAX_UNIX_PATH} bytes that the kernel allows")
    return UnixBind(path)


def _parse_host_port(rest: str, text: str) -> tuple[str, int]:
    host, colon, port = rest.rpartition(":")
    if not colon or (host.startswith("[") and not host.endswith("]")):
        raise BindSyntaxError(
            f"{text!r} has no port: write HOST:PORT, for example 127.0.0.1:{rest if rest.isdigit() else 8000}"
        )
    if host.startswith("["):
        host = host[1:-1]
    elif ":" in host:
        raise BindSyntaxError(f"{text!r} is ambiguous: write an IPv6 address in brackets, for example [::1]:8000")
    if not host or any(character.isspace() or character in "/[]" for character in host):
        example = f"127.0.0.1:{port}, or 0.0.0.0:{port} for all IPv4 interfaces"
        raise BindSyntaxError(f"{text!r} has no valid host: write for example {example}")
    return host, _parse_number(port, text, "a port", _MAX_PORT)


def _parse_number(digits: str, text: str, kind: str, maximum: int) -> int:
    # str.isdigit alone is true for other scripts' digits, and int() takes "+1" and "1_0"
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 10 and int(digits) <= maximum):
        raise BindSyntaxError(f"{digits!r} in {text!r} is not {kind}: a number from 0 to {maximum}")
    return int(digits)
