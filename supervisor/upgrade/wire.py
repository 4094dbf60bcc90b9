"""What a supervisor and its successor tell each other. `workers.contract.wire` says how it travels.

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

import os
import socket
from collections.abc import Sequence
from typing import Final

from hybrid.workers.contract import wire
from hybrid.workers.contract.records import record

MOST_DESCRIPTORS: Final = 250
"""Beside one message: all versions of this program agree on this."""
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
# of a reason only the beginning matters
_CODEC: Final[wire.Codec[Word]] = wire.Codec((Want, Grant, Granted, Cannot, Serving, Yours, Taken), most_text=1000)


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
        try:
            wire.send(self._sock, _CODEC.encode(word), descriptors)
        except OSError as error:
            raise WireError(f"cannot talk to the other supervisor: {(error.strerror or str(error)).lower()}") from error

    def hear_nowait(self) -> tuple[Word, list[int]] | None:
        """Return the next word and the descriptors beside it, which are the caller's to close; None: there is none.

        Raises `WireError` at EOF and for what is no word; after that nothing is to be expected from the other side.
        """
        try:
            datagram, descriptors, is_cut = wire.receive(self._sock, _LONGEST)
        except BlockingIOError:
            return None
        except OSError as error:
            raise WireError(f"the other supervisor is gone ({(error.strerror or str(error)).lower()})") from error
        if not datagram:
            raise WireError("the other supervisor is gone")
        try:
            word = _parse(datagram)
            if is_cut or len(descriptors) != (len(word.entries) if isinstance(word, Grant) else 0):
                raise WireError("a descriptor got lost on the way: too many are open (ulimit -n)")
        except WireError:
            for fd in descriptors:
                os.close(fd)
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


def _parse(datagram: bytes) -> Word:
    """Return the word in `datagram`. Raises `WireError`: the other side may be another version of this program."""
    try:
        return _CODEC.decode(datagram)
    except wire.UndecodableError as error:
        raise WireError(f"the other supervisor says what this version does not know: {error}") from error
