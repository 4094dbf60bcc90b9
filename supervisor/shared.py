"""Listeners that all slots share: UNIX sockets, for which Linux has no SO_REUSEPORT, and inherited descriptors."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import MutableMapping
from pathlib import Path

from hybrid.supervisor.addresses import FdBind, UnixBind, join_host_port
from hybrid.supervisor.binding import cannot_bind, explain
from hybrid.workers.contract.seat import Listener, ListenerKind

_FIRST_SYSTEMD_FD = 3  # SD_LISTEN_FDS_START
_SYSTEMD_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
_KINDS = {socket.SOCK_STREAM: ListenerKind.STREAM, socket.SOCK_DGRAM: ListenerKind.DATAGRAM}

Inode = tuple[int, int]
"""Device and inode number of a file."""


class UnixSocket:
    """One UNIX stream socket and, unless it is abstract, its file."""

    def __init__(self, bind: UnixBind, *, mode: int, owner: tuple[int, int], backlog: int) -> None:
        """Bind and listen; `mode` are the file's permission bits, `owner` its uid and gid (-1: as they are).

        Raises `BindError`. Replaces a stale file: a socket that nobody listens on.
        """
        self._bind = bind
        self._inode: Inode | None = None  # of the file we made
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._open(mode, owner, backlog)
        except OSError as error:
            self.close()
            raise explain(bind, error) from error
        except BaseException:
            self.close()
            raise

    @property
    def listener(self) -> Listener:
        """The socket as all workers see it."""
        return Listener(str(self._bind), ListenerKind.STREAM, self._sock, None)

    def close(self) -> None:
        """Close the socket and remove its file, if it is still ours; may be called twice."""
        self._sock.close()
        if self._inode is not None and _inode_of(self._bind.path) == self._inode:
            with contextlib.suppress(OSError):  # the directory is no longer writable: the next start replaces the file
                Path(self._bind.path).unlink()
        self._inode = None

    def _open(self, mode: int, owner: tuple[int, int], backlog: int) -> None:
        self._sock.setblocking(False)
        if self._bind.is_abstract:
            self._sock.bind("\0" + self._bind.path[1:])
        else:
            self._bind_file(mode)
            if owner != (-1, -1):
                os.chown(self._bind.path, *owner)
        self._sock.listen(backlog)

    def _bind_file(self, mode: int) -> None:
        self._remove_stale()
        # bind(2) makes the file with 0777 & ~umask; a chmod afterwards would leave a moment in which anybody may
        # connect. The umask belongs to the process, which has one thread.
        old = os.umask(~mode & 0o777)
        try:
            self._sock.bind(self._bind.path)
        finally:
            os.umask(old)
        self._inode = _inode_of(self._bind.path)

    def _remove_stale(self) -> None:
        inode = _inode_of(self._bind.path)
        if inode is None:
            return
        if not stat.S_ISSOCK(os.lstat(self._bind.path).st_mode):
            raise cannot_bind(self._bind, "the file exists and is no socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)  # a full accept queue is an answer too
            result = probe.connect_ex(self._bind.path)
        if result != errno.ECONNREFUSED:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        if _inode_of(self._bind.path) == inode:  # nobody else has replaced it meanwhile
            Path(self._bind.path).unlink(missing_ok=True)


class InheritedSocket:
    """A bound socket that was open when this process began."""

    def __init__(self, bind: FdBind) -> None:
        """Take the descriptor over. Raises `BindError` if it is no bound (and, for a stream, listening) socket."""
        try:
            self._sock = socket.socket(fileno=bind.fd)
        except OSError as error:
            raise explain(bind, error) from error
        try:
            self.listener = self._check(bind)
        except BaseException:
            self._sock.detach()  # not ours to close
            raise
        self._sock.setblocking(False)
        self._sock.set_inheritable(False)

    def _check(self, bind: FdBind) -> Listener:
        kind = _KINDS.get(self._sock.type)
        if kind is None or self._sock.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
            raise cannot_bind(bind, "it is neither a TCP, UDP nor UNIX stream or datagram socket")
        if kind is ListenerKind.STREAM and not self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise cannot_bind(bind, "the socket does not listen")
        name = self._sock.getsockname()
        if name in ("", b"") or (isinstance(name, tuple) and name[1] == 0):
            raise cannot_bind(bind, "the socket is not bound")
        return Listener(_describe(name, kind), kind, self._sock, None)

    def close(self) -> None:
        """Close the descriptor; may be called twice."""
        self._sock.close()


def systemd_binds(environ: MutableMapping[str, str], pid: int) -> tuple[FdBind, ...]:
    """Return the sockets that systemd opened for process `pid`, as LISTEN_PID and LISTEN_FDS tell (sd_listen_fds(3)).

    Marks them close-on-exec and removes the variables from `environ`, so that no program started by a worker takes them
    for its own. Empty if there are none for us. Raises `BindError` if a descriptor that was announced is not open.
    """
    if environ.get("LISTEN_PID") != str(pid):
        return ()
    announced = environ.get("LISTEN_FDS", "")
    for name in _SYSTEMD_VARIABLES:
        environ.pop(name, None)
    count = int(announced) if announced.isascii() and announced.isdigit() else 0
    binds = tuple(FdBind(_FIRST_SYSTEMD_FD + index) for index in range(count))
    for bind in binds:
        try:
            os.set_inheritable(bind.fd, False)
        except OSError as error:
            raise explain(bind, error) from error
    return binds


def _describe(name: object, kind: ListenerKind) -> str:
    scheme = "udp://" if kind is ListenerKind.DATAGRAM else ""
    match name:
        case (str(host), int(port), *_):
            return f"{scheme}{join_host_port(host, port)}"
        case bytes():  # the abstract namespace
            return f"unix:@{os.fsdecode(name[1:])}"
        case _:
            return f"unix:{name}"


def _inode_of(path: str) -> Inode | None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
