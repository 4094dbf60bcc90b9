"""The worker spec: everything the supervisor gives to a worker at its fork."""

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
from hybrid.workers.contract.metric_seat import Seat
from hybrid.workers.contract.records import record
from hybrid.workers.contract.scoreboard import Record, Scoreboard

_MARGIN = 0.5  # seconds before the drain deadline at which a worker abandons unfinished threads, but
_MOST_MARGIN = 1 / 8  # of the grace period at most


class ListenerKind(enum.Enum):
    """The kind of a listening socket."""

    STREAM = "stream"
    """Connections, by accept(2): TCP and UNIX stream sockets."""
    DATAGRAM = "datagram"
    """Messages, by recvfrom(2): UDP and UNIX datagram sockets."""
    PASSED = "passed"
    """Connections that siblings have accepted and pass on, by recvmsg(2): see `accepting.passing`."""


_GONE = select.POLLHUP | select.POLLRDHUP | select.POLLERR | select.POLLNVAL


def is_shut_down(sock: socket.socket) -> bool:
    """Return True if a listening socket no longer accepts: it is closed here, or was shut down in any process.

    shutdown(2) in one process stops the socket in all processes that share it. Does not block.
    """
    if sock.fileno() < 0:
        return True
    poll = log.unpatched("poll")()
    poll.register(sock.fileno(), 0)
    return any(events & _GONE for _, events in poll.poll(0))


@record(frozen=True, slots=True)
class Listener:
    """A socket opened by the supervisor before the fork, bound (and listening, if it is a stream)."""

    address: str
    """As a user types it: `127.0.0.1:9000`, `[::1]:9000`, `unix:/run/x.sock`, `udp://127.0.0.1:53`.

    Connections that siblings pass on: `passed`.
    """
    kind: ListenerKind
    sock: socket.socket
    """Non-blocking. Its open file description is shared with the supervisor and every sibling."""
    slot: int | None
    """The slot that polls it; None: one socket, polled by all (UNIX, `fd://`)."""
    inode: int = dataclasses.field(init=False, compare=False)
    """The inode of the socket at first. An application may close the descriptor, and its number may be reused."""

    def __post_init__(self) -> None:
        """Note the inode; 0 for a closed socket."""
        inode = 0
        with contextlib.suppress(OSError):
            inode = os.fstat(self.sock.fileno()).st_ino
        object.__setattr__(self, "inode", inode)

    @property
    def is_open(self) -> bool:
        """True if the descriptor is still this socket in this process."""
        try:
            return os.fstat(self.sock.fileno()).st_ino == self.inode
        except OSError:
            return False

    def defect(self) -> str | None:
        """Return why the socket cannot accept, for a log line, or None. Never blocks."""
        if not self.is_open:
            return f"{self.address} was closed in this process"
        if self.kind is ListenerKind.STREAM and is_shut_down(self.sock):
            return f"{self.address} was shut down"
        return None


@dataclasses.dataclass(slots=True)
class Grace:
    """The time left for a worker to end, once it drains."""

    _until: float | None = None  # monotonic seconds; None: it does not drain yet

    def begin(self, seconds: float) -> None:
        """Start the clock; the first call counts."""
        if self._until is None:
            self._until = time.monotonic() + seconds - min(_MARGIN, seconds * _MOST_MARGIN)

    def left(self, otherwise: float) -> float:
        """Return the seconds until SIGKILL, less a margin; `otherwise` if the clock does not run."""
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
    """Its number among the workers of the service, or among the companions of its name."""
    generation: int
    supervisor_pid: int
    listeners: tuple[Listener, ...]
    """All listeners of all slots that existed at the fork, so that none is closed while it may be needed."""
    channel: Channel
    graceful_timeout: float
    """Seconds between the order to drain (SIGTERM) and the supervisor's SIGKILL."""
    record: Record = dataclasses.field(default_factory=_own_record)
    """Its record in shared memory; by default one that the supervisor does not see."""
    dump_fd: int = 2
    """Descriptor for the stack dumps of a stalled loop; standard error by default."""

    output_fd: int | None = None
    """Descriptor for the output of a program that the worker executes; None: its own standard output."""

    log_fd: int = 2
    """Descriptor for lines of the log."""
    access_fd: int = 1
    """Descriptor for lines of the access log."""

    line: socket.socket | None = None
    """A connection to the supervisor's control line; None for all workers but those that watch over the others."""

    companion: str = ""
    """The name of the companion that this process is; empty: it is a worker."""

    offload_key: str = ""
    """The key of the queues of offloaded calls; empty: this service does not offload."""

    queue: socket.socket | None = None
    """The queue whose calls this process runs; None for all but offload workers."""

    seat: Seat | None = None
    """Where the metrics of the application are written; None: nowhere, or where the application writes them itself."""

    metrics_home: str = ""
    """The directory with the metrics of all services, for a worker that reads them; empty: none."""

    grace: Grace = dataclasses.field(default_factory=Grace)
    """The time left for this worker to end; runs once it drains."""

    @property
    def own_listeners(self) -> tuple[Listener, ...]:
        """The listeners this worker polls: those of its slot and the shared ones."""
        return tuple(item for item in self.listeners if item.slot is None or item.slot == self.slot)

    @property
    def stream_sockets(self) -> Mapping[str, socket.socket]:
        """The listening stream sockets of this worker, by address."""
        return {item.address: item.sock for item in self.own_listeners if item.kind is ListenerKind.STREAM}

    @property
    def title(self) -> str:
        """The first part of its name, as people read it: `web`, or `web.mailer` for a companion."""
        return f"{self.service}.{self.companion}" if self.companion else self.service

    @property
    def labels(self) -> Mapping[str, object]:
        """The labels on every log line of this worker."""
        return types.MappingProxyType({"service": self.title, "slot": self.slot, "generation": self.generation})
