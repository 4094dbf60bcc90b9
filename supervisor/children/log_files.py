"""The files of the log and of the access log, and the descriptors that our processes write lines to.

The supervisor opens the files, as it may still be root, and its children inherit the descriptors. On SIGUSR1 it opens
them again and puts the new file in the place of the old one, under the same number (dup2(2)). The children get the new
descriptors in a message (`Reopened`) and do the same. So a writer needs to know nothing of it: each line goes to the
old file or to the new one, and is whole in it.

A file is opened with O_APPEND, and each line is one write(2): that keeps the lines of several processes apart.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid.supervisor.settings import Settings
from hybrid.workers.contract.channel import ChannelClosed
from hybrid.workers.contract.messages import Reopened
from hybrid.workers.contract.records import record

if TYPE_CHECKING:
    from hybrid.supervisor.children.handles import ChildHandle

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_MODE = 0o640  # less the umask
_ABOVE_STANDARD = 3


class LogFileError(Exception):  # the environment's fault
    """A file of the log cannot be opened; the text names it and says why."""


@record(frozen=True, slots=True)
class Outputs:
    """The descriptors that the processes of one service write lines to."""

    log_fd: int = 2
    access_fd: int = 1


class LogFile:
    """A file that lines are appended to."""

    def __init__(self, path: Path) -> None:
        """Open the file, and make it if need be. Raises `LogFileError`."""
        self.path = path
        self.fd = _open(path)

    def reopen(self) -> bool:
        """Open the file under its name again, and write there from now on; return False if it is no regular file.

        The old one may have been renamed. Raises `LogFileError`; then the old one stays in use.
        """
        if not stat.S_ISREG(os.fstat(self.fd).st_mode):  # a pipe or a terminal: nothing rotates it
            return False
        new = _open(self.path)
        try:
            os.dup2(new, self.fd, inheritable=False)
        finally:
            os.close(new)
        return True

    def close(self) -> None:
        """Close it; may be called twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class LogFiles:
    """The files of one supervisor, one for each path. Opening a file may block, as its file system may."""

    def __init__(self) -> None:
        self._files: dict[Path, LogFile] = {}
        self._copies: dict[int, int] = {}  # standard descriptor -> its duplicate, for services with captured output
        self.edition = 0
        """How often the files were reopened."""

    def open(self, settings: Settings) -> Outputs:
        """Return the descriptors for the processes of a service. Opens its files. Raises `LogFileError`."""
        log, access = 2, 1
        if settings.captures:  # their 1 and 2 are pipes to the supervisor
            log, access = self._copy_of(2), self._copy_of(1)
        if settings.log_file is not None:
            log = self._file(settings.log_file).fd
        if settings.access_log_file is not None:
            access = self._file(settings.access_log_file).fd
        return Outputs(log, access)

    def _file(self, path: Path) -> LogFile:
        if path not in self._files:
            self._files[path] = LogFile(path)
        return self._files[path]

    def _copy_of(self, fd: int) -> int:
        if fd not in self._copies:
            try:
                self._copies[fd] = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE_STANDARD)
            except OSError as error:
                raise LogFileError(f"cannot duplicate descriptor {fd}: {_reason(error)}") from error
        return self._copies[fd]

    def keep(self, services: Iterable[Settings]) -> None:
        """Close the files that none of these services writes to."""
        used = {path for one in services for path in (one.log_file, one.access_log_file)}
        for path in self._files.keys() - used:
            self._files.pop(path).close()

    def reopen(self) -> tuple[list[Path], list[str]]:
        """Reopen all files; return those that were reopened, and why others were not."""
        done, failures = [], []
        for file in self._files.values():
            try:
                if file.reopen():
                    done.append(file.path)
            except LogFileError as error:
                failures.append(f"{error}; lines still go to the file that was open before")
        self.edition += 1
        return done, failures

    def hand_out(self, handles: Iterable[ChildHandle], outputs: Outputs) -> bool:
        """Give the files of a service to the processes that still write to the old ones; return True if all have them.

        One whose channel is full is tried again by the next call. Does not block.
        """
        own = {file.fd for file in self._files.values()}
        numbers = tuple(fd for fd in sorted({outputs.log_fd, outputs.access_fd}) if fd in own)
        behind = [one for one in handles if one.edition < self.edition]
        for handle in behind:
            try:
                if numbers and not handle.channel.hand_over_nowait(Reopened(numbers), numbers):
                    continue
            except ChannelClosed:  # its death is reported by other means
                pass
            handle.edition = self.edition
        return all(one.edition == self.edition for one in behind)

    def close_in_child(self, outputs: Outputs) -> None:
        """Close what other services write to, in a child of the service with `outputs`."""
        own = (outputs.log_fd, outputs.access_fd)
        for file in self._files.values():
            if file.fd not in own:
                file.close()
        for fd in [fd for fd in self._copies.values() if fd not in own]:
            os.close(fd)
        self._copies = {standard: fd for standard, fd in self._copies.items() if fd in own}

    @property
    def is_empty(self) -> bool:
        """True if there is no file."""
        return not self._files

    def close(self) -> None:
        """Close everything; may be called twice."""
        self.keep(())
        for fd in self._copies.values():
            os.close(fd)
        self._copies.clear()


def _open(path: Path) -> int:
    try:
        fd = os.open(path, _FLAGS, _MODE)
    except OSError as error:  # ENXIO: a named pipe that is not read
        raise LogFileError(f"cannot write to {path}: {_reason(error)}") from error
    return fd


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
