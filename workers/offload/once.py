"""A plugin for Dask's scheduler: a call runs once. It travels by value, as `remote` does.

Dask runs a task again when its worker has died, when the worker with the result has died before that was fetched, and
when a worker leaves with tasks that it has not finished. A call may have had effects, so its caller decides whether it
runs again. The tasks of others are not touched.
"""

from __future__ import annotations

import pickle
from typing import Any

from distributed.diagnostics.plugin import SchedulerPlugin

from hybrid.workers.offload.remote import code_of


class Once(SchedulerPlugin):  # type: ignore[misc]  # Dask has no types
    """Lets tasks of calls fail where Dask would run them again. Their keys begin with `hybrid-offload`."""

    name = "hybrid-offload-once"
    idempotent = True

    def update_graph(self, scheduler: Any, *, tasks: Any, **_: Any) -> None:
        """New tasks: the first death of a worker is already one too many (`KilledWorker`)."""
        for key in tasks:
            task = scheduler.tasks.get(key)
            if task is not None and str(key).startswith("hybrid-offload"):
                task.suspicious = scheduler.allowed_failures

    def transition(self, key: Any, start: str, finish: str, *_: Any, **__: Any) -> None:
        """A task that was sent to a worker, or had a result, is about to wait again: let it be forgotten instead."""
        if finish == "released" and start in ("processing", "memory") and str(key).startswith("hybrid-offload"):
            task = self.scheduler.tasks.get(key)
            if task is not None:
                task.has_lost_dependencies = True

    async def start(self, scheduler: Any) -> None:
        """The scheduler has taken the plugin."""
        self.scheduler = scheduler


class Sent(SchedulerPlugin):  # type: ignore[misc]
    """Becomes `Once` on the scheduler, without this module."""

    name = Once.name
    idempotent = True

    def __reduce__(self) -> tuple[Any, ...]:
        """Load the code of `Once`."""
        return pickle.loads, (code_of(Once(), __name__),)
