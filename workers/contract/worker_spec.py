"""The spec: what the supervisor hands to a worker when it forks it."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import os
import select
import socket
import time
import types
from collections.abc import Mapping

from hybrid.workers.contract import log
from hybrid.workers.contract.channel import Channel
from hybrid.workers.contract.records import record
from hybrid.workers.contract.scoreboard import Record, Scoreboard

_MARGIN = 0.5  # seconds before the drain deadline at which a worker leaves unfinished threads, but
_MOST_MARGIN = 1 / 8  # of the grace period at most


class ListenerKind(enum.Enum):
    """What comes out of a listening socket."""

    STREAM = "stream"
    """Connections, by accept(2): TCP and UNIX stream sockets."""
    DATAGRAM = "datagram"
    """Messages, by recvfrom(2): UDP and UNIX datagram sockets."""


_GONE = select.POLLHUP | select.POLLRDHUP | select.POLLERR | select.POLLNVAL


def is_shut_down(sock: socket.socket) -> bool:
    """Return True if a listening socket accepts no more connections: it is closed here, or was shut down anywhere.

    shutdown(2) in one process ends the listening in all that share the socket. Does not block.
    """
    if sock.fileno() < 0:
        return True
    poll = log.unpatched("poll")()
    poll.register(sock.fileno(), 0)
    return any(events & _GONE for _, events in poll.poll(0))


@record(frozen=True, slots=True)
class Listener:
    """A socket that the supervisor made before the fork, bound (and listening, if it is a stream)."""

    address: str
    """As a person types it: `127.0.0.1:9000`, `[::1]:9000`, `unix:/run/x.sock`, `udp://127.0.0.1:53`."""
    kind: ListenerKind
    sock: socket.socket
    """Non-blocking. Its open file description is shared with the supervisor and every sibling."""
    slot: int | None
    """The slot that polls it; None: one socket, polled by all (UNIX, `fd://`)."""
    inode: int = dataclasses.field(init=False, compare=False)
    """Of the socket when this was made. An application may close the descriptor, and its number be used again."""

    def __post_init__(self) -> None:
        """Note which file it is; 0 for a socket that is closed."""
        inode = 0
        with contextlib.suppress(OSError):
            inode = os.fstat(self.sock.fileno()).st_ino
        object.__setattr__(self, "inode", inode)

    @property
    def is_open(self) -> bool:
        """Whether the descriptor still is this socket's in this process."""
        try:
            return os.fstat(self.sock.fileno()).st_ino == self.inode
        except OSError:
            return False

    def defect(self) -> str | None:
        """Return why the socket cannot accept, for a log line; None if it can. Never blocks."""
        if not self.is_open:
            return f"{self.address} was closed in this process"
        if self.kind is ListenerKind.STREAM and is_shut_down(self.sock):
            return f"{self.address} was shut down"
        return None


@dataclasses.dataclass(slots=True)
class Grace:
    """The time in which a worker must end, from the moment it begins to drain."""

    _until: float | None = None  # monotonic; None: it does not drain yet

    def begin(self, seconds: float) -> None:
        """Start the clock; the first call counts."""
        if self._until is None:
            self._until = time.monotonic() + seconds - min(_MARGIN, seconds * _MOST_MARGIN)

    def left(self, otherwise: float) -> float:
        """Return the seconds until SIGKILL may come, less a margin for it; `otherwise` if the clock does not run."""
        if self._until is None:
            return otherwise
        return self._until - time.monotonic()


def _own_record() -> Record:
    return Scoreboard(1).record(0)


@record(frozen=True, slots=True)
class WorkerSpec:
    """Everything a worker needs to know of its process tree."""

    service: str
    slot: int
    generation: int
    supervisor_pid: int
    listeners: tuple[Listener, ...]
    """All listeners of all slots that existed at the fork, so that none is closed while anybody may need it."""
    channel: Channel
    graceful_timeout: float
    """Seconds between the request to drain (SIGTERM) and the supervisor's SIGKILL."""
    record: Record = dataclasses.field(default_factory=_own_record)
    """Its record in shared memory; by default one that is never read."""
    dump_fd: int = 2
    """Descriptor that the stacks of a stalled loop are written to; standard error by default."""

    grace: Grace = dataclasses.field(default_factory=Grace)
    """How long this worker may take to end; runs once it drains."""

    @property
    def own_listeners(self) -> tuple[Listener, ...]:
        """The listeners this worker polls: those of its slot and the shared ones."""
        return tuple(item for item in self.listeners if item.slot is None or item.slot == self.slot)

    @property
    def labels(self) -> Mapping[str, object]:
        """What every log line of this worker carries."""
        return types.MappingProxyType({"service": self.service, "slot": self.slot, "generation": self.generation})
