"""The file with the supervisor's pid: written atomically, refused while its process lives, removed if ours."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

_MODE = 0o644
_MOST = 64  # bytes read of a file that may be something else, even one without an end such as /dev/full


class PidfileError(Exception):
    """The pidfile cannot be taken; the text says why and what to do."""


class Pidfile:
    """A pidfile held by this process, or taken over from a predecessor later."""

    def __init__(self, path: Path, predecessor: int | None = None) -> None:
        """Take it. Raises `PidfileError` if a living process holds it or it cannot be written.

        `predecessor`: the pid of the supervisor that this process replaces. It may hold the file until `take_over`.
        """
        # survives a later chdir, and a moved link to the directory
        self._path = path.parent.resolve() / path.name
        self._pid = os.getpid()
        holder = _holder(self._path)
        if holder not in (None, self._pid, predecessor) and _is_alive(holder):
            raise PidfileError(
                f"the pidfile {path} is held by the living process {holder}: stop it first, "
                f"or remove the file if that process is something else"
            )
        if predecessor is None:
            self.take_over()
        elif not os.access(self._path.parent, os.W_OK | os.X_OK):  # while the predecessor can still continue
            raise self._cannot_write(os.strerror(errno.EACCES if self._path.parent.is_dir() else errno.ENOENT))

    def take_over(self) -> None:
        """Write our pid to the file; no effect if it is there. Raises `PidfileError` if that fails."""
        try:
            self._write()
        except OSError as error:
            raise self._cannot_write(error.strerror or str(error)) from error

    def _cannot_write(self, why: str) -> PidfileError:
        return PidfileError(f"cannot write the pidfile {self._path}: {why.lower()}")

    def _write(self) -> None:
        """Write a draft and rename it: a reader sees the old pid, none or the new one, never half of one.

        The directory may belong to the account of the workers, so an existing file with the draft's name is not opened:
        it may be a link to elsewhere. A draft left by a supervisor with our pid is removed first.
        """
        draft = self._path.with_name(f".{self._path.name}.{self._pid}")
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)
        try:
            try:
                os.fchmod(fd, _MODE)  # whatever the umask: other users may read the pid
                os.write(fd, f"{self._pid}\n".encode("ascii"))
            finally:
                os.close(fd)
            draft.rename(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise

    def release(self) -> None:
        """Remove the file if it holds our pid and this process took it; may be called twice."""
        if os.getpid() == self._pid == _holder(self._path):
            with contextlib.suppress(OSError):  # the directory is no longer writable; a dead pid does no harm
                self._path.unlink()


def _holder(path: Path) -> int | None:
    """Return the pid in the file; None without a file or a pid."""
    try:
        with path.open("rb") as file:
            text = file.read(_MOST).decode("ascii", "replace").strip()
    except OSError:
        return None
    is_pid = text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0
    return int(text) if is_pid else None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user, but alive
        return True
    return True
