"""What a supervisor and its successor tell each other, and its form: one datagram of JSON each, descriptors beside it.

    successor                                       predecessor
    Want(slots)      I run more workers than    ->
                     you have sockets
                                                <-  Grant(entries)... Granted   here are some more
                                                <-  Cannot(reason)              there are none
    Serving(taken)   all my workers serve       ->
                                                <-  Grant(entries)...           made since you asked
                                                <-  Yours                       steer, and keep the files
    Taken            I do                       ->                              (now it drains)

EOF before `Yours` means for the successor that it is not wanted, before `Taken` for the predecessor that it has failed:
so there is always exactly one of the two whose sockets they are.
"""

from __future__ import annotations

import array
import dataclasses
import json
import socket
from collections.abc import Sequence
from typing import Any, Final

from hybrid.workers.contract.records import record

MOST_DESCRIPTORS: Final = 250
"""Beside one message; the kernel takes 253 (SCM_MAX_FD, linux/net/scm.h)."""
_LONGEST: Final = 32 * 1024  # bytes; far below a socket buffer's default


class WireError(Exception):
    """The other supervisor is gone, or says what cannot be understood; the text says which."""


@record(frozen=True, slots=True)
class Want:
    """Have sockets for `slots` slots."""

    slots: int


@record(frozen=True, slots=True)
class Grant:
    """Beside this travel members of groups."""

    entries: tuple[int, ...]
    """For each descriptor the number of its address in what was offered; of each address in order of slots."""


@record(frozen=True, slots=True)
class Granted:
    """These are all that were wanted."""


@record(frozen=True, slots=True)
class Cannot:
    """There are no further sockets."""

    reason: str


@record(frozen=True, slots=True)
class Serving:
    """All slots are served; `taken` are the numbers of the addresses that are in use."""

    taken: tuple[int, ...]


@record(frozen=True, slots=True)
class Yours:
    """Everything is the successor's."""


@record(frozen=True, slots=True)
class Taken:
    """The successor steers, and its files are in place."""


Word = Want | Grant | Granted | Cannot | Serving | Yours | Taken
_KINDS: Final[dict[str, type[Word]]] = {
    kind.__name__: kind for kind in (Want, Grant, Granted, Cannot, Serving, Yours, Taken)
}


class Line:
    """One end of the line between two supervisors. No method blocks."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock

    def fileno(self) -> int:
        """Return the descriptor to poll: readable means a word or EOF; -1 once closed."""
        return self._sock.fileno()

    def say(self, word: Word, descriptors: Sequence[int] = ()) -> None:
        """Say `word`, with at most `MOST_DESCRIPTORS` descriptors. Raises `WireError`; then it was not said."""
        # of a reason only the beginning matters, and all but ASCII is escaped to at most 12 bytes
        fields = {name: value[:1000] if isinstance(value, str) else value for name, value in _fields(word).items()}
        datagram = json.dumps({"type": type(word).__name__, **fields}).encode("ascii")
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            self._sock.sendmsg([datagram], rights, socket.MSG_NOSIGNAL)
        except OSError as error:
            raise WireError(f"cannot talk to the other supervisor: {(error.strerror or str(error)).lower()}") from error

    def hear_nowait(self) -> tuple[Word, list[int]] | None:
        """Return the next word and the descriptors beside it, which are the caller's to close; None: there is none.

        Raises `WireError` at EOF and for what is no word; after that nothing is to be expected from the other side.
        """
        space = socket.CMSG_LEN(MOST_DESCRIPTORS * array.array("i").itemsize)
        try:  # not by socket.recv_fds, which does not pass flags on (CPython 3.11): a program could inherit them
            datagram, ancillary, flags, _ = self._sock.recvmsg(_LONGEST, space, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return None
        except OSError as error:
            raise WireError(f"the other supervisor is gone ({(error.strerror or str(error)).lower()})") from error
        descriptors = _descriptors(ancillary)
        if not datagram:
            raise WireError("the other supervisor is gone")
        try:
            word = _parse(datagram)
            if flags & socket.MSG_CTRUNC or len(descriptors) != (len(word.entries) if isinstance(word, Grant) else 0):
                raise WireError("a descriptor got lost on the way: too many are open (ulimit -n)")
        except WireError:
            for fd in descriptors:
                socket.close(fd)
            raise
        return word, descriptors

    def hang_up(self) -> None:
        """Let the other side see EOF, also if a child of this process holds a copy of our end; and close it."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:  # the other side is gone, or this end is closed
            pass
        finally:
            self._sock.close()

    def close(self) -> None:
        """Close this end; may be called twice. For a child that has inherited it too."""
        self._sock.close()


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return list(found)


def _fields(word: Word) -> dict[str, object]:
    return {field.name: getattr(word, field.name) for field in dataclasses.fields(word)}


def _parse(datagram: bytes) -> Word:
    """Return the word in `datagram`. Raises `WireError`: the other side may be another version of this program."""
    try:
        fields = json.loads(datagram)
        kind = _KINDS[fields.pop("type")]
        plain: dict[str, Any] = {name: tuple(item) if isinstance(item, list) else item for name, item in fields.items()}
        word = kind(**plain)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WireError(f"the other supervisor says what this version does not know: {datagram[:80]!r}") from error
    if not all(_is_plain(field.type, getattr(word, field.name)) for field in dataclasses.fields(word)):
        raise WireError(f"the other supervisor says what this version does not know: {datagram[:80]!r}")
    return word


def _is_plain(annotation: object, value: object) -> bool:
    match annotation:
        case "int":
            return type(value) is int
        case "str":
            return type(value) is str
        case _:
            return type(value) is tuple and all(type(item) is int for item in value)
