"""Answers an embedding process: requests become events; a scaling is answered once the machine has settled."""

from __future__ import annotations

import logging
from collections.abc import Callable

from hybrid.supervisor.contact.control import (
    Control,
    ControlClosed,
    ControlError,
    Request,
    ScaleRequest,
    StatusRequest,
    StopRequest,
)
from hybrid.supervisor.contact.roll_call import RollCall
from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.machine import MAX_WORKERS, Machine, Phase
from hybrid.supervisor.core.status import Status
from hybrid.workers.contract.log import LOGGER_NAME

logger = logging.getLogger(LOGGER_NAME)


class ControlServer:
    """The connection to one embedding process. No method blocks."""

    def __init__(self, control: Control, machine: Machine, status: Callable[[], Status], roll_call: RollCall) -> None:
        self._control = control
        self._machine = machine
        self._status = status
        self._roll_call = roll_call
        self._status_requests: list[int] = []  # ids of the status requests that wait for the roll call
        self._is_calling = False  # the roll call is in progress
        self.due: float | None = None
        """When to call `tell` at the latest, in monotonic seconds; None: after the next event."""
        self._scaling: list[int] = []  # ids of the scale requests that wait for the machine to settle
        self._has_told_start = False

    def fileno(self) -> int:
        """Return the descriptor to poll; -1 once the embedding process is gone."""
        return self._control.fileno()

    def take(self) -> ev.Event | None:
        """Receive the next request; return its event for the machine, or None."""
        try:
            request = self._control.receive_nowait()
        except ControlClosed:
            self.close()
            logger.warning("the embedding process is gone")
            return ev.StopAsked(graceful=True)
        except ControlError as error:
            logger.warning("refused: %s", error)
            self._control.refuse(error.request_id, str(error))
            return None
        return None if request is None else self._event_of(request)

    def tell(self, now: float) -> None:
        """Send the answers that are due: the start, a finished scaling, a status."""
        if self._machine.has_started and not self._has_told_start:
            self._has_told_start = True
            self._control.started(self._status().addresses)
        if self._scaling and self._machine.is_settled():
            for number in self._scaling:
                self._control.answer(number)
            self._scaling.clear()
        self.due = None
        if self._status_requests:
            self._answer_status(now)

    def _answer_status(self, now: float) -> None:
        """Answer with the status once the workers have updated their records."""
        if not self._is_calling:
            self._is_calling = True
            self._roll_call.begin(self._machine.serving(), now)
        if not self._roll_call.is_over(now):
            self.due = self._roll_call.due(now)
            return
        self._is_calling = False
        for number in self._status_requests:
            self._control.answer_status(number, self._status())
        self._status_requests.clear()

    def tell_end(self, code: int, reason: str) -> None:
        """Report that the supervisor ends, and why."""
        self._control.ended(code, reason)

    def close(self) -> None:
        """Close our end; may be called twice."""
        self._control.close()

    def _event_of(self, request: Request) -> ev.Event | None:
        match request:
            case StatusRequest(number):
                self._status_requests.append(number)
                return None
            case ScaleRequest(number, workers):
                return self._scale(number, workers)
            case StopRequest(number, graceful):
                self._control.answer(number)
                return ev.StopAsked(graceful)

    def _scale(self, number: int, workers: int) -> ev.Event | None:
        if not 1 <= workers <= MAX_WORKERS:
            self._control.refuse(number, f"the number of workers is 1 to {MAX_WORKERS}, not {workers}")
        elif self._machine.phase in (Phase.STOPPING, Phase.ENDED):
            self._control.refuse(number, "the supervisor is stopping")
        else:
            self._scaling.append(number)
            return ev.ScaleAsked(workers)
        return None
