"""Messages between a supervisor and its successor, in the form of `workers.contract.wire`.

    successor                                       predecessor
    Want(slots,      I run more workers than    ->
         service)    you have sockets
                                                <-  Grant(entries)... Granted   here are some more
                                                <-  Cannot(reason)              there are none
    Serving(taken)   all my workers serve       ->
                                                <-  Grant(entries)...           opened since you asked
                                                <-  Yours                       steer, and keep the files
    Taken            I do                       ->                              (now it drains)

EOF before `Yours` tells the successor that it is not wanted. EOF before `Taken` tells the predecessor that the
successor failed. So exactly one of the two owns the sockets at any time. The two may be different versions of this
program: the names of the messages and of their fields are part of the protocol, and stay.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Final

from hybrid.workers.contract import wire
from hybrid.workers.contract.records import record

MOST_DESCRIPTORS: Final = 250
"""The maximum beside one message; the same in all versions of this program."""
_LONGEST: Final = 32 * 1024  # bytes; far below a socket buffer's default


class WireError(Exception):
    """The other supervisor is gone or sent a message that this version does not know; the text says which."""


@record(frozen=True, slots=True)
class Want:
    """Open sockets for `slots` slots of a service."""

    slots: int
    service: str = ""
    """Empty: of the only one."""


@record(frozen=True, slots=True)
class Grant:
    """Carries members of groups as descriptors."""

    entries: tuple[int, ...]
    """The index of the offered address, for each descriptor; in order of slots within an address."""


@record(frozen=True, slots=True)
class Granted:
    """All wanted sockets have been sent."""


@record(frozen=True, slots=True)
class Cannot:
    """No further sockets can be opened."""

    reason: str


@record(frozen=True, slots=True)
class Serving:
    """All slots are served; `taken` are the indexes of the addresses in use."""

    taken: tuple[int, ...]


@record(frozen=True, slots=True)
class Yours:
    """The successor owns the sockets now."""


@record(frozen=True, slots=True)
class Taken:
    """The successor steers connections and owns the files."""


PeerMessage = Want | Grant | Granted | Cannot | Serving | Yours | Taken
# a long reason is cut
_CODEC: Final[wire.Codec[PeerMessage]] = wire.Codec(
    (Want, Grant, Granted, Cannot, Serving, Yours, Taken), most_text=1000
)


class PeerLink:
    """One end of the socket pair between two supervisors. No method blocks."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock

    def fileno(self) -> int:
        """Return the descriptor to poll: readable means a message or EOF; -1 once closed."""
        return self._sock.fileno()

    def send(self, message: PeerMessage, descriptors: Sequence[int] = ()) -> None:
        """Send `message` with at most `MOST_DESCRIPTORS` descriptors. Raises `WireError` if it was not sent."""
        try:
            wire.send(self._sock, _CODEC.encode(message), descriptors)
        except OSError as error:
            raise WireError(f"cannot talk to the other supervisor: {(error.strerror or str(error)).lower()}") from error

    def receive_nowait(self) -> tuple[PeerMessage, list[int]] | None:
        """Return the next message and its descriptors, which the caller must close; None if none has arrived.

        Raises `WireError` at EOF and for an unknown message; then expect nothing more from the other side.
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
            message = _parse(datagram)
            if is_cut or len(descriptors) != (len(message.entries) if isinstance(message, Grant) else 0):
                raise WireError("a descriptor got lost on the way: too many are open (ulimit -n)")
        except WireError:
            for fd in descriptors:
                os.close(fd)
            raise
        return message, descriptors

    def shut_down(self) -> None:
        """Close this end so that the other side sees EOF even if a child of this process holds a copy of it."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:  # the other side is gone, or this end is closed
            pass
        finally:
            self._sock.close()

    def close(self) -> None:
        """Close this end; may be called twice, and in a child that inherited it."""
        self._sock.close()


def _parse(datagram: bytes) -> PeerMessage:
    """Return the message in `datagram`. Raises `WireError`: the other side may be another version of this program."""
    try:
        return _CODEC.decode(datagram)
    except wire.UndecodableError as error:
        raise WireError(f"this version does not know a message of the other supervisor: {error}") from error
