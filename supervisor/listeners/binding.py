"""Error messages for addresses that cannot be bound: the reason, and a hint."""

from __future__ import annotations

import errno
import os
import socket

from hybrid.supervisor.listeners import holders
from hybrid.supervisor.listeners.addresses import Bind, FdBind, TcpBind, UdpBind, UnixBind
from hybrid.workers.contract.exits import Exit


class BindError(Exception):
    """An address cannot be bound; the text needs no traceback."""

    code = Exit.BIND
    """Its exit code."""


def cannot_bind(bind: Bind, why: str) -> BindError:
    """Return the error for `bind` with the reason `why`."""
    return BindError(f"cannot bind {bind}: {why}")


def explain(bind: Bind, error: OSError) -> BindError:
    """Return the error message for `error`, raised while binding `bind`. Does not block."""
    if isinstance(error, socket.gaierror):
        return cannot_bind(bind, f"the host name cannot be resolved ({error.strerror})")
    return _with_hint(bind, error, _reason(error))


def explain_and_search(bind: Bind, error: OSError) -> BindError:
    """Return the same, and name the processes that hold an address in use.

    Blocks while it reads /proc, for `holders.LONGEST` at most. Do not use it for errors that occur repeatedly.
    """
    if error.errno != errno.EADDRINUSE or (held := holders.holders_of(bind)) is None:
        return explain(bind, error)
    if held:
        return cannot_bind(bind, f"{_reason(error)} by {held}")
    return _with_hint(bind, error, f"{_reason(error)} by a process that this user may not inspect")


def _reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)


def _with_hint(bind: Bind, error: OSError, why: str) -> BindError:
    hint = _hint(bind, error.errno)
    return cannot_bind(bind, f"{why}; {hint}" if hint else why)


def _hint(bind: Bind, number: int | None) -> str | None:
    match bind, number:
        case TcpBind(port=port), errno.EADDRINUSE:
            return f"see who listens with: ss -ltnp 'sport = :{port}'"
        case UdpBind(port=port), errno.EADDRINUSE:
            return f"see who listens with: ss -lunp 'sport = :{port}'"
        case UnixBind(path), errno.EADDRINUSE:
            return f"see who listens with: ss -lxp 'src = {path}'"
        case ((TcpBind(port=port) | UdpBind(port=port)), errno.EACCES | errno.EPERM) if port < 1024:
            return "a port below 1024 needs root or CAP_NET_BIND_SERVICE"
        case ((TcpBind() | UdpBind()), errno.EADDRNOTAVAIL):
            return "this machine has no such address; see which it has with: ip address"
        case ((TcpBind(host=host, port=port) | UdpBind(host=host, port=port)), errno.EAFNOSUPPORT) if ":" in host:
            return f"this machine has no IPv6: use 0.0.0.0:{port} for all IPv4 interfaces"
        case UnixBind(), errno.ENOENT | errno.ENOTDIR:
            return "its directory does not exist"
        case FdBind(), errno.EBADF:
            return "no such descriptor was passed to this process"
        case FdBind(), errno.ENOTSOCK:
            return "the descriptor is no socket"
        case _:
            return None
