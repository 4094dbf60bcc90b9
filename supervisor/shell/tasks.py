"""Requests of the control line that are answered later: each looks once a turn whether its end has come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from hybrid.supervisor.control.requests import FAILED, STOPPING, UNKNOWN_SLOT
from hybrid.supervisor.core.base import OVER
from hybrid.supervisor.core.roles import Roster
from hybrid.supervisor.core.tree import ALL, Stage, Tree
from hybrid.supervisor.shell.happenings import Happening


class Refused(Exception):  # noqa: N818 - an answer, not a bug
    """A request that cannot be met; code and reason for the client."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class Task(Protocol):
    """A request that is answered later."""

    due: float | None
    """When to look at the latest, in monotonic seconds; None: after the next event."""

    def look(self, now: float) -> Mapping[str, object] | None:
        """Return the result, None before the end. Raises `Refused`."""

    def progress(self) -> Mapping[str, object] | None:
        """Return how far it is, None if there is nothing to say."""

    def hear(self, happening: Happening) -> None:
        """Take note of an event."""


class _Base:
    due: float | None = None

    def progress(self) -> Mapping[str, object] | None:
        return None

    def hear(self, happening: Happening) -> None:
        pass


class Reload(_Base):
    """Ends when none of the services reloads any more."""

    def __init__(self, tree: Tree, services: Iterable[str]) -> None:
        self._tree = tree
        self._left = list(services)
        self._done: dict[str, object] = {}
        self._failures: dict[str, str] = {}
        self._begun: set[str] = set()

    def hear(self, happening: Happening) -> None:
        """See `Task`."""
        service = str(happening.get("service"))
        if happening["event"] == "reload" and service in self._left:
            self._begun.add(service)
            if happening["outcome"] == "failed":
                self._failures[service] = str(happening["reason"])
            elif happening["outcome"] == "started":
                self._failures.pop(service, None)

    def look(self, now: float) -> Mapping[str, object] | None:
        """See `Task`."""
        for name in tuple(self._left):
            if name not in self._tree or self._tree.stage(name) is Stage.ENDED:
                self._failures[name] = "the service has ended"
                self._left.remove(name)
            elif name in self._begun and not self._tree.machine(name).is_reloading:
                self._left.remove(name)
                self._note(name)
        if self._left:
            return None
        if self._failures:
            raise Refused(FAILED, "; ".join(f"{name}: {reason}" for name, reason in self._failures.items()))
        return {"services": self._done}

    def _note(self, name: str) -> None:
        machine = self._tree.machine(name)
        if name in self._failures:
            return
        if machine.ready < machine.wanted:
            self._failures[name] = (
                f"{machine.ready} of {machine.wanted} workers of generation {machine.generation} serve"
            )
        else:
            self._done[name] = {"generation": machine.generation}

    def progress(self) -> Mapping[str, object] | None:
        """See `Task`."""
        name = next(iter(self._left), None)
        if name is None:
            return None
        machine = self._tree.machine(name)
        ready = machine.up_to_date if name in self._begun else 0
        return {"service": name, "ready": ready, "of": machine.wanted}


class Scale(_Base):
    """Ends when the wanted workers serve and no other is left."""

    def __init__(self, tree: Tree, service: str, workers: int) -> None:
        self._tree = tree
        self._service = service
        self._workers = workers

    def look(self, now: float) -> Mapping[str, object] | None:
        """See `Task`."""
        _require(self._tree, self._service)
        machine = self._tree.machine(self._service)
        if machine.wanted != self._workers:
            raise Refused(FAILED, f"scaled to {machine.wanted} meanwhile")
        return {"service": self._service, "workers": self._workers} if machine.is_settled() else None

    def progress(self) -> Mapping[str, object] | None:
        """See `Task`."""
        return {"ready": self._tree.machine(self._service).ready, "of": self._workers}


class Restart(_Base):
    """Ends when a child is ready in the slot that was not when it was asked for."""

    def __init__(self, tree: Tree, service: str, slot: int, now: float, roster: Roster) -> None:
        self._tree = tree
        self._place = roster.place(service, slot)  # as people read it
        self._service = service
        self._slot = slot
        self._began = now

    def look(self, now: float) -> Mapping[str, object] | None:
        """See `Task`."""
        _require(self._tree, self._service)
        machine = self._tree.machine(self._service)
        if self._slot not in machine.slots:
            raise Refused(UNKNOWN_SLOT, "the slot was removed meanwhile")
        pid = machine.replacement(self._slot, self._began)
        return None if pid is None else {"service": self._place[0], "slot": self._place[1], "pid": pid}

    def progress(self) -> Mapping[str, object] | None:
        """See `Task`."""
        return {"ready": 0, "of": 1}


class Stop(_Base):
    """Ends with the service; that of the whole is answered by `finish`."""

    def __init__(self, tree: Tree, service: str) -> None:
        self._tree = tree
        self.service = service

    def look(self, now: float) -> Mapping[str, object] | None:
        """See `Task`."""
        if self.service == ALL or (self.service in self._tree and self._tree.stage(self.service) is not Stage.ENDED):
            return None
        return {"service": self.service}

    def progress(self) -> Mapping[str, object] | None:
        """See `Task`."""
        names = self._tree.names if self.service == ALL else (self.service,)
        return {"left": sum(self._tree.machine(name).living for name in names if name in self._tree)}


class Upgrade(_Base):
    """Ends when the successor serves, or has failed."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._pid: object = None
        self._failure: str | None = None
        self._is_complete = False

    def hear(self, happening: Happening) -> None:
        """See `Task`."""
        if happening["event"] == "upgrade":
            self._pid = happening.get("successor", self._pid)
            self._is_complete = self._is_complete or happening["outcome"] == "complete"
            if happening["outcome"] == "failed":
                self._failure = str(happening["reason"])

    def look(self, now: float) -> Mapping[str, object] | None:
        """See `Task`."""
        if self._is_complete:
            return {"pid": self._pid}
        if self._failure is not None:
            raise Refused(FAILED, self._failure)
        if not self._tree.is_upgrading:
            raise Refused(STOPPING if self._tree.phase in OVER else FAILED, "the upgrade was given up")
        return None

    def progress(self) -> Mapping[str, object] | None:
        """See `Task`."""
        return {"pid": self._pid}


def _require(tree: Tree, service: str) -> None:
    """Raises `Refused` if a service does not run any more."""
    if service not in tree or tree.stage(service) is Stage.ENDED or tree.machine(service).phase in OVER:
        raise Refused(STOPPING, f"the service {service} has ended, or is stopping")
