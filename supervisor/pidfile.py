"""The file that names the supervisor's pid: written in one piece, refused while its process lives, removed if ours."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


class PidfileError(Exception):
    """The pidfile cannot be taken; the text says why and what to do."""


class Pidfile:
    """A pidfile held by this process."""

    def __init__(self, path: Path) -> None:
        """Take it. Raises `PidfileError` if a living process holds it or it cannot be written."""
        self._path = path.absolute()  # a later chdir must not lose it
        self._pid = os.getpid()
        holder = _holder(self._path)
        if holder is not None and holder != self._pid and _is_alive(holder):
            raise PidfileError(
                f"the pidfile {path} is held by the living process {holder}: stop it first, "
                f"or remove the file if that process is something else"
            )
        try:
            self._write()
        except OSError as error:
            raise PidfileError(f"cannot write the pidfile {path}: {(error.strerror or str(error)).lower()}") from error

    def _write(self) -> None:
        """Write beside it and rename: a reader sees the old pid, none or the new one, but never half of one."""
        draft = self._path.with_name(f".{self._path.name}.{self._pid}")
        try:
            draft.write_text(f"{self._pid}\n", encoding="ascii")
            draft.rename(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise

    def release(self) -> None:
        """Remove it if it still holds our pid, and this is still the process that took it; may be called twice."""
        if os.getpid() == self._pid == _holder(self._path):
            with contextlib.suppress(OSError):  # the directory is no longer writable: the pid in it is dead, that does
                self._path.unlink()


def _holder(path: Path) -> int | None:
    """Return the pid in the file; None if there is no file or no pid in it."""
    try:
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
    is_pid = text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0
    return int(text) if is_pid else None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's, but alive
        return True
    return True
