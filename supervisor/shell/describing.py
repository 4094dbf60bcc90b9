"""The status of a supervisor as JSON text: what `hybrid status` shows. Reads, and changes nothing."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

from hybrid.supervisor.control.lines import Encoded, text_of
from hybrid.supervisor.control.queues import accept_queue
from hybrid.supervisor.core.base import Phase
from hybrid.supervisor.core.tree import Stage, Tree
from hybrid.supervisor.shell import rows
from hybrid.supervisor.shell.bookkeeping import Bookkeeping
from hybrid.supervisor.shell.branch import Branch
from hybrid.supervisor.shell.happenings import Happening, Happenings
from hybrid.supervisor.shell.tallies import Tallies
from hybrid.workers.contract.label_counts import seconds
from hybrid.workers.contract.scoreboard import CLASSES

_FAILED = "failed"
_ENDED: dict[str, Any] = {
    **dict.fromkeys(("kind", "target", "loop", "interface"), ""),
    "addresses": [],
    **dict.fromkeys(("ready_min", "max_connections", "backlog"), 0),
}
_PYTHON = sys.version.split(maxsplit=1)[0]


class Describing:
    """Describes the services of a supervisor. No method blocks."""

    def __init__(
        self,
        name: str,
        version: str,
        tree: Tree,
        branches: Mapping[str, Branch],
        happenings: Happenings,
        tallies: Tallies,
        books: Bookkeeping,
        now: float,
    ) -> None:
        """`branches`: the services that have not ended. `now`: the monotonic time of the start."""
        self.name = name
        self.version = version
        self._tree = tree
        self._branches = branches
        self._happenings = happenings
        self._tallies = tallies
        self._books = books
        self._began = now
        # a status asked for often costs no more than its numbers: the rest is made anew after the next event
        self._edition = (-1, -1, -1)  # of tree, happenings and books, of which the following are
        self._head = ""  # what is said of the supervisor
        self._heads: dict[str, str] = {}  # service -> what is said of it

    def supervisor(self, now: float, service: str | None = None) -> Encoded:
        """Return the status of the supervisor and of one or all (None) services.

        Raises `UnencodableError`.
        """
        self._books.refresh()
        self._books.keep(now, at_once=True)  # a successor must not show less than this
        names = self._tree.names if service is None else (service,)
        edition = self._tree.edition, self._happenings.edition, self._books.edition
        if edition != self._edition:
            self._edition = edition
            self._heads.clear()
            self._head = text_of(self._whole())[1:-1]
        services = ", ".join([self._service(name, now) for name in names if name in self._tree])
        up, at, since = round(now - self._began, 3), round(time.time(), 3), self._books.since
        changing = f'"up": {up}, "at": {at}, "since": {since}, "log_dropped": {self._books.log_dropped}'
        return Encoded(f'{{{self._head}, {changing}, "services": [{services}]}}')

    def _whole(self) -> dict[str, Any]:
        """Return what is said of the supervisor."""
        return {
            "name": self.name,
            "pid": os.getpid(),
            "version": self.version,
            "python": _PYTHON,
            "phase": self._tree.phase.value,
        }

    def blockers(self, service: str | None = None) -> list[dict[str, Any]]:
        """Return the lines that have blocked loops most often, of one or of all (None) services."""
        names = self._tree.names if service is None else (service,)
        return [one for name in names for one in self._tallies.blockers(name)]

    def labels(self, service: str | None = None) -> list[dict[str, Any]]:
        """Return what the requests of each label have cost, of one or of all (None) services; the dearest first."""
        self._books.refresh()
        names = self._tree.names if service is None else (service,)
        branches = ((name, branch) for name in names if (branch := self._branches.get(name)) is not None)
        return [row for name, branch in branches for row in _labels(name, branch)]

    def _service(self, name: str, now: float) -> str:
        branch = self._branches.get(name)
        if (head := self._heads.get(name)) is None:
            facts = {**self._facts(name), **(_ENDED if branch is None else _facts_of(branch))}
            head = self._heads[name] = text_of(facts)[1:-1]
        if branch is None:
            nothing = '"queue": null, "queues": [], "workers": [], "past": [], "companions": [], "offload": null'
            return f"{{{head}, {nothing}}}"
        queues = [
            rows.Queue(address, slot, queue.waiting, queue.limit)
            for address, slot, sock in branch.listeners.streams()
            if (queue := accept_queue(sock)) is not None
        ]
        depths = _depths(queues)
        workers, left = branch.machine.workers(now), branch.children.left_over()
        return (
            f'{{{head}, "queue": {sum(depths.values()) if depths else "null"}, "queues": {rows.queues(queues)}, '
            f'"workers": {rows.workers(branch, workers, now, depths, left)}, '
            f'"past": {rows.past(workers, left)}, '
            f'"companions": {rows.companions(branch, now)}, '
            f'"offload": {rows.offload(branch)}}}'
        )

    def _facts(self, name: str) -> dict[str, Any]:
        """Return what only an event changes."""
        machine = self._tree.machine(name)
        failure = self._happenings.last(name, "failure") if self._tree.has_failed(name) else None
        reloaded = _without_service(self._happenings.last(name, "reload"))
        return {
            "name": name,
            "phase": self._phase(name),
            "generation": machine.generation,
            "wanted": machine.wanted,
            "ready": machine.ready,
            "is_reloading": machine.is_reloading,
            "depends": list(self._tree.rules(name).depends),
            "last_reload": None if reloaded is None else {"reason": "", **reloaded},
            "last_death": _without_service(self._happenings.last(name, "death")),
            "failure": None if failure is None else failure["reason"],
            "counts": self._tallies.of(name),
            "is_sidecar": self._tree.is_sidecar(name),
        }

    def _phase(self, name: str) -> str:
        if self._tree.has_failed(name):
            return _FAILED
        stage, phase = self._tree.stage(name), self._tree.machine(name).phase
        if stage is Stage.RUNNING:
            is_starting = phase is Phase.SERVING and not self._tree.machine(name).has_started
            return "starting" if is_starting else str(phase.value)
        return str(stage.value)


def _facts_of(branch: Branch) -> dict[str, Any]:
    """Return what is said only of a service that has not ended."""
    settings, hearing = branch.settings, branch.hearing
    return {
        "kind": "command" if settings.command else "application",
        "target": branch.title,
        "loop": hearing.loop,
        "interface": hearing.interface,
        "addresses": list(branch.urls),
        "ready_min": settings.ready_min,
        "max_connections": settings.max_connections,
        "backlog": settings.backlog,
    }


def _labels(service: str, branch: Branch) -> list[dict[str, Any]]:
    """Return a row for each label of a service, by the time in which it held the loop, then by processor time."""
    totals = branch.children.label_book.totals()
    ranked = sorted(totals.items(), key=lambda pair: (-pair[1].loop, -pair[1].cpu, pair[0]))
    return [
        {
            "service": service,
            "label": label,
            "requests": one.requests,
            "responses": dict(zip(CLASSES, one.responses, strict=True)),
            "seconds": seconds(one.wall),
            "loop_seconds": seconds(one.loop),
            "cpu_seconds": seconds(one.cpu),
        }
        for label, one in ranked
    ]


def _depths(queues: Iterable[rows.Queue]) -> dict[int | None, int]:
    """Return the number of connections that wait in the queues of each slot (None: of all).

    One pass over the queues: with a thousand slots, a search for each would take a second.
    """
    depths: dict[int | None, int] = {}
    for queue in queues:
        depths[queue.slot] = depths.get(queue.slot, 0) + queue.waiting
    return depths


def _without_service(happening: Happening | None) -> dict[str, object] | None:
    if happening is None:
        return None
    return {name: value for name, value in happening.items() if name not in ("service", "event")}
