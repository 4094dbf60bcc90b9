"""Where the control line listens: a name in the abstract namespace, or a file.

An abstract name is `@hybrid/NAME/PID.RANDOM`. It has no file, so there is no directory to choose, no mode and nothing
that a killed supervisor leaves behind. `/proc/net/unix` lists it. `rights` decides what a client may do there; the mode
of a file only keeps other accounts from connecting.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from hybrid.supervisor.listeners.addresses import UnixBind
from hybrid.supervisor.listeners.binding import BindError
from hybrid.supervisor.listeners.shared import UnixFile, UnixSocket

AUTO: Final = "auto"
OFF: Final = "off"
PREFIX: Final = "hybrid/"
"""How an abstract name begins."""
LONGEST_NAME: Final = 107
"""The maximum bytes of an abstract name; `sun_path` has 108 (unix(7)), the first of which is zero."""
_RANDOM_BYTES = 4
_BACKLOG = 64  # clients that the kernel queues; connect(2) waits, or says EAGAIN, when they are more


class CannotListen(Exception):  # noqa: N818 - the environment's fault
    """There is no control line. The text is one line for the log; the service starts without it."""


class ControlSocket:
    """The listening socket of a control line."""

    def __init__(self, unix: UnixSocket, shown: str) -> None:
        self._unix = unix
        self.shown = shown
        """Its address for people: `@hybrid/NAME/PID.RANDOM`, or the path of the file."""

    @property
    def sock(self) -> socket.socket:
        """The socket; it does not block."""
        return self._unix.listener.sock

    def close(self) -> None:
        """Refuse new clients, close the socket and remove its file if it is still ours; may be called twice."""
        self._unix.refuse()  # a child that was just forked may have a copy
        self._unix.close()

    def close_in_child(self) -> None:
        """Close the descriptor and nothing else, in a child. The supervisor goes on listening."""
        self._unix.lend()
        self._unix.close()


def listen(
    where: str,
    name: str,
    *,
    group: int | None = None,
    takes_over: bool = False,
    random: Callable[[int], bytes] = os.urandom,
) -> ControlSocket | None:
    """Listen at `where`: `auto`, `off` (then return None), or the path of a file. Raises `CannotListen`.

    `name`: the supervisor's. `group`: the number of the control group, which may open the file then.
    `takes_over`: replace the file of a living predecessor, who keeps its clients. Without it, only a stale file is
    replaced: a socket at which no process listens. Does not block, except that it may read /proc for a second to find
    the process that uses the file.
    """
    if where == OFF:
        return None
    if where == AUTO:
        bind = UnixBind(f"@{abstract_name(name, random(_RANDOM_BYTES))}")
    else:
        bind = UnixBind(str(Path(where).absolute()))  # survives a later chdir
        if takes_over:
            _remove_socket(bind.path)
    file = UnixFile(mode=0o600) if group is None else UnixFile(mode=0o660, gid=group)
    try:
        return ControlSocket(UnixSocket(bind, file, _BACKLOG), bind.path)
    except (BindError, ValueError) as error:  # a zero byte in the path
        raise CannotListen(f"no control line: {error}") from error
    except OSError as error:  # EMFILE
        raise CannotListen(f"no control line: {(error.strerror or str(error)).lower()}") from error


def abstract_name(name: str, random: bytes) -> str:
    """Return a name for this process, without its zero byte. A long `name` is cut.

    Spaces and control characters would break the lines of /proc/net/unix, which shows names as they are.
    """
    plain = "".join(c if c.isprintable() and not c.isspace() and c != "/" else "_" for c in name)
    end = f"/{os.getpid()}.{random.hex()}"
    return f"{PREFIX}{_cut(plain, LONGEST_NAME - len(PREFIX) - len(end))}{end}"


def _cut(text: str, most: int) -> str:
    """Return the beginning of `text` that has at most `most` bytes in UTF-8."""
    return text.encode()[:most].decode(errors="ignore")


def _remove_socket(path: str) -> None:
    """Remove the file of a predecessor; what cannot be removed makes the bind fail, which says why."""
    with contextlib.suppress(OSError, ValueError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            Path(path).unlink()
