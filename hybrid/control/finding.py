"""The supervisors that run here: abstract names in `/proc/net/unix`, each asked for its greeting.

Abstract names belong to a network namespace, so only supervisors of the same container are found. Anybody may listen at
such a name: `Found.uid` is the account that does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import select
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from hybrid.control.client import account_of, socket_address
from hybrid.control.errors import ControlError
from hybrid.control.messages import Greeting, Lines, greeting_of

TABLE: Final = Path("/proc/net/unix")
DEADLINE: Final = 0.5  # seconds for all greetings together
_AT_ONCE: Final = 128  # connections that are open at a time
_MAX_GREETING: Final = 1 << 16  # bytes

_ACCEPTS = 0x10000  # __SO_ACCEPTCON in the column Flags: include/uapi/linux/net.h
_STREAM = 1
_NAME = re.compile(r"@hybrid/[^/]+/\d+\.[0-9a-f]+")


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A supervisor that has greeted."""

    address: str
    """`@NAME`."""
    greeting: Greeting
    uid: int
    """The account of the process that listens."""


@dataclasses.dataclass(frozen=True, slots=True)
class Findings:
    """What was found: supervisors by name and pid, and addresses without a greeting."""

    found: tuple[Found, ...]
    silent: tuple[str, ...] = ()
    """Addresses that listen, but did not greet in time: stopped, or busy."""


def listening_names(table: str) -> list[str]:
    """Return the abstract names of control sockets in the text of `/proc/net/unix`, in its order.

    Only listening ones: an accepted connection has the name of its listener too. Lines of another form are skipped.
    """
    names: dict[str, None] = {}
    for line in table.splitlines():
        # Num RefCount Protocol Flags Type St Inode Path: net/unix/af_unix.c, unix_seq_show
        fields = line.split(None, 7)
        if len(fields) != 8 or not _NAME.fullmatch(fields[7]):
            continue
        with contextlib.suppress(ValueError):
            if int(fields[3], 16) & _ACCEPTS and int(fields[4], 16) == _STREAM:
                names[fields[7]] = None
    return list(names)


def find(timeout: float = DEADLINE, table: Path = TABLE) -> Findings:
    """Return the supervisors that run here; waits up to `timeout` seconds for every 128 of them.

    Those that are gone, refuse this account, or speak another protocol are left out.
    """
    try:
        names = listening_names(table.read_text(encoding="utf-8", errors="surrogateescape"))
    except OSError:  # no /proc: nothing can be found, and --control still works
        names = []
    found: list[Found] = []
    silent: list[str] = []
    for first in range(0, len(names), _AT_ONCE):
        with contextlib.ExitStack() as stack:
            calls = list(_calls(names[first : first + _AT_ONCE], stack))
            found += _greeted(calls, time.monotonic() + timeout)
            silent += [call.address for call in calls if call.is_silent]
    found.sort(key=lambda one: (one.greeting.name, one.greeting.pid or 0))
    return Findings(tuple(found), tuple(silent))


class _Call:
    """A connection that waits for its greeting."""

    def __init__(self, address: str, sock: socket.socket) -> None:
        self.address = address
        self.sock = sock
        self.is_silent = True  # neither greeting nor end so far
        self._lines = Lines()
        self._size = 0

    def receive(self) -> Found | None:
        """Read what has arrived. Call again if it returns None and `is_silent`."""
        try:
            data = self.sock.recv(_MAX_GREETING)
            self._size += len(data)
            for line in self._lines.feed(data):
                self.is_silent = False
                return Found(self.address, greeting_of(line), account_of(self.sock))
            self.is_silent = bool(data) and self._size < _MAX_GREETING
        except BlockingIOError:
            pass
        except (OSError, ControlError):
            self.is_silent = False
        return None


def _calls(names: Sequence[str], stack: contextlib.ExitStack) -> Iterator[_Call]:
    """Connect to each name without waiting."""
    for name in names:
        try:
            sock = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
        except OSError:
            return  # out of descriptors: ask those that are connected
        with contextlib.suppress(OSError):  # it has ended since, or its queue is full
            sock.connect(socket_address(name))
            yield _Call(name, sock)


def _greeted(calls: Sequence[_Call], deadline: float) -> Iterator[Found]:
    """Yield the greetings that come before the deadline."""
    poll = select.poll()
    waiting = {call.sock.fileno(): call for call in calls}
    for number in waiting:
        poll.register(number, select.POLLIN)
    while waiting and (events := poll.poll(max(deadline - time.monotonic(), 0) * 1000)):
        for number, _ in events:
            found = waiting[number].receive()
            if found is not None:
                yield found
            if not waiting[number].is_silent:
                poll.unregister(number)
                del waiting[number]
