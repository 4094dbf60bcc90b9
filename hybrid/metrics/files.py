"""The files that the workers of applications write their metrics into. What is in them: `application`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def files_of(status: Mapping[str, Any], home: str) -> dict[str, list[str]]:
    """Return the files of the services of a status: service -> paths in order; services without files are left out.

    `home`: the directory of the supervisor that has those of the services; empty: there are none. Blocks for the
    file system. Raises `OSError`, for instance if there is no descriptor to look.
    """
    names = [str(service["name"]) for service in status["services"]] if home else []
    found = {name: _in(Path(home, f"of-{name}")) for name in names}
    return {name: files for name, files in found.items() if files}


def _in(directory: Path) -> list[str]:
    try:
        return sorted(str(path) for path in directory.iterdir() if path.suffix == ".db")  # glob hides errors
    except (FileNotFoundError, NotADirectoryError):  # its workers write none
        return []
