"""Exit codes of a worker and of the ``hybrid`` command; documented in ``docs/signals.md``."""

from __future__ import annotations

import enum


class Exit(enum.IntEnum):
    """The exit codes of our processes.

    A process killed by a signal has none of these codes; a shell shows it as 128 + signal number.
    """

    OK = 0
    """Stopped as asked, everything drained."""
    ERROR = 1
    """Any other error (our bug, or the environment's)."""
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
    """A process was killed: the drain deadline passed, or an immediate stop was requested."""
    ORPHANED = 8
    """The supervisor of a worker is gone."""
    RESTARTS = 9
    """Workers died more often than allowed."""
