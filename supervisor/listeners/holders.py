"""Finds the processes that hold an address in use, from /proc, for an error message.

Reads the links of all descriptors visible to this user: milliseconds on most machines, up to `LONGEST` on one with very
many of them, which may miss some processes.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from hybrid.supervisor.listeners.addresses import Bind, TcpBind, UdpBind, UnixBind

LONGEST = 1.0
"""The maximum seconds of a search."""
_PROC = Path("/proc")
_LISTENS = "0A"  # TCP_LISTEN, include/net/tcp_states.h, as proc_pid_net(5) has it
_MOST_NAMED = 3  # processes
_MOST_TEXT = 80  # characters of a command line


def holders_of(bind: Bind) -> str | None:
    """Return the processes that hold the address of `bind`, for a log line.

    Empty if they are not visible, usually because they belong to other users; None if there is no such socket.
    """
    inodes = set(_sockets(bind))
    if not inodes:
        return None
    held = list(_holders(inodes))
    more = len(held) - _MOST_NAMED
    return ", ".join([*held[:_MOST_NAMED], *([f"and {more} more"] if more > 0 else [])])


def _sockets(bind: Bind) -> Iterator[str]:
    """Yield the inode numbers of the sockets at the address of `bind`."""
    state: str | None = None
    match bind:
        case TcpBind(_, port):
            tables, state = ("tcp", "tcp6"), _LISTENS
        case UdpBind(_, port):
            tables = ("udp", "udp6")
        case UnixBind(path):
            yield from (row[6] for row in _rows("unix") if row[7:] == [path])
            return
        case _:
            return
    for table in tables:
        for row in _rows(table):
            if row[1].rpartition(":")[2] == f"{port:04X}" and state in (None, row[3]):
                yield row[9]


def _rows(table: str) -> Iterator[list[str]]:
    with contextlib.suppress(OSError):  # a kernel without that family
        for line in (_PROC / "net" / table).read_text(errors="surrogateescape").splitlines()[1:]:
            yield line.split(maxsplit=7) if table == "unix" else line.split()


def _holders(inodes: set[str]) -> Iterator[str]:
    """Yield pid and command line of the processes that hold one of the sockets."""
    links = {f"socket:[{inode}]" for inode in inodes}
    ends = time.monotonic() + LONGEST
    for process in sorted((entry for entry in _PROC.iterdir() if entry.name.isdecimal()), key=lambda e: int(e.name)):
        if time.monotonic() > ends:
            return
        with contextlib.suppress(OSError):  # gone, or another user's
            if any(link in links for link in _links(process / "fd")):
                if int(process.name) == os.getpid():
                    yield "this process, which has bound it already"
                    continue
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                shown = command if len(command) <= _MOST_TEXT else f"{command[:_MOST_TEXT]}..."
                yield f"pid {process.name} ({shown or 'a process without a command line'})"


def _links(folder: Path) -> Iterator[str]:
    for entry in folder.iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            yield os.readlink(entry)  # noqa: PTH115 - `socket:[...]` is no path
