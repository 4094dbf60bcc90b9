"""Exit codes of a worker and of the ``hybrid`` command; documented in ``docs/signals.md``."""

from __future__ import annotations

import enum


class Exit(enum.IntEnum):
    """Why a process of ours ended, as its exit code.

    A process that died from a signal has no code of this table; a shell shows it as 128 + signal number.
    """

    OK = 0
    """Stopped as asked, everything drained."""
    ERROR = 1
    """An error that no other code names (our bug, or the environment's)."""
    USAGE = 2
    """The command line or the configuration is wrong (click's code too)."""
    TARGET = 3
    """The target cannot be imported, found, or recognised."""
    BIND = 4
    """An address cannot be bound."""
    LOOP = 5
    """The event loop asked for is not usable here."""
    BOOT = 6
    """Workers kept dying or hanging before any of them was ready."""
    KILLED = 7
    """Something had to be killed: the drain deadline passed, or the stop was asked to be immediate."""
    ORPHANED = 8
    """A worker found its supervisor gone."""
    RESTARTS = 9
    """Workers died more often than was allowed."""
