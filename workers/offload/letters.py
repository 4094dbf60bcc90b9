"""A call or its outcome as one message on a SOCK_SEQPACKET connection.

    head      version, kind, number of buffers, 1 if dill has made the pickle, key, seconds that a call ran
    lengths   of the pickle, and of each buffer
    content   the pickle and the buffers, each at a multiple of 64 bytes from the beginning of the content

A small content is in the message. A large one is in a sealed memfd, which the message carries (SCM_RIGHTS, unix(7)): it
is copied once, and the receiver maps it. One message per direction makes "read or not" exact: see `desk`.
"""

from __future__ import annotations

import _socket
import array
import contextlib
import errno
import fcntl
import mmap
import os
import socket
import struct
from collections.abc import Sequence
from typing import Any, Final

from hybrid.workers.contract.records import record
from hybrid.workers.offload.kinds import CALL, FAILED, RAISED, RESULT
from hybrid.workers.offload.packing import MOST_BUFFERS, Packed, unpack

__all__ = (
    "CALL",
    "FAILED",
    "RAISED",
    "RESULT",
    "BadLetter",
    "Letter",
    "NoDescriptor",
    "Receiver",
    "encode",
    "new_socket",
    "send",
)

_VERSION: Final = 1
_HEAD: Final = struct.Struct("=BBHIQd")
_LENGTH: Final = struct.Struct("=Q")
_INLINE: Final = 128 * 1024  # bytes of content; below SO_SNDBUF - 32, the largest message of the kernel's defaults
_MESSAGE: Final = _HEAD.size + _LENGTH.size * (MOST_BUFFERS + 1) + _INLINE
_ALIGNMENT: Final = 64
_PAD: Final = bytes(_ALIGNMENT)
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
_CREDENTIALS: Final = struct.Struct("=iII")  # pid, uid, gid: SCM_CREDENTIALS, unix(7)
_ANCILLARY: Final = _socket.CMSG_SPACE(array.array("i").itemsize) + _socket.CMSG_SPACE(_CREDENTIALS.size)


_FLAGS: Final = _socket.MSG_CMSG_CLOEXEC | _socket.MSG_DONTWAIT


class BadLetter(ValueError):  # noqa: N818 - internal
    """What came is no message of this protocol."""


class NoDescriptor(OSError):  # noqa: N818 - internal
    """A message stays where it is: this process has no descriptor left for its content (EMFILE, ENFILE)."""


@record(frozen=True, slots=True)
class Letter:
    """A received message."""

    kind: int
    key: int
    """Names the call to the supervisor: see `desk`."""
    pickle: bytes | memoryview
    buffers: Sequence[Any]
    """Writable, and of this process alone."""
    is_dill: bool
    ran: float
    """Seconds that the call ran, in an answer."""
    uid: int
    """The account that sent it, if the socket was asked to report that (SO_PASSCRED, unix(7)); -1: it was not."""

    def load(self) -> Any:
        """Return the object. Runs code of its classes; raises whatever that raises."""
        return unpack(self.pickle, self.buffers, is_dill=self.is_dill)


def encode(kind: int, key: int, packed: Packed, ran: float = 0.0) -> tuple[list[Any], int]:
    """Return the parts of a message, and the bytes of its content."""
    buffers = packed.buffers
    head = _HEAD.pack(_VERSION, kind, len(buffers), packed.is_dill, key, ran) + _LENGTH.pack(len(packed.pickle))
    parts: list[Any] = [head, packed.pickle]
    size = len(packed.pickle)
    for buffer in buffers:
        parts[0] += _LENGTH.pack(buffer.nbytes)
        gap = -size % _ALIGNMENT
        if gap:
            parts.append(_PAD[:gap])
        parts.append(buffer)
        size += gap + buffer.nbytes
    return parts, size


def send(sock: _socket.socket, kind: int, key: int, packed: Packed, ran: float = 0.0) -> None:
    """Send a message; an answer says how many seconds its call ran.

    Raises `OSError`: EPIPE if the receiver is gone, ENOMEM, EMFILE.
    """
    parts, size = encode(kind, key, packed, ran)
    if size <= _INLINE:
        try:
            sock.sendmsg(parts, (), _socket.MSG_NOSIGNAL)
            return
        except OSError as error:
            if error.errno != errno.EMSGSIZE:  # the buffers of sockets are small on this machine
                raise
    memory = _in_memory(parts[1:], size)
    try:
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", [memory]))]
        sock.sendmsg(parts[:1], rights, _socket.MSG_NOSIGNAL)
    finally:
        os.close(memory)


