"""The seat of a process: the name of its files of metrics of the application, which outlive it.

prometheus_client names the files of each process by its pid, so every recycled worker leaves some. A seat is the place
of a living process on the scoreboard, the lowest that was free, so there are no more seats than processes at a time.
A successor in a seat goes on counting in the files of the dead.
"""

from __future__ import annotations

import os
from typing import Final

from hybrid.workers.contract.records import record

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Tells prometheus_client, in this process and in those that it starts, where the files are."""


@record(frozen=True, slots=True)
class Seat:
    """A seat of a service."""

    directory: str
    """Where its files are, absolute."""
    series: int
    """The number of the supervisor among those that live and use the directory: two are there in an upgrade."""
    place: int
    """The place of the process on the scoreboard."""

    @property
    def name(self) -> str:
        """What stands in the names of its files in place of the pid; no number, as pids are."""
        return f"{self.series}-{self.place}"

    def at(self, place: int) -> Seat:
        """Return the seat of another place."""
        return Seat(self.directory, self.series, place)


_seat: Seat | None = None  # of this process or of the one that it was forked from
_name = ""
_owner = 0  # the pid of the process that took it


def take(seat: Seat | None) -> None:
    """Have this process, and no fork of it, sit there from now on. None: it has none, and its environment stays."""
    global _seat, _name, _owner
    _seat = seat
    if seat is not None:
        _name, _owner = seat.name, os.getpid()
        os.environ[VARIABLE] = seat.directory


def is_taken() -> bool:
    """Return True if this process has a seat."""
    return _seat is not None


def holder() -> int | str:
    """Return the name of this process for prometheus_client: its seat, or the pid if it is a fork of the application's.

    No two living processes have the same.
    """
    pid = os.getpid()
    return _name if pid == _owner else pid
