"""The seat: what the supervisor hands to a worker when it forks it."""

from __future__ import annotations

import dataclasses
import enum
import socket
import types
from collections.abc import Mapping

from hybrid.workers.contract.channel import Channel
from hybrid.workers.contract.scoreboard import Record, Scoreboard


class ListenerKind(enum.Enum):
    """What comes out of a listening socket."""

    STREAM = "stream"
    """Connections, by accept(2): TCP and UNIX stream sockets."""
    DATAGRAM = "datagram"
    """Messages, by recvfrom(2): UDP and UNIX datagram sockets."""


@dataclasses.dataclass(frozen=True, slots=True)
class Listener:
    """A socket that the supervisor made before the fork, bound (and listening, if it is a stream)."""

    address: str
    """As a person types it: `127.0.0.1:9000`, `[::1]:9000`, `unix:/run/x.sock`, `udp://127.0.0.1:53`."""
    kind: ListenerKind
    sock: socket.socket
    """Non-blocking. Its open file description is shared with the supervisor and every sibling."""
    slot: int | None
    """The slot that polls it; None: one socket, polled by all (UNIX, `fd://`)."""


def _own_record() -> Record:
    return Scoreboard(1).record(0)


@dataclasses.dataclass(frozen=True, slots=True)
class Seat:
    """Everything a worker needs to know of the process tree it is born into."""

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
    """What it tells by shared memory; by default memory that nobody reads."""
    evidence: int = 2
    """Descriptor that the stacks of a stalled loop are written to; standard error by default."""

    @property
    def own_listeners(self) -> tuple[Listener, ...]:
        """The listeners this worker polls: those of its slot and the shared ones."""
        return tuple(item for item in self.listeners if item.slot is None or item.slot == self.slot)

    @property
    def labels(self) -> Mapping[str, object]:
        """What every log line of this worker carries."""
        return types.MappingProxyType({"service": self.service, "slot": self.slot, "generation": self.generation})
