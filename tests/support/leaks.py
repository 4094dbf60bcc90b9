"""What a test left behind: children of this process, and descriptors of the kinds that servers leak."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

_FDS = Path("/proc/self/fd")
_WATCHED = ("socket:", "pipe:", "anon_inode:")  # files and terminals belong to pytest, coverage and hypothesis
_KEPT = ("resource_tracker",)  # a service process of the standard library and of multiprocess: one per interpreter


def descriptors() -> set[tuple[int, str]]:
    """Return (number, what it is) of the open sockets, pipes, epolls and the like of this process."""
    return set(_watched())


def _watched() -> Iterator[tuple[int, str]]:
    # gevent keeps its hub, and with it an epoll and an event descriptor, for as long as the thread lives
    watched = _WATCHED[:2] if "gevent" in sys.modules else _WATCHED
    for entry in _FDS.iterdir():
        with suppress(OSError):  # the descriptor of this very listing is gone already
            what = str(entry.readlink())
            if what.startswith(watched):
                yield int(entry.name), what


def children() -> set[psutil.Process]:
    """Return the living descendants of this process, also the finished ones nobody has waited for."""
    return {child for child in psutil.Process().children(recursive=True) if not _is_kept(child)}


def _is_kept(process: psutil.Process) -> bool:
    try:
        return any(word in part for part in process.cmdline() for word in _KEPT)
    except psutil.ZombieProcess:
        return False
    except psutil.NoSuchProcess:
        return True


class Census:
    """Counts what is open and alive now; `newcomers` says what was added since."""

    def __init__(self) -> None:
        self._descriptors = descriptors()
        self._children = children()

    def newcomers(self) -> list[str]:
        """Return one line for each child and descriptor that was not there at the count; collects garbage first."""
        if not self._added():
            return []
        gc.collect()
        return self._added()

    def _added(self) -> list[str]:
        fds = {item for item in descriptors() - self._descriptors if item[0] not in _tracker_fds()}
        return [f"child {child}" for child in children() - self._children] + [f"fd {n} {what}" for n, what in fds]


def _tracker_fds() -> set[int]:
    """The pipe to the resource tracker, which the first spawned process opens for the life of the interpreter."""
    names = ("multiprocessing.resource_tracker", "multiprocess.resource_tracker")
    trackers = [getattr(sys.modules.get(name), "_resource_tracker", None) for name in names]
    return {fd for tracker in trackers if (fd := getattr(tracker, "_fd", None)) is not None}
