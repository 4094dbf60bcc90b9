"""The status of a supervisor: frozen snapshots, and their form on the wire (JSON values)."""

from __future__ import annotations

import dataclasses
from typing import Any

from hybrid.supervisor.core.states import State
from hybrid.supervisor.core.table import Child, Table
from hybrid.workers.contract.scoreboard import Snapshot


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker, or a slot that waits for its next one."""

    slot: int
    generation: int
    pid: int | None
    """None while the slot waits for its next worker."""
    state: str
    """`booting`, `failed`, `ready`, `draining`, `aborted`, `killed`; `waiting` without a process."""
    ready_seconds: float | None
    """For how long it has been ready; None if it is not, or never was."""
    restarts: int
    """How often a worker of this slot died and was replaced."""
    stalled_seconds: float | None = None
    """For how long its loop has been stalled, once that exceeds `stall_threshold`; None: it turns."""
    accepted: int = 0
    """Connections accepted in total."""
    active: int = 0
    """Open connections."""
    requests: int = 0
    """Requests begun in total; datagrams or connections for handlers without requests."""
    lag_max: float = 0.0
    """The longest turn of its loop, seconds; 0 on uvloop, which cannot tell."""
    memory: int = 0
    """Resident bytes, at the last measurement."""


@dataclasses.dataclass(frozen=True, slots=True)
class Status:
    """A supervisor and its workers at one moment."""

    service: str
    addresses: tuple[str, ...]
    """The real addresses, as a user types them."""
    workers: tuple[WorkerStatus, ...]
    """In order of slots."""


def worker_rows(table: Table, now: float) -> tuple[WorkerStatus, ...]:
    """Return the workers of a table and the slots that wait for one, in order of slots.

    A slot whose worker is being forked waits for it, too: a wanted slot is never missing.
    """
    rows = [_row(table, child, now) for child in table.workers()]
    rows += [_empty(table, index, "done") for index in table.done()]
    rows += [_empty(table, slot.index, "waiting") for slot in table.vacant()]
    seen = {row.slot for row in rows}
    rows += [_empty(table, index, "waiting") for index in table.wanted if index not in seen]
    return _in_order(rows)


def companion_rows(table: Table, now: float) -> tuple[WorkerStatus, ...]:
    """Return the companions of a table and the slots that wait for one, in order of slots."""
    rows = [_row(table, child, now) for child in table.attendants()]
    seen = {row.slot for row in rows}
    for index in table.companions:
        if table.slot(index).is_done:
            rows.append(_empty(table, index, "done"))
        elif index not in seen:
            rows.append(_empty(table, index, "waiting"))
    return _in_order(rows)


def _row(table: Table, child: Child, now: float) -> WorkerStatus:
    ready = child.served(now) if child.state is State.READY else None
    stalled = None if child.stalled_since is None else now - child.stalled_since
    restarts = table.slot(child.slot).restarts
    return WorkerStatus(child.slot, child.generation, child.pid, child.state.value, ready, restarts, stalled)


def _empty(table: Table, index: int, state: str) -> WorkerStatus:
    return WorkerStatus(index, table.generation, None, state, None, table.slot(index).restarts)


def _in_order(rows: list[WorkerStatus]) -> tuple[WorkerStatus, ...]:
    return tuple(sorted(rows, key=_place))


def _place(row: WorkerStatus) -> tuple[int, int]:
    return row.slot, row.pid or 0


def with_record(worker: WorkerStatus, record: Snapshot) -> WorkerStatus:
    """Return `worker` with the numbers of its record on the scoreboard."""
    return dataclasses.replace(
        worker,
        accepted=record.accepted,
        active=record.active,
        requests=record.requests,
        lag_max=record.lag_max,
        memory=record.memory,
    )


def pack(status: Status) -> dict[str, Any]:
    """Return `status` as JSON values, with workers as rows, so that a thousand of them fit in a datagram."""
    rows = [dataclasses.astuple(worker) for worker in status.workers]
    return {"service": status.service, "addresses": list(status.addresses), "workers": rows}


def unpack(fields: dict[str, Any]) -> Status:
    """Return the status that `pack` packed. Raises `KeyError` or `TypeError` for anything else."""
    workers = tuple(WorkerStatus(*row) for row in fields["workers"])
    return Status(fields["service"], tuple(fields["addresses"]), workers)