def _in_memory(parts: Sequence[Any], size: int) -> int:
    """Return a sealed memfd with this content (memfd_create(2))."""
    memory = os.memfd_create("hybrid-offload", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        for part in parts:
            view = memoryview(part).cast("B")
            while view:
                view = view[os.write(memory, view) :]
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(memory)
        raise
    return memory


class Receiver:
    """Receives messages into memory that it uses again: one at a time."""

    def __init__(self) -> None:
        self._memory = bytearray(_MESSAGE)
        self._view = memoryview(self._memory)

    def receive(self, sock: _socket.socket, *, keeps: bool = False) -> Letter | None:
        """Return the message of a connection; None if it has ended without one. Does not block.

        Its pickle is valid until the next call. Raises `BadLetter`; `BlockingIOError` if nothing has come;
        `ConnectionResetError` if the peer has closed without reading what was sent to it. `keeps`: raise `NoDescriptor`
        for a message that cannot be received whole now; otherwise it is lost. That costs a system call.
        """
        if keeps:
            _check_room(sock)
        size, ancillary, flags, _ = sock.recvmsg_into([self._memory], _ANCILLARY, _FLAGS)
        descriptors = _descriptors(ancillary) if ancillary else []
        try:
            if not size:
                return None
            if flags & _socket.MSG_CTRUNC and not descriptors:  # the kernel has dropped it: unix(7)
                raise BadLetter("no descriptor was left for its content: raise the limit of open files (ulimit -n)")
            if flags & (_socket.MSG_TRUNC | _socket.MSG_CTRUNC):
                raise BadLetter("it was cut")
            if len(descriptors) > 1:
                raise BadLetter("it has more than one descriptor")
            return self._read(size, descriptors, _uid(ancillary) if ancillary else -1)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _read(self, size: int, descriptors: Sequence[int], uid: int) -> Letter:
        if size < _HEAD.size + _LENGTH.size:
            raise BadLetter("it is too short")
        version, kind, count, is_dill, key, ran = _HEAD.unpack_from(self._memory)
        end = _HEAD.size + _LENGTH.size * (count + 1)
        if version != _VERSION or count > MOST_BUFFERS or end > size:
            raise BadLetter("it has another form")
        if descriptors:
            content: Any = memoryview(_mapped(descriptors[0]))
        else:
            content = self._view[end:size]
        if not count:  # most messages
            if _LENGTH.unpack_from(self._memory, _HEAD.size)[0] != len(content):
                raise BadLetter("its content has another size")
            return Letter(kind, key, content, (), is_dill == 1, ran, uid)
        lengths = struct.unpack_from(f"={count + 1}Q", self._memory, _HEAD.size)
        if _size_of(lengths) != len(content):
            raise BadLetter("its content has another size")
        place = lengths[0]
        buffers: list[Any] = []
        for length in lengths[1:]:
            place += -place % _ALIGNMENT
            one = content[place : place + length]
            buffers.append(one if descriptors else bytearray(one))
            place += length
        return Letter(kind, key, content[: lengths[0]], buffers, is_dill == 1, ran, uid)


def _check_room(sock: _socket.socket) -> None:
    """Check that a message with a descriptor can be received. Raises `NoDescriptor`, and as `recvmsg` does."""
    flags = sock.recvmsg(1, 0, _FLAGS | _socket.MSG_PEEK)[2]
    if flags & _socket.MSG_CTRUNC:  # there was no room for its descriptor in this look: unix(7)
        try:
            os.close(os.dup(sock.fileno()))
        except OSError as error:
            raise NoDescriptor(error.errno, error.strerror) from None


def _size_of(lengths: Sequence[int]) -> int:
    size = lengths[0]
    for length in lengths[1:]:
        size += -size % _ALIGNMENT + length
    return size


def _mapped(descriptor: int) -> mmap.mmap:
    """Return private memory with the content of a sealed memfd. Raises `BadLetter`."""
    try:
        if fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
            raise BadLetter("its memory may still change")
        return mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    except (OSError, ValueError) as error:
        raise BadLetter(f"its memory cannot be used: {error}") from None


def _descriptors(ancillary: Sequence[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            with contextlib.suppress(ValueError):
                found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return list(found)


def _uid(ancillary: Sequence[tuple[int, int, bytes]]) -> int:
    for level, kind, data in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_CREDENTIALS and len(data) == _CREDENTIALS.size:
            return int(_CREDENTIALS.unpack(data)[1])
    return -1


def new_socket(flags: int = 0) -> _socket.socket:
    """Return a socket of the kind that carries messages; of the C class, which gevent does not patch."""
    return _socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | flags)
