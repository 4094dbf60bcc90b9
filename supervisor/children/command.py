"""A child that executes another program, and the lines that such a program, or a captured worker, writes.

The channel of a child that executes a program is closed by execve(2): its EOF without a message means that it runs.
`posix` stands in for `os`, whose `close` gevent patches.
"""

from __future__ import annotations

import contextlib
import os
import posix
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from hybrid.workers.contract.channel import Channel, ChannelClosed
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.messages import BootFailed
from hybrid.workers.contract.worker_spec import WorkerSpec

SERVICE_VARIABLE, SLOT_VARIABLE = "HYBRID_WORKER_SERVICE", "HYBRID_WORKER_SLOT"
"""The place of a program, in its environment."""
CONTINUES = " [continues]"
"""The end of a piece of a captured line that is too long."""
_CHUNK = 8192  # bytes read at a time: as many short lines are logged within 100 ms, and the other services wait
_LONGEST = 8192  # bytes of a line; a longer one becomes several


def execute(command: Sequence[str], spec: WorkerSpec, directory: str | None) -> int:
    """Become the program, in a process group of its own; return an exit code only if that fails.

    `directory`: its working directory; None: this process's. The program finds its place in HYBRID_WORKER_SERVICE and
    HYBRID_WORKER_SLOT. Standard input is empty, and output and errors go to the log of the supervisor.
    """
    try:
        if directory is not None:
            os.chdir(directory)
        with Path(os.devnull).open("rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        place = {SERVICE_VARIABLE: spec.service, SLOT_VARIABLE: str(spec.slot)}
        _execute(command, spec.output_fd, place)
    except OSError as error:
        return _report(command, error, spec.channel)


def execute_with_input(command: Sequence[str], content: bytes, output_fd: int, channel: Channel) -> int:
    """Become a program with `content` on its standard input, in a process group of its own.

    Returns an exit code only if that fails; the supervisor has been told why.
    """
    try:
        memory = os.memfd_create("event")  # no pipe: nobody has to write while the program reads
        os.dup2(memory, 0)
        with open(memory, "wb", buffering=0) as file:  # noqa: PTH123 - a descriptor
            file.write(content)
            file.seek(0)
        _execute(command, output_fd, {})
    except OSError as error:
        return _report(command, error, channel)


def _report(command: Sequence[str], error: OSError, channel: Channel) -> int:
    name = error.filename if isinstance(error.filename, str) else command[0]
    reason = f"cannot execute {name}: {(error.strerror or str(error)).lower()}"
    with contextlib.suppress(ChannelClosed):
        channel.send_nowait(BootFailed(Exit.TARGET, reason))
    return Exit.TARGET


def _execute(command: Sequence[str], output_fd: int | None, variables: Mapping[str, str]) -> NoReturn:
    os.setpgid(0, 0)  # what it leaves behind can be found, and Ctrl-C reaches the supervisor only
    if output_fd is not None:
        write_to(output_fd)
    for number in signal.valid_signals():
        with contextlib.suppress(OSError, ValueError):  # SIGKILL and SIGSTOP
            signal.signal(number, signal.SIG_DFL)  # Python ignores SIGPIPE, and execve(2) keeps that
    os.execvpe(command[0], list(command), {**os.environ, **variables})


def write_to(fd: int) -> None:
    """Make a descriptor the standard output and error of this process, and of programs that it executes."""
    posix.dup2(fd, 1)
    posix.dup2(fd, 2)
    posix.close(fd)


def resident(pid: int) -> int | None:
    """Return the resident memory of a process in bytes (proc(5), `statm`); None if it is unknown, or gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):  # a zombie's has zeros, one that was just reaped none
        return None


class Output:
    """The reading end of the pipe that a program, or a worker, writes to. No method blocks."""

    def __init__(self, continues: str = "") -> None:
        """`continues`: the end of a piece of a line that is too long. Raises `OSError` (EMFILE)."""
        self._continues = continues
        self._read, self._write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._read, False)
        self._rest = b""  # the beginning of a line

    def fileno(self) -> int:
        """Return the descriptor to poll; -1 once closed."""
        return self._read

    @property
    def theirs(self) -> int:
        """The descriptor for the program."""
        return self._write

    def close_theirs(self) -> None:
        """Close the program's end, in this process."""
        if self._write >= 0:
            os.close(self._write)
            self._write = -1

    def close_ours(self) -> None:
        """Close the reading end, in the process that writes: else writing never fails once the supervisor is gone."""
        if self._read >= 0:
            os.close(self._read)
            self._read = -1

    def read(self) -> list[str] | None:
        """Return the next lines, none if there is nothing yet; None at the end."""
        try:
            chunk = os.read(self._read, _CHUNK)
        except BlockingIOError:
            return []
        except OSError:
            return None
        return self._lines(chunk) if chunk else None

    def rest(self) -> list[str]:
        """Return what was written last, without an end of line."""
        rest, self._rest = self._rest, b""
        return [_text(rest)] if rest else []

    def close(self) -> None:
        """Close both ends; may be called twice, and in a child."""
        self.close_theirs()
        self.close_ours()

    def _lines(self, chunk: bytes) -> list[str]:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        pieces = [piece for line in lines for piece in self._pieces(line)]
        while len(self._rest) > _LONGEST:
            pieces.append(_text(self._rest[:_LONGEST]) + self._continues)
            self._rest = self._rest[_LONGEST:]
        return pieces

    def _pieces(self, line: bytes) -> Iterator[str]:
        while len(line) > _LONGEST:
            yield _text(line[:_LONGEST]) + self._continues
            line = line[_LONGEST:]
        yield _text(line)


def _text(line: bytes) -> str:
    return line.rstrip(b"\r").decode("utf-8", "backslashreplace")
