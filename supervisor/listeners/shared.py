"""Listeners that all slots share: UNIX sockets, for which Linux has no SO_REUSEPORT, and inherited descriptors."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Hashable, MutableMapping
from pathlib import Path

from hybrid.supervisor.listeners.addresses import FdBind, UnixBind, join_host_port
from hybrid.supervisor.listeners.binding import cannot_bind, explain, explain_and_search
from hybrid.supervisor.listeners.members import listen_again
from hybrid.workers.contract.records import record
from hybrid.workers.contract.worker_spec import Listener, ListenerKind, is_shut_down

_FIRST_SYSTEMD_FD = 3  # SD_LISTEN_FDS_START
_SYSTEMD_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")
_KINDS = {socket.SOCK_STREAM: ListenerKind.STREAM, socket.SOCK_DGRAM: ListenerKind.DATAGRAM}

Inode = tuple[int, int]
"""Device and inode number of a file."""


@record(frozen=True, slots=True, kw_only=True)
class UnixFile:
    """The mode and owner of the file of a UNIX socket."""

    mode: int
    """Permission bits."""
    uid: int = -1
    """Its owner; -1: unchanged."""
    gid: int = -1


class UnixSocket:
    """One UNIX stream socket and, unless it is abstract, its file."""

    def __init__(self, bind: UnixBind, file: UnixFile, backlog: int) -> None:
        """Bind and listen. Raises `BindError`. Replaces a stale file: a socket without a listener."""
        self._begin(bind, file, backlog, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        try:
            self._open()
        except OSError as error:
            self.close()
            raise explain_and_search(bind, error) from error
        except BaseException:
            self.close()
            raise

    @classmethod
    def handed(
        cls, bind: UnixBind, sock: socket.socket, inode: Inode | None, file: UnixFile, backlog: int
    ) -> UnixSocket:
        """Return the listening socket of a predecessor, whose file is `inode`; `take_over` makes it ours."""
        one = cls.__new__(cls)
        one._begin(bind, file, backlog, sock)
        one._inode, one._is_ours = inode, False
        return one

    def _begin(self, bind: UnixBind, file: UnixFile, backlog: int, sock: socket.socket) -> None:
        self._bind = bind
        self._file = file
        self._backlog = backlog
        self._sock = sock
        self._inode: Inode | None = None  # of its file
        self._is_ours = True

    @property
    def inode(self) -> Inode | None:
        """The file of the socket; None for a name in the abstract namespace."""
        return self._inode

    @property
    def listener(self) -> Listener:
        """The listener for all workers."""
        return Listener(str(self._bind), ListenerKind.STREAM, self._sock, None)

    def lend(self) -> None:
        """Leave the file to a successor; if it fails, call `take_over`."""
        self._is_ours = False

    def take_over(self) -> None:
        """Own the file from now on: set mode and owner, and remove it at the end. Raises `OSError`. Never blocks."""
        if self._is_ours:
            return
        self._is_ours = True
        self._sock.listen(self._backlog)  # changes the backlog only: it listens already
        if self._inode is not None:
            self._amend_file()

    def _amend_file(self) -> None:
        """Set mode and owner of the file; not by name, which may belong to another file meanwhile."""
        try:
            fd = os.open(self._bind.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            found = os.fstat(fd)
            if (found.st_dev, found.st_ino) != self._inode or not stat.S_ISSOCK(found.st_mode):
                return
            itself = f"/proc/self/fd/{fd}"  # fchmod(2) and fchown(2) refuse a descriptor of O_PATH
            if stat.S_IMODE(found.st_mode) != self._file.mode:
                os.chmod(itself, self._file.mode)  # noqa: PTH101
            if self._file.uid not in (-1, found.st_uid) or self._file.gid not in (-1, found.st_gid):
                os.chown(itself, self._file.uid, self._file.gid)
        finally:
            os.close(fd)

    def mend(self) -> bool:
        """Replace the socket if it was shut down; return True if so. Raises `BindError`.

        The kernel does not let a UNIX socket listen again. Connections queued at the old one are lost.
        """
        if not self._is_ours or not is_shut_down(self._sock):
            return False
        self._sock.close()
        self._remove_file()
        try:
            self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._open()
        except OSError as error:
            self._sock.close()
            raise explain(self._bind, error) from error
        return True

    def hold(self) -> None:
        """Remove the file, so that new clients cannot connect; a name in the abstract namespace stays."""
        if self._is_ours:
            self._remove_file()

    def refuse(self) -> None:
        """Refuse new connections; queued ones can still be accepted (`unix_accept`, net/unix/af_unix.c)."""
        for sock in self.ending():
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def ending(self) -> list[socket.socket]:
        """Return the socket if it ends with this supervisor."""
        return [self._sock] if self._is_ours else []

    def close(self) -> None:
        """Close the socket and remove its file, if it is still ours; may be called twice."""
        self._sock.close()
        if self._is_ours:
            self._remove_file()
        self._inode = None

    def _remove_file(self) -> None:
        if self._inode is not None and inode_of(self._bind.path) == self._inode:
            with contextlib.suppress(OSError):  # the directory is no longer writable: the next start replaces the file
                Path(self._bind.path).unlink()
        self._inode = None

    def _open(self) -> None:
        self._sock.setblocking(False)
        if self._bind.is_abstract:
            self._sock.bind("\0" + self._bind.path[1:])
        else:
            self._bind_file()
            self._amend_file()
        self._sock.listen(self._backlog)

    def _bind_file(self) -> None:
        self._remove_stale()
        # bind(2) makes the file with 0777 & ~umask; a later chmod would leave a moment in which any user may connect.
        # The umask belongs to the process, which has one thread.
        old = os.umask(~self._file.mode & 0o777)
        try:
            self._sock.bind(self._bind.path)
        finally:
            os.umask(old)
        self._inode = inode_of(self._bind.path)

    def _remove_stale(self) -> None:
        inode = inode_of(self._bind.path)
        if inode is None:
            return
        if not stat.S_ISSOCK(os.lstat(self._bind.path).st_mode):
            raise cannot_bind(self._bind, "the file exists and is no socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)  # a full accept queue is an answer too
            result = probe.connect_ex(self._bind.path)
        if result != errno.ECONNREFUSED:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        if inode_of(self._bind.path) == inode:  # no other process has replaced it meanwhile
            Path(self._bind.path).unlink(missing_ok=True)


class PassedSocket:
    """A bound socket that this process inherited."""

    def __init__(self, bind: FdBind, backlog: int) -> None:
        """Take the descriptor. Raises `BindError` unless it is a bound (and, for a stream, listening) socket."""
        self.bind = bind
        self._backlog = backlog  # for `listen_again`
        try:
            self.sock = socket.socket(fileno=bind.fd)
        except OSError as error:
            raise explain(bind, error) from error
        try:
            self.listener = self._check(bind)
        except BaseException:
            self.sock.detach()  # not ours to close
            raise
        self._where = self.sock.getsockname()
        self.sock.setblocking(False)
        self.sock.set_inheritable(False)

    def _check(self, bind: FdBind) -> Listener:
        kind = _KINDS.get(self.sock.type)
        if kind is None or self.sock.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
            raise cannot_bind(bind, "it is neither a TCP, UDP nor UNIX stream or datagram socket")
        if kind is ListenerKind.STREAM and not self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise cannot_bind(bind, "the socket does not listen")
        name = self.sock.getsockname()
        if name in ("", b"") or (isinstance(name, tuple) and name[1] == 0):
            raise cannot_bind(bind, "the socket is not bound")
        return Listener(_describe(name, kind), kind, self.sock, None)

    @property
    def group(self) -> Hashable | None:
        """A key that is equal for the members of one TCP SO_REUSEPORT group; None: the socket is in no group.

        UDP groups are left alone: the indexes of passed sockets are unknown (they follow the order of opening), so
        datagrams could not be steered away from a slot without a worker, and would be lost there. With TCP, siblings
        accept a connection queued there.
        """
        is_tcp = self.sock.type == socket.SOCK_STREAM and self.sock.family in (socket.AF_INET, socket.AF_INET6)
        if not is_tcp or not self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT):
            return None
        return self.sock.family, self.sock.getsockname()

    def mend(self) -> bool:
        """Make the socket listen again if it was shut down; return True if so. Raises `BindError`."""
        if self.listener.kind is not ListenerKind.STREAM or not is_shut_down(self.sock):
            return False
        if self.sock.family == socket.AF_UNIX:
            raise cannot_bind(self.bind, f"{self.listener.address} was shut down by a worker: pass it anew (restart)")
        try:
            listen_again(self.sock, self._where, self._backlog)
        except OSError as error:
            raise explain(self.bind, error) from error
        return True

    def close(self) -> None:
        """Close the descriptor; may be called twice."""
        self.sock.close()


def systemd_binds(environ: MutableMapping[str, str], pid: int) -> tuple[FdBind, ...]:
    """Return the sockets that systemd opened for process `pid`, from LISTEN_PID and LISTEN_FDS (sd_listen_fds(3)).

    Marks them close-on-exec and removes the variables from `environ`, so that programs started by a worker do not use
    them. Empty if there are none for this process. Raises `BindError` if an announced descriptor is not open.
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


def inode_of(path: str) -> Inode | None:
    """Return the file that `path` names now; None if there is none."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
