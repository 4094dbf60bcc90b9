"""`Variables`: the environment, and behind it the env files of a run.

Env files are read before the options are resolved, so that `HYBRID_WORKERS` in one of them counts. `os.environ` stays
as it is: a supervisor that replaces this one inherits it, and would take the values of a file that has changed since
for those of the environment.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid.config.file import FileError, relative

if TYPE_CHECKING:
    from hybrid.config.env_file import Variable

TOO_LATE = ("CONFIG", "PROFILE", "ENV_FILE")
"""What says which files are read, without `HYBRID_`: it cannot stand in an env file."""


@dataclasses.dataclass(frozen=True)
class Variables:
    """The variables that set options. One that is empty counts as not set."""

    environment: Mapping[str, str]
    files: Mapping[str, Variable] = dataclasses.field(default_factory=dict)
    """Of the env files; the environment wins."""

    def get(self, name: str) -> str | None:
        """Return the value of a variable; None if it is not set."""
        if name in self.environment:
            return self.environment[name] or None
        return self.files[name].value or None if name in self.files else None

    def origin(self, name: str) -> str:
        """Return where a variable was set, for `hybrid config`: its name, or its name and file."""
        if name in self.environment or name not in self.files:
            return name
        place = self.files[name].place
        return f"{name} in {relative(Path(place.file))}:{place.line}"


def of_the_environment() -> Variables:
    """Return the variables without any file."""
    return Variables(os.environ)


def with_files(paths: tuple[str, ...]) -> Variables:
    """Return the variables of the environment and of these env files.

    Raises `FileError`, also for a variable that would have to be known before the file is read.
    """
    from hybrid.config.env_file import read_all  # most services have no such file

    found = read_all(paths)
    for name, variable in found.items():
        if name not in os.environ and _is_too_late(name):
            flag = "--" + next(end for end in TOO_LATE if name.endswith(end)).lower().replace("_", "-")
            raise FileError(
                variable.place,
                f"{name} says which files are read, and cannot stand in one: write {flag}, or set it before the start",
            )
    return Variables(os.environ, found)


def _is_too_late(name: str) -> bool:
    is_for_one_service = name.startswith("HYBRID_SERVICE_") and name.endswith("_ENV_FILE")
    return is_for_one_service or (name.removeprefix("HYBRID_") in TOO_LATE and name.startswith("HYBRID_"))
