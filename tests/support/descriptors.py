"""What a process holds: its descriptors, as proc(5) shows them.

A process opens and closes descriptors while it is looked at, so an entry may vanish between two system calls. That
drops one entry of the answer and never the rest of it.
"""

from __future__ import annotations

import contextlib
import os


def links(pid: int) -> dict[int, str]:
    """Return what each descriptor of a process is, as `socket:[12]` or a path; nothing if the process has ended."""
    found: dict[int, str] = {}
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for name in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208 - names only: the entries may vanish
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")  # noqa: PTH115
    return found


def sockets(pid: int) -> set[str]:
    """Return the sockets that a process holds, each as `socket:[<inode>]`."""
    return {link for link in links(pid).values() if link.startswith("socket:[")}
