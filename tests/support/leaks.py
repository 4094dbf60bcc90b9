"""What a test left behind: children of this process, and descriptors of the kinds that servers leak."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import suppress

import psutil

from support import processes, template

_WATCHED = ("socket:", "pipe:", "anon_inode:")  # files and terminals belong to pytest, coverage and hypothesis
_KEPT = ("resource_tracker",)  # a service process of the standard library and of multiprocess: one per interpreter


def descriptors() -> set[tuple[int, str]]:
    """Return (number, what it is) of the open sockets, pipes, epolls and the like of this process."""
    return set(_watched())


class Owned:
    """Descriptors that a test may close, or what it gives them to; `close` closes the others.

    The number of one that was closed may be that of another one by now: then a second close would hit that.
    """

    def __init__(self, *numbers: int) -> None:
        self._known: dict[int, tuple[int, int]] = {}
        self.add(*numbers)

    def add(self, *numbers: int) -> None:
        """Take further ones."""
        for number in numbers:
            self._known[number] = _identity(number)

    def close(self) -> None:
        """Close those that are still open."""
        for number, identity in self._known.items():
            with suppress(OSError):
                if _identity(number) == identity:
                    os.close(number)
        self._known.clear()


def _identity(number: int) -> tuple[int, int]:
    status = os.fstat(number)
    return status.st_dev, status.st_ino


def _watched() -> Iterator[tuple[int, str]]:
    # gevent keeps its hub, and with it an epoll and an event descriptor, for as long as the thread lives
    watched = _WATCHED[:2] if "gevent" in sys.modules else _WATCHED
    for number in os.listdir("/proc/self/fd"):  # noqa: PTH208 - twice for every test: a third of the time of `Path`
        with suppress(OSError):  # the descriptor of this very listing is gone already
            what = os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115
            if what.startswith(watched):
                yield int(number), what


def _described(pid: int) -> str | None:
    """What a report says of a child; None if it is kept, or gone since the look."""
    try:
        process = psutil.Process(pid)
        return None if any(word in part for part in process.cmdline() for word in _KEPT) else f"child {process}"
    except psutil.ZombieProcess:
        return f"child pid={pid}, finished, not waited for"
    except psutil.NoSuchProcess:
        return None


class Census:
    """Counts what is open and alive now; `newcomers` says what was added since.

    It looks at this process only, since it does so twice for every test: its descriptors and its own children. A
    grandchild that is left behind has a parent that is, or has none: such orphans are found through their process group
    (`HybridProcess.close`).
    """

    def __init__(self) -> None:
        # From here on a collection looks at what the test makes, not at all that pytest and its plugins hold: that took
        # 0.7 s each time, and half of the processor time of the tests. Garbage would be frozen too, so it goes first.
        gc.collect()
        gc.freeze()
        self._descriptors = descriptors()
        self._children = set(processes.children())

    def newcomers(self) -> list[str]:
        """Return one line for each child and descriptor that was not there at the count; collects garbage first."""
        if not self._added():
            return []
        gc.collect()
        return self._added()

    def _added(self) -> list[str]:
        fds = {item for item in descriptors() - self._descriptors if item[0] not in _kept_fds()}
        pids = set(processes.children()) - self._children - template.pids()
        return [line for pid in pids if (line := _described(pid))] + [f"fd {n} {what}" for n, what in fds]


def _kept_fds() -> set[int]:
    """The descriptors of the templates, and the pipe to the resource tracker: opened once, for the whole run."""
    names = ("multiprocessing.resource_tracker", "multiprocess.resource_tracker")
    trackers = [getattr(sys.modules.get(name), "_resource_tracker", None) for name in names]
    return {fd for tracker in trackers if (fd := getattr(tracker, "_fd", None)) is not None} | template.descriptors()
