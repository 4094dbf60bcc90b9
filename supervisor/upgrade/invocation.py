"""How this program was started, so that it can be started again."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping
from typing import Final

from hybrid.workers.contract.records import record

HANDOVER_VARIABLE: Final = "HYBRID_HANDOVER"
"""Names the memfd that a successor inherits; see `inheritance`."""
METRICS_VARIABLE: Final = "HYBRID_METRICS_HOME"
"""Names the directory of a predecessor for metrics of the application."""
_OF_ONE_PROCESS: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


@record(frozen=True, slots=True)
class Invocation:
    """A command, its directory and its environment."""

    executable: str
    """Path of the Python interpreter; empty if it is not known."""
    arguments: tuple[str, ...]
    """The rest of the command: options of the interpreter, the program, its arguments."""
    directory: str
    environment: Mapping[str, str] = dataclasses.field(repr=False)
    """Without the variables meant for one process: descriptors of systemd and of a predecessor."""

    @classmethod
    def current(cls) -> Invocation:
        """Return how this process was started.

        Directory and environment are those at the import of this module: before the service changes its directory, and
        before variables are removed.
        """
        return _AT_IMPORT


def _read() -> Invocation:
    environment = dict(os.environ)
    environment.pop(HANDOVER_VARIABLE, None)
    environment.pop(METRICS_VARIABLE, None)
    if environment.get("LISTEN_PID") == str(os.getpid()):
        for name in _OF_ONE_PROCESS:
            environment.pop(name, None)
    # None in an interpreter that is embedded in another program
    return Invocation(sys.executable or "", tuple(sys.orig_argv[1:]), working_directory(environment), environment)


def working_directory(environment: Mapping[str, str]) -> str:
    """Return the working directory by its name in the shell: a symbolic link that a new release may have moved."""
    try:
        here = os.getcwd()  # noqa: PTH109 - as text
    except FileNotFoundError:  # removed since; reported when it is needed
        return environment.get("PWD", "/")
    named = environment.get("PWD", "")
    try:
        is_same = os.path.isabs(named) and os.path.samefile(named, here)  # noqa: PTH117, PTH121
    except (OSError, ValueError):
        is_same = False
    return named if is_same else here


_AT_IMPORT: Final = _read()
