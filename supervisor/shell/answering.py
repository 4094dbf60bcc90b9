"""Answers the requests of the control line. Those that change something become events, and are answered at their end.

a request -> refused at once, or its event for the tree
-> a task, which looks once a turn whether its end has come, and reports progress meanwhile
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from hybrid.supervisor.children.handles import Children
from hybrid.supervisor.contact.roll_call import RollCall
from hybrid.supervisor.control.clients import Request
from hybrid.supervisor.control.lines import Encoded, UnencodableError
from hybrid.supervisor.control.requests import BAD_REQUEST, FAILED, STOPPING, UNKNOWN_SERVICE, UNKNOWN_SLOT
from hybrid.supervisor.control.server import ControlLine
from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.base import OVER
from hybrid.supervisor.core.machine import MAX_WORKERS
from hybrid.supervisor.core.tree import ALL, Stage, Tree
from hybrid.supervisor.deployment import CannotReread
from hybrid.supervisor.shell.bookkeeping import Bookkeeping
from hybrid.supervisor.shell.branch import Branch
from hybrid.supervisor.shell.describing import Describing
from hybrid.supervisor.shell.happenings import Happening
from hybrid.supervisor.shell.refitting import Refitting, level_number
from hybrid.supervisor.shell.tasks import Refused, Reload, Restart, Scale, Stop, Task, Upgrade
from hybrid.workers.contract.log import LOGGER_NAME

_PATIENCE = 0.05  # seconds for the workers to bring their records up to date
_FRESH = 0.1  # seconds after that in which a status does not ask them again: each ping costs a worker 0.4 ms

_NOT_FOR_COMPANIONS = {
    "scale": "scale is for workers; the number of companions is in the configuration, and a reload applies it",
    "reload": "a reload is for the whole service",
    "stop": "it stops with its service",
    "status": "ask for the status of the service",
}  # request -> why not
Event = tuple[str, ev.Event]
"""A service (or `ALL`), and an event for the tree."""
logger = logging.getLogger(LOGGER_NAME)


class Answering:
    """The requests in progress. No method blocks."""

    def __init__(
        self,
        line: ControlLine,
        tree: Tree,
        describing: Describing,
        branches: Mapping[str, Branch],
        refitting: Refitting,
        inspect: Callable[[str | None, int | None, float, str], Task],
        books: Bookkeeping,
    ) -> None:
        """`branches`: the services that have not ended.

        `inspect` begins a request for the stacks of a service and slot (None: of all), or of the companions of a name;
        it may raise `Refused`. `books` tell a successor of the log levels.
        """
        self._inspect = inspect
        self._books = books
        self._line = line
        self._tree = tree
        self._describing = describing
        self._branches = branches
        self._refitting = refitting
        self._tasks: list[tuple[Request, Task]] = []
        self._told: dict[int, Mapping[str, object] | None] = {}  # id of a task -> the progress last reported
        self._statuses: list[Request] = []  # status requests that wait for the roll call
        self._roll_call = RollCall(_PATIENCE)
        self._is_calling = False
        self._called_at = -_FRESH  # when the last roll call was over
        self._call_due: float | None = None  # when to look at the roll call again
        self._level: int | None = None  # the log level that was asked for; None: as configured
        self._brief_level: int | None = None  # the same, until `_level_until`
        self._level_until: float | None = None

    @property
    def due(self) -> float | None:
        """When to call `tell` at the latest, in monotonic seconds; None: after the next event."""
        dues = (self._call_due, self._level_until, *(task.due for _, task in self._tasks))
        return min((due for due in dues if due is not None), default=None)

    def take(self, request: Request, now: float) -> Iterator[Event]:
        """Begin to answer a request; yield its event, if it has one."""
        try:
            yield from self._begin(request, now)
        except Refused as refused:
            self._line.refuse(request, refused.code, refused.reason)

    def hear(self, happening: Happening) -> None:
        """Take note of an event: tasks wait for some, and subscribers get all."""
        if happening["event"] == "ready" and (level := self._asked_level) is not None:
            pid = int(str(happening["pid"]))
            for branch in self._branches.values():  # the new worker has the configured level
                if (handle := branch.children.get(pid)) is not None and handle.hears:
                    branch.children.set_log_level(pid, level)
        for _, task in self._tasks:
            task.hear(happening)
        self._line.publish(happening)

    def tell(self, now: float) -> None:
        """Answer what can be answered, and report progress."""
        self._answer_statuses(now)
        if self._level_until is not None and now >= self._level_until:
            self._brief_level = self._level_until = None
            self._set_levels()
        for request, task in tuple(self._tasks):
            self._look(request, task, now)

    def finish(self, code: int) -> None:
        """Answer the requests that wait for the end of the supervisor, before the line closes."""
        for request, task in self._tasks:
            if isinstance(task, Stop) and task.service == ALL:
                self._line.answer(request, {"code": int(code)})
        self._tasks.clear()

    # --- requests

    def _begin(self, request: Request, now: float) -> Iterator[Event]:
        """Raises `Refused`."""
        given = request.parameters
        service, companion = self._meant(given.get("service"))
        if companion and (reason := _NOT_FOR_COMPANIONS.get(request.name)) is not None:
            raise Refused(BAD_REQUEST, f"{service}.{companion} is a companion of {service}: {reason}")
        match request.name:
            case "ping":
                self._line.answer(request)
            case "status" if given.get("fresh", True):
                self._statuses.append(request)
            case "status":
                self._answer_status([request], now)
            case "blockers":
                self._line.answer(request, {"blockers": self._describing.blockers(service)})
            case "labels":
                self._line.answer(request, {"labels": self._describing.labels(service)})
            case "reload":
                yield from self._reload(request, service)
            case "scale":
                yield from self._scale(request, service)
            case "restart":
                yield from self._restart(request, service, companion, given["slot"], now)
            case "stop":
                yield from self._stop(request, service, graceful=not given.get("now", False))
            case "upgrade":
                self._refuse_if_stopping(None)
                self._refuse_if_upgrading("its successor is starting already")
                self._add(request, Upgrade(self._tree))
                yield ALL, ev.UpgradeAsked()
            case "stacks":
                self._add(request, self._inspect(service, given.get("slot"), now, companion))
            case "loglevel":
                self._set_level(request, now)
            case name:
                raise Refused(FAILED, f"{name} is not supported by this version")

    def _meant(self, name: object) -> tuple[str | None, str]:
        """Return the service that a request names, and the companion: `web.mailer` are the companions of `web`.

        An empty name: it means no companion. Raises `Refused`.
        """
        if name is None:
            return None, ""
        if isinstance(name, str) and name in self._tree:
            return name, ""
        for service, branch in self._branches.items() if isinstance(name, str) else ():
            companion = str(name).removeprefix(f"{service}.")
            if companion != name and branch.roster.slot(companion, 0) is not None:
                return service, companion
        raise Refused(UNKNOWN_SERVICE, f"there is no service {name!r}; there are: {', '.join(self._tree.names)}")

    def _refuse_if_stopping(self, service: str | None) -> None:
        if self._tree.phase in OVER:
            raise Refused(STOPPING, "the supervisor is stopping")
        if service is None:
            return
        if self._tree.stage(service) is Stage.ENDED or self._tree.machine(service).phase in OVER:
            raise Refused(STOPPING, f"the service {service} has ended, or is stopping")

    def _refuse_if_waiting(self, service: str) -> None:
        self._refuse_if_stopping(service)
        if self._tree.stage(service) is Stage.WAITING:
            raise Refused(FAILED, f"the service {service} has not started: it waits for others")

    def _refuse_if_upgrading(self, reason: str) -> None:
        if self._tree.is_upgrading:
            raise Refused(FAILED, f"an upgrade is in progress: {reason}")

    def _reload(self, request: Request, service: str | None) -> Iterator[Event]:
        if service is None:
            self._refuse_if_stopping(None)
            try:
                self._refitting.reread()
            except CannotReread as error:
                raise Refused(FAILED, f"everything goes on as it was: {error}") from None
        else:
            self._refuse_if_waiting(service)
        running = [name for name in self._tree.names if self._runs(name)]
        self._add(request, Reload(self._tree, running if service is None else [service]))
        yield (ALL if service is None else service), ev.ReloadAsked()

    def _runs(self, name: str) -> bool:
        """Return True if a service takes part in a reload of all."""
        tree = self._tree
        if tree.is_new(name) or tree.is_sidecar(name):
            return False
        return tree.stage(name) is Stage.RUNNING and tree.machine(name).phase not in OVER

    def _scale(self, request: Request, service: str | None) -> Iterator[Event]:
        name = service or next((one for one in self._tree.names if self._runs(one)), self._tree.names[0])
        if self._tree.is_sidecar(name):
            raise Refused(BAD_REQUEST, f"{name} is one process, and cannot be scaled")
        self._refuse_if_waiting(name)
        self._refuse_if_upgrading("the successor starts as many workers as there were; scale afterwards")
        given, wanted = request.parameters, self._tree.machine(name).wanted
        workers = given["workers"] if "workers" in given else max(1, wanted + given["by"])
        if not 1 <= workers <= MAX_WORKERS:
            raise Refused(BAD_REQUEST, f"{workers} workers: the number of workers is 1 to {MAX_WORKERS}")
        self._add(request, Scale(self._tree, name, workers))
        yield name, ev.ScaleAsked(workers)

    def _restart(self, request: Request, service: str | None, companion: str, slot: int, now: float) -> Iterator[Event]:
        assert service is not None, "a restart names its service"
        self._refuse_if_waiting(service)
        machine, roster = self._tree.machine(service), self._branches[service].roster
        place = roster.slot(companion, slot) if companion else slot if slot < machine.wanted else None
        if place is None or place not in machine.slots:
            name = f"{service}.{companion}" if companion else service
            last = sum(roster.companion(one)[0] == companion for one in machine.slots) - 1
            known = f"the slots 0 to {last}" if last > 0 else "only the slot 0"
            raise Refused(UNKNOWN_SLOT, f"{name} has {known}, and no {slot}")
        self._add(request, Restart(self._tree, service, place, now, roster))
        yield service, ev.RestartAsked(place)

    def _stop(self, request: Request, service: str | None, *, graceful: bool) -> Iterator[Event]:
        if service is not None:
            self._refuse_if_upgrading("stop the service afterwards")
        self._add(request, Stop(self._tree, ALL if service is None else service))
        yield (ALL if service is None else service), ev.StopAsked(graceful)

    def _set_level(self, request: Request, now: float) -> None:
        level, seconds = request.parameters["level"], request.parameters.get("for")
        number = level_number(level)
        if seconds is None:
            self._level, self._brief_level, self._level_until = number, None, None
        else:
            self._brief_level, self._level_until = number, now + seconds
        self._set_levels()
        self._books.keep(now, at_once=True)  # a successor that starts must learn of it
        self._line.answer(request, {"level": level, "for": seconds})

    def levels(self) -> dict[str, Any]:
        """Return the levels that were asked for, as JSON values; empty: none. `until` is in monotonic seconds."""
        if self._asked_level is None:
            return {}
        return {"level": self._level, "brief": self._brief_level, "until": self._level_until}

    def inherit_levels(self, levels: Mapping[str, Any]) -> None:
        """Set the levels that were asked for at a predecessor, as its `levels` returned them."""
        known = self._level, self._brief_level, self._level_until
        asked = levels.get("level"), levels.get("brief"), levels.get("until")
        if levels and asked != known:
            self._level, self._brief_level, self._level_until = asked
            self._set_levels()

    @property
    def _asked_level(self) -> int | None:
        """The log level in place of the configured ones; None: there is none."""
        return self._level if self._brief_level is None else self._brief_level

    def _set_levels(self) -> None:
        """Set the level of the supervisor and of its workers."""
        asked = self._asked_level
        logger.setLevel(level_number(self._refitting.log_level) if asked is None else asked)
        for branch in self._branches.values():
            level = level_number(branch.settings.log_level) if asked is None else asked
            for pid in branch.hearing_orders():
                branch.children.set_log_level(pid, level)

    def _serving(self) -> Iterator[tuple[Children, int]]:
        return ((one.children, pid) for one in self._branches.values() for pid in one.turning())

    # --- answers

    def _add(self, request: Request, task: Task) -> None:
        self._tasks.append((request, task))

    def _look(self, request: Request, task: Task, now: float) -> None:
        if not request.is_open:  # its client is gone
            self._end(request, task)
            return
        try:
            result = task.look(now)
        except Refused as refused:
            self._end(request, task)
            self._line.refuse(request, refused.code, refused.reason)
            return
        if result is not None:
            self._end(request, task)
            self._line.answer(request, result)
            return
        progress = task.progress()
        if progress is not None and progress != self._told.get(id(task)):
            self._told[id(task)] = progress
            self._line.progress(request, progress)

    def _end(self, request: Request, task: Task) -> None:
        self._tasks.remove((request, task))
        self._told.pop(id(task), None)

    def _answer_statuses(self, now: float) -> None:
        """Answer with the status once the workers have updated their records."""
        if not self._statuses:
            return
        if self._is_calling or now - self._called_at >= _FRESH:
            if not self._is_calling:
                self._is_calling = True
                self._roll_call.begin(self._serving(), now)
            if not self._roll_call.is_over(now):
                self._call_due = self._roll_call.due(now)
                return
            self._is_calling, self._call_due, self._called_at = False, None, now
        requests, self._statuses = self._statuses, []
        self._answer_status(requests, now)

    def _answer_status(self, requests: Iterable[Request], now: float) -> None:
        described: dict[str | None, Encoded] = {}  # many may ask at once
        for request in requests:
            if request.is_open:
                service = request.parameters.get("service")
                try:
                    if service not in described:
                        described[service] = self._describing.supervisor(now, service)
                except UnencodableError as error:
                    logger.exception("control: the status cannot be encoded")
                    self._line.refuse(request, FAILED, f"the status cannot be encoded: {error}")
                else:
                    self._line.answer(request, described[service])
