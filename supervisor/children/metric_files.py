"""The directories for metrics of the application, and the seats of each service in its own.

A supervisor and its successors share one private directory, with a directory in it for each service, or a link to the
one that the user has chosen. Locks (flock(2)) tell who lives, and the kernel releases them however a process ends:

- of the private directory, shared by all supervisors of the chain: who gets it for itself alone is the last, and
  removes it. systemd-tmpfiles(8) leaves a directory alone that is locked. One that nobody locks was left by a
  supervisor that was killed, and the next one of the same account removes it.
- of a small file in a service's directory, one for each supervisor that uses it: the lowest number that was free is
  its *series*. So the workers of a supervisor and of its successor have different seats, and the numbers go round
  instead of up. Children keep the descriptor: a number is in use until the last process with a seat of it is gone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hybrid.supervisor.settings import Settings
from hybrid.workers.contract import log
from hybrid.workers.contract.metric_seat import Seat

LIVE_MODES: Final = ("liveall", "livemax", "livemin", "livemostrecent", "livesum")
"""The modes of gauges that count while their process lives, as prometheus_client names them."""
_PREFIX: Final = "hybrid-metrics-"
_MOST_SERIES: Final = 64  # supervisors that use a directory at a time
_ATTEMPTS: Final = 5  # another supervisor may take a new directory for one that was left

logger = logging.getLogger(log.LOGGER_NAME)


class Seats:
    """The seats of a service. No method blocks."""

    def __init__(self, directory: Path) -> None:
        """Take a series in the directory. Raises `OSError`."""
        self._directory = directory
        self._series, self._lock = _take_series(directory)
        for left in directory.glob(f"gauge_live*_{self._series}-*.db"):  # of a supervisor that was killed
            with contextlib.suppress(OSError):
                left.unlink()

    def at(self, place: int) -> Seat:
        """Return the seat of a place on the scoreboard."""
        return Seat(str(self._directory), self._series, place)

    def vacate(self, place: int) -> None:
        """Remove the gauges of a process that is gone: they count while it lives. The other files stay."""
        for mode in LIVE_MODES:
            with contextlib.suppress(OSError):  # there is none, or the directory was removed
                os.unlink(f"{self._directory}/gauge_{mode}_{self._series}-{place}.db")  # noqa: PTH108 - for each death

    def close(self) -> None:
        """Give the series back, once all processes with a seat have ended. May be called twice."""
        if self._lock >= 0:
            with contextlib.suppress(OSError):
                fcntl.flock(self._lock, fcntl.LOCK_UN)  # whatever still has the descriptor
            os.close(self._lock)
            self._lock = -1


class MetricFiles:
    """The directories of one supervisor. Blocks for some files only."""

    def __init__(self, inherited: str = "") -> None:
        """`inherited`: the private directory of a predecessor; empty: none."""
        self._inherited = inherited
        self._home: Path | None = None
        self._lock = -1  # of the private directory
        self._seats: dict[str, Seats] = {}  # service -> its seats

    @property
    def home(self) -> str:
        """The private directory; empty: there is none."""
        return "" if self._home is None else str(self._home)

    def home_for(self, settings: Settings) -> str:
        """Return the private directory, for a sidecar that reads it; empty: there is none, or it is for no eyes."""
        return self.home if settings.is_sidecar else ""

    def open(self, settings: Settings) -> Seats | None:
        """Return the seats of a service; None if it has none. A failure is logged: the service does without."""
        if settings.app_metrics == "off":
            return None
        try:
            home = self._open_home()
            if settings.is_sidecar:
                return None
            if settings.service not in self._seats:
                self._seats[settings.service] = Seats(_directory(home, settings))
            return self._seats[settings.service]
        except OSError as error:
            text = "no metrics of the application at --admin: %s"
            logger.warning(text, error, extra={"service": settings.service})
            return None

    def forget(self, service: str) -> None:
        """A service was removed from the configuration, and has ended."""
        seats = self._seats.pop(service, None)
        if seats is not None and self._home is not None:
            seats.close()
            if not _is_used(_path(self._home, service)):
                _remove(_path(self._home, service))

    def end(self) -> None:
        """Release everything; the last supervisor of the chain removes the private directory."""
        for seats in self._seats.values():
            seats.close()
        self._seats.clear()
        if self._home is not None:
            if _locked(self._lock, fcntl.LOCK_EX):
                _remove(self._home)
            os.close(self._lock)
            self._home, self._lock = None, -1

    def _open_home(self) -> Path:
        """Return the private directory: open already, the predecessor's, or a new one. Raises `OSError`."""
        if self._home is not None:
            return self._home
        if self._inherited and self._lock_home(Path(self._inherited)):
            return Path(self._inherited)
        base = _base()
        _remove_left(base)
        for _ in range(_ATTEMPTS):
            made = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
            if os.geteuid() == 0:
                made.chmod(0o711)  # workers have other accounts; the directories in it are private
            if self._lock_home(made):
                return made
        raise OSError(errno.EAGAIN, "others remove each new directory", str(base))

    def _lock_home(self, home: Path) -> bool:
        """Use a directory of ours that exists; return False if there is none."""
        with contextlib.suppress(OSError):
            fd = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            status = os.fstat(fd)
            # without a link: removed since it was opened
            if status.st_uid == os.geteuid() and _locked(fd, fcntl.LOCK_SH) and os.fstat(fd).st_nlink:
                self._home, self._lock = home, fd
                return True
            os.close(fd)
        return False


