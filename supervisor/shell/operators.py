"""The control line in the shell: the clients of operators, their requests, and the events they get."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Mapping
from typing import Any

from hybrid.supervisor.children.kernel import Kernel
from hybrid.supervisor.control.address import CannotListen, ControlSocket, listen
from hybrid.supervisor.control.rights import Rights, control_group
from hybrid.supervisor.control.server import ControlLine
from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.tree import Tree
from hybrid.supervisor.deployment import Deployment
from hybrid.supervisor.shell.answering import Answering
from hybrid.supervisor.shell.bookkeeping import Bookkeeping
from hybrid.supervisor.shell.branch import Branch
from hybrid.supervisor.shell.describing import Describing
from hybrid.supervisor.shell.happenings import Happenings
from hybrid.supervisor.shell.inspecting import Inspecting
from hybrid.supervisor.shell.refitting import Refitting
from hybrid.supervisor.shell.tallies import Tallies
from hybrid.workers.contract.log import LOGGER_NAME
from hybrid.workers.contract.version import VERSION

logger = logging.getLogger(LOGGER_NAME)


def open_control(deployment: Deployment, *, is_heir: bool) -> ControlSocket | None:
    """Open the socket of the control line; None if none is wanted, or none can be made: the services start anyway.

    `is_heir`: a file may still be that of a predecessor, which ends.
    """
    settings = deployment.first
    try:
        return listen(settings.control, deployment.name, group=settings.control_gid, takes_over=is_heir)
    except CannotListen as error:
        logger.info("%s", error)
        return None


class Operators:
    """A source of events: requests of clients. No method blocks."""

    def __init__(
        self,
        deployment: Deployment,
        kernel: Kernel,
        tree: Tree,
        branches: Mapping[str, Branch],
        happenings: Happenings,
        tallies: Tallies,
        books: Bookkeeping,
        refitting: Refitting,
        began: float,
    ) -> None:
        """Begin without a socket. `began`: when the supervisor did, in monotonic seconds."""
        self._kernel = kernel
        gid = deployment.first.control_gid
        self._line = ControlLine(
            None,
            kernel,
            {"hybrid": VERSION, "name": deployment.name, "pid": deployment.pid},
            None if gid is None else control_group(gid),
            recent=lambda: tuple(happenings.recent),
        )
        describing = Describing(deployment.name, VERSION, tree, branches, happenings, tallies, books, began)
        inspect = Inspecting(branches).begin
        self._answering = Answering(self._line, tree, describing, branches, refitting, inspect, books)
        happenings.listeners.append(self._answering.hear)

    def listen(self, sock: ControlSocket) -> None:
        """Begin to listen for clients."""
        self._line.listen(sock)

    def connect(self, rights: str) -> socket.socket:
        """Return a connection for a child of this supervisor; `rights`: a value of `Rights`. Raises `OSError`."""
        return self._line.connect(Rights(rights))

    def levels(self) -> dict[str, Any]:
        """Return the log levels that operators have set, for a successor."""
        return self._answering.levels()

    def inherit_levels(self, levels: Mapping[str, Any]) -> None:
        """Set the log levels that operators had set at a predecessor; empty: none."""
        self._answering.inherit_levels(levels)

    @property
    def due(self) -> float | None:
        """When to call `events` and `tell` even if nothing else happens, in monotonic seconds; None: never."""
        return min((due for due in (self._line.due, self._answering.due) if due is not None), default=None)

    def events(self, fd: int) -> Iterator[tuple[str, ev.Event]]:
        """Yield service (or `ALL`) and event of a readable descriptor, if it is a client's."""
        now = self._kernel.now()
        for request in self._line.take(fd, now):
            yield from self._answering.take(request, now)

    def overdue(self, now: float) -> Iterator[tuple[str, ev.Event]]:
        """Yield the events of requests that arrived before."""
        due = self._line.due
        if due is not None and due <= now:
            for request in self._line.advance(now):
                yield from self._answering.take(request, now)

    def tell(self, now: float) -> None:
        """Answer what can be answered."""
        self._answering.tell(now)

    def finish(self, code: int) -> None:
        """Answer the last requests, and close."""
        self._answering.finish(code)
        self._line.flush()
        self._line.close()

    def close(self) -> None:
        """Close all connections; may be called twice."""
        self._line.close()

    def close_in_child(self) -> None:
        """Close the descriptors in a child."""
        self._line.close_in_child()
