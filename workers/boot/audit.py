"""Finds things that an import has left in the process and that do not survive a fork.

A forked child has only the thread that forked. It shares sockets, epoll sets and the like with its parent, so each may
take input or events meant for the other (fork(2), epoll(7)). Timers and children stay with the parent. Files and pipes
are not reported: they are mostly logs, and shared on purpose.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from hybrid.workers.boot import native_threads
from hybrid.workers.contract.log import unpatched
from hybrid.workers.contract.records import record

_MOST_NAMES = 4  # in one phrase; the line is for people
_THREAD_ENDS = 0.25  # seconds; `Thread.join` returns a moment before the kernel's thread is gone
_Socket = socket.socket  # saved before gevent may replace it by a class that makes a hub
_ANONYMOUS = "anon_inode:"  # epoll, eventfd, timerfd, signalfd, inotify, io_uring, pidfd, ...; see proc_pid_fd(5)
_KINDS = {"eventpoll": "epoll"}  # name in /proc -> common name


@record(frozen=True, slots=True)
class Census:
    """The state of the process before the import."""

    threads: frozenset[int]
    """`id` of the living `threading.Thread` objects."""
    tasks: frozenset[int]
    """Thread ids of the kernel."""
    descriptors: frozenset[tuple[int, str]]
    """Number, and its link target in /proc."""
    has_children: bool
    greenlets: frozenset[int]
    """`id` of the started greenlets."""
    timers: frozenset[int]
    """Running timers of setitimer(2)."""


def census() -> Census:
    """Take a census of the process. Never waits."""
    return Census(
        threads=frozenset(map(id, threading.enumerate())),
        tasks=frozenset(_tasks()),
        descriptors=frozenset(_descriptors()),
        has_children=_has_children(),
        greenlets=frozenset(map(id, _started())),
        timers=frozenset(_timers()),
    )


def findings(before: Census) -> list[str]:
    """Return a short phrase for each thing that is new since the census and does not survive a fork.

    If it finds something, it collects garbage, which closes unreferenced objects, and looks again. Waits at most a
    quarter of a second for threads that are ending.
    """
    if not list(_found(before)):
        return []
    gc.collect()
    _wait_for_threads(before)
    return list(_found(before))


def _found(before: Census) -> Iterator[str]:
    yield from _threads(before)
    yield from _greenlets(before)
    new = sorted(set(_descriptors()) - before.descriptors)
    yield from _sockets([fd for fd, what in new if what.startswith("socket:")])
    yield from _anonymous({fd: what.removeprefix(_ANONYMOUS) for fd, what in new if what.startswith(_ANONYMOUS)})
    if _has_children() and not before.has_children:
        yield "a child process"
    if set(_timers()) - before.timers:  # a forked child has none
        yield "a running timer"


# --- threads and greenlets


def _threads(before: Census) -> Iterator[str]:
    known = [item for item in threading.enumerate() if id(item) not in before.threads and item.is_alive()]
    if known:
        yield _phrase(len(known), "live thread", (item.name for item in known))
    left = native_threads.not_surviving(set(_tasks()) - before.tasks - {item.native_id for item in known})
    by_library = sorted(left, key=left.__getitem__)
    for file, group in itertools.groupby(by_library, key=left.__getitem__):
        tasks = list(group)
        if file:
            yield f"{_phrase(len(tasks), 'live thread', ())} of {native_threads.describe(file)}"
        else:
            yield _phrase(len(tasks), "live thread", map(native_threads.name_of, tasks), of=" of C code")


def _tasks() -> Iterator[int]:
    for entry in Path("/proc/self/task").iterdir():
        yield int(entry.name)


def _wait_for_threads(before: Census) -> None:
    """Give threads time to end or to block: the library of a running thread cannot be determined."""
    pause = unpatched("poll")()  # `time.sleep` may be gevent's, which would start its hub
    until = time.monotonic() + _THREAD_ENDS
    while list(_threads(before)) and time.monotonic() < until:
        pause.poll(5)


def _greenlets(before: Census) -> Iterator[str]:
    new = [item for item in _started() if id(item) not in before.greenlets]
    if new:
        yield _phrase(len(new), "started greenlet", (str(getattr(item, "name", "")) for item in new))


def _started() -> list[Any]:
    """Return the greenlets that have started, or that gevent is about to start, and have not ended; without the hub."""
    library: Any = sys.modules.get("greenlet")
    if library is None:
        return []
    own = (library.getcurrent(), idle_hub())
    # not isinstance: it also reads `__class__` of the object, which raises on a proxy of a dead object
    found = [item for item in gc.get_objects() if issubclass(type(item), library.greenlet)]
    return [item for item in found if item not in own and item.parent is not None and item]  # a main one has no parent


def idle_hub() -> Any:
    """Return gevent's hub of this thread, or None; does not create it.

    The hub alone is not a finding: every `ThreadPoolExecutor` of a patched process creates one (Django's, for example),
    and `gevent.reinit` gives it new descriptors in a forked child.
    """
    module: Any = sys.modules.get("gevent._hub_local")
    return None if module is None else module.get_hub_if_exists()


# --- descriptors


def _descriptors() -> Iterator[tuple[int, str]]:
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the descriptor of this very listing is gone already
            yield int(entry.name), str(entry.readlink())


def _sockets(descriptors: Iterable[int]) -> Iterator[str]:
    names = [name for fd in descriptors if (name := _name(fd)) is not None]
    if names:
        yield _phrase(len(names), "new socket", names)


def _name(fd: int) -> str | None:
    """Return a name for a socket, or None if sharing it is harmless because it receives nothing."""
    old = socket.getdefaulttimeout()
    socket.setdefaulttimeout(None)  # or the next line would make it non-blocking, for its owner too
    try:
        sock = _Socket(fileno=fd)
    except OSError:  # closed meanwhile
        return None
    finally:
        socket.setdefaulttimeout(old)
    try:
        own, peer = _address(sock.getsockname), _address(sock.getpeername)
        is_line_to_syslog = sock.family == socket.AF_UNIX and sock.type == socket.SOCK_DGRAM and peer
        if not own and (peer is None or is_line_to_syslog):
            return None
        return peer or own or "a pair"
    finally:
        sock.detach()


def _address(ask: Callable[[], Any]) -> str | None:
    """Return an address as people write it, "" if it is empty, None if there is none."""
    try:
        address = ask()
    except OSError:
        return None
    if isinstance(address, tuple) and len(address) in (2, 4) and isinstance(address[0], str):  # IPv4 and IPv6
        host, port = address[:2]
        return "" if port == 0 else f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return os.fsdecode(address) if isinstance(address, (str, bytes)) else str(address)


def _anonymous(kinds: dict[int, str]) -> Iterator[str]:
    names = sorted(_KINDS.get(bare, bare) for kind in _not_of_the_hub(kinds) if (bare := kind.strip("[]")))
    for name, group in itertools.groupby(names):
        count = len(list(group))
        article = "an" if name[0] in "aeiou" else "a"
        yield f"{article} {name} descriptor" if count == 1 else f"{count} {name} descriptors"


def _not_of_the_hub(kinds: dict[int, str]) -> list[str]:
    """Return the kinds without the epoll set and the eventfd of gevent's hub."""
    hub = idle_hub()
    if hub is None or hub.loop.fileno() not in kinds:
        return list(kinds.values())
    left = [kind for fd, kind in kinds.items() if fd != hub.loop.fileno()]
    if "[eventfd]" in left:
        left.remove("[eventfd]")
    return left


# --- children and timers


def _has_children() -> bool:
    """Return True if there is a child, including a zombie, which is not reaped here."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _timers() -> Iterator[int]:
    for which in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        if signal.getitimer(which)[0] > 0:
            yield which


def _phrase(count: int, noun: str, names: Iterable[str], of: str = "") -> str:
    """Return e.g. `2 live threads (Thread-1, Thread-2)`."""
    known = sorted({name for name in names if name})
    shown = [*known[:_MOST_NAMES], *(["..."] if len(known) > _MOST_NAMES else [])]
    return f"{count} {noun}{'s' * (count != 1)}{of}" + (f" ({', '.join(shown)})" if shown else "")
