"""Answers an embedding process: requests become events; a scaling is answered once the service has settled."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from hybrid.supervisor.children.handles import Children
from hybrid.supervisor.contact.control import (
    Control,
    ControlClosed,
    ControlError,
    Request,
    StatusRequest,
    StopRequest,
)
from hybrid.supervisor.contact.roll_call import RollCall
from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.base import OVER
from hybrid.supervisor.core.machine import MAX_WORKERS
from hybrid.supervisor.core.status import Status
from hybrid.supervisor.core.tree import ALL, Tree
from hybrid.workers.contract.log import LOGGER_NAME

logger = logging.getLogger(LOGGER_NAME)


class ControlServer:
    """The connection to one embedding process. No method blocks."""

    def __init__(
        self,
        control: Control,
        tree: Tree,
        status: Callable[[str], Status],
        serving: Callable[[], Iterable[tuple[Children, int]]],
    ) -> None:
        """`status` returns that of a service; `serving` the serving workers, with the children of their services."""
        self._control = control
        self._tree = tree
        self._status = status
        self._serving = serving
        self._roll_call = RollCall()
        self._status_requests: list[tuple[int, str]] = []  # ids and services of status requests, until the roll call
        self._is_calling = False  # the roll call is in progress
        self.due: float | None = None
        """When to call `tell` at the latest, in monotonic seconds; None: after the next event."""
        self._scaling: list[tuple[int, str]] = []  # ids and services of scale requests, until the service has settled
        self._has_told_start = False

    def fileno(self) -> int:
        """Return the descriptor to poll; -1 once the embedding process is gone."""
        return self._control.fileno()

    def take(self) -> tuple[str, ev.Event] | None:
        """Receive the next request; return its service (or `ALL`) and event, or None."""
        try:
            request = self._control.receive_nowait()
        except ControlClosed:
            self.close()
            logger.warning("the embedding process is gone")
            return ALL, ev.StopAsked(graceful=True)
        except ControlError as error:
            logger.warning("refused: %s", error)
            self._control.refuse(error.request_id, str(error))
            return None
        return None if request is None else self._event_of(request)

    def tell(self, now: float) -> None:
        """Send the answers that are due: the start, a finished scaling, a status."""
        if self._tree.has_started and not self._has_told_start:
            self._has_told_start = True
            self._control.started(
                tuple(address for name in self._tree.names for address in self._status(name).addresses)
            )
        for waiting in tuple(self._scaling):
            number, service = waiting
            if service not in self._tree or self._tree.machine(service).is_settled():
                self._scaling.remove(waiting)
                self._control.answer(number)
        self.due = None
        if self._status_requests:
            self._answer_status(now)

    def _answer_status(self, now: float) -> None:
        """Answer with the status once the workers have updated their records."""
        if not self._is_calling:
            self._is_calling = True
            self._roll_call.begin(self._serving(), now)
        if not self._roll_call.is_over(now):
            self.due = self._roll_call.due(now)
            return
        self._is_calling = False
        for number, service in self._status_requests:
            if service in self._tree:
                self._control.answer_status(number, self._status(service))
            else:
                self._control.refuse(number, f"the service {service} is gone")
        self._status_requests.clear()

    def tell_end(self, code: int, reason: str) -> None:
        """Report that the supervisor ends, and why."""
        self._control.ended(code, reason)

    def close(self) -> None:
        """Close our end; may be called twice."""
        self._control.close()

    def _event_of(self, request: Request) -> tuple[str, ev.Event] | None:
        if isinstance(request, StopRequest):
            self._control.answer(request.id)
            return ALL, ev.StopAsked(request.graceful)
        service = request.service or self._tree.names[0]
        if service not in self._tree:
            self._control.refuse(request.id, f"there is no service {service!r}")
        elif isinstance(request, StatusRequest):
            self._status_requests.append((request.id, service))
        else:
            return self._scale(request.id, service, request.workers)
        return None

    def _scale(self, number: int, service: str, workers: int) -> tuple[str, ev.Event] | None:
        if not 1 <= workers <= MAX_WORKERS:
            self._control.refuse(number, f"the number of workers is 1 to {MAX_WORKERS}, not {workers}")
        elif self._tree.phase in OVER or self._tree.machine(service).phase in OVER:
            self._control.refuse(number, "the supervisor is stopping")
        else:
            self._scaling.append((number, service))
            return service, ev.ScaleAsked(workers)
        return None
