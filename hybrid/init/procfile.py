"""A `Procfile`: each process type is a service. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from hybrid.init.command_lines import SHELL, Command, CommandError, read_command, split
from hybrid.init.drafts import Line, ServiceDraft
from hybrid.init.translation import Translated

_LINE = re.compile(r"([A-Za-z0-9_-]+):\s*(.+)")
_ASSIGNED = re.compile(r"[A-Za-z_]\w*=")
_ONCE: Final = ("release",)  # run by the platform before each release, and not supervised


def read_procfile(text: str, make: Callable[[Command, str], Translated]) -> Iterator[Translated | str]:
    """Yield a service for each process type, and a remark for each line that is none.

    `make` returns the service for a command of another server and a name.
    """
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = _LINE.fullmatch(stripped)
        if match is None:
            yield f"not understood: line {number}"
            continue
        name, command = match.groups()
        if name in _ONCE:
            yield f"{name} (line {number}): runs once before a start, e.g. in ExecStartPre=: {command}"
            continue
        try:
            yield _service(name.lstrip("_-") or "service", command, make)
        except CommandError as error:
            yield f"not understood: line {number}: {error}"


def _service(name: str, command: str, make: Callable[[Command, str], Translated]) -> Translated:
    told = None if _needs_shell(command) else read_command(command)
    if told is not None:
        return make(told, name)
    words = split(command)
    if SHELL.search(command) or _ASSIGNED.match(words[0]):
        words = ["sh", "-c", command if re.search(r"[;&|\n]", command) else f"exec {command}"]
    return Translated(ServiceDraft(name, (Line("command", tuple(words)),)), ())


def _needs_shell(command: str) -> bool:
    """Return True if there is more than one command; variables alone are understood."""
    return re.search(r"[;&|<>`\n]|\$\(", command) is not None