def _base() -> Path:
    """Return where private directories are made: not in root's own directory, where no other account may look."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.geteuid() != 0 and os.path.isabs(runtime) and os.access(runtime, os.W_OK | os.X_OK):  # noqa: PTH117
        return Path(runtime)
    return Path(tempfile.gettempdir())


def _path(home: Path, service: str) -> Path:
    return home / f"of-{service}"


def _directory(home: Path, settings: Settings) -> Path:
    """Return the directory of a service, made if need be. Raises `OSError`."""
    path = _path(home, settings.service)
    if settings.app_metrics != "auto":
        if path.is_symlink():
            path.unlink()
        path.symlink_to(settings.app_metrics)
        return Path(settings.app_metrics)
    if path.is_symlink():  # a predecessor was told of another one
        path.unlink()
    path.mkdir(0o700, exist_ok=True)
    if os.geteuid() == 0:
        os.chown(path, -1 if settings.uid is None else settings.uid, -1 if settings.gid is None else settings.gid)
    return path


def _take_series(directory: Path) -> tuple[int, int]:
    """Return the lowest number that no living process has, and the descriptor that holds it. Raises `OSError`."""
    for number in range(_MOST_SERIES):
        fd = os.open(directory / f".hybrid-{number}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        if _locked(fd, fcntl.LOCK_EX):
            return number, fd
        os.close(fd)
    raise OSError(errno.EBUSY, "too many supervisors use this directory", str(directory))


def _is_used(directory: Path) -> bool:
    """Return True if another supervisor has a series there, or that cannot be found out."""
    try:
        for path in directory.glob(".hybrid-*.lock"):
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            try:
                if not _locked(fd, fcntl.LOCK_EX):
                    return True
            finally:
                os.close(fd)
    except OSError:
        return True
    return False


def _locked(fd: int, kind: int) -> bool:
    """Take a lock; return False if others hold it, or the file system has none.

    An exchange of one lock for another is not atomic: if it fails, neither is left (flock(2)).
    """
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_left(base: Path) -> None:
    """Remove the directories of supervisors of this account that were killed."""
    for path in _left(base):
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if os.fstat(fd).st_uid == os.geteuid() and _locked(fd, fcntl.LOCK_EX):
                    _remove(path)
            finally:
                os.close(fd)


def _left(base: Path) -> Iterator[Path]:
    try:
        yield from sorted(base.glob(f"{_PREFIX}*"))
    except OSError:
        return


def _remove(path: Path) -> None:
    """Remove a directory with its files; a link is removed itself."""
    try:
        if path.is_symlink():
            path.unlink()
        elif path.exists():
            shutil.rmtree(path)
    except OSError as error:
        logger.warning("cannot remove %s: %s", path, error)
