"""The form of what processes of ours tell each other: one datagram of JSON for each message, descriptors beside it.

A message is a frozen dataclass; on the wire it is ``{"type": "Ready", ...fields}``. JSON and not pickle, because the
other process may run application code, or be another version of this program: it must not be able to make us run any.
The channel to workers, the line between two supervisors and the line to an embedding process speak this, each with
its own set of messages.
"""

from __future__ import annotations

import array
import dataclasses
import json
import socket
from collections.abc import Iterable, Sequence
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")
MOST_DESCRIPTORS: Final = 253
"""Beside one message: SCM_MAX_FD, linux/net/scm.h."""
_SPACE: Final = socket.CMSG_LEN(MOST_DESCRIPTORS * array.array("i").itemsize)  # bytes
_PLAIN: Final = {kind.__name__: kind for kind in (bool, int, str)}


class UndecodableError(ValueError):
    """A datagram that is no message of the set; the text shows its first bytes, behind the name of a field at fault."""

    def __init__(self, reason: str, fields: dict[str, Any]) -> None:
        super().__init__(reason)
        self.fields = fields
        """What could be read of it, to tell the sender which message is meant."""


class Codec(Generic[T]):
    """Encodes and decodes one set of messages. No method blocks.

    A field is annotated as `int`, `bool`, `str`, `int | None`, `object` (any JSON value), or a tuple of many of the
    first three.
    """

    def __init__(self, kinds: Iterable[type[T]], most_text: int | None = None) -> None:
        """`most_text`: characters after which a text is cut; None: texts travel whole."""
        self._kinds = {kind.__name__: kind for kind in kinds}
        self._most_text = most_text

    def encode(self, message: T, most_text: int | None = None) -> bytes:
        """Return `message` as one datagram, with texts cut after `most_text` characters, or as this codec does."""
        most = most_text or self._most_text
        fields = {
            field.name: value[:most] if isinstance(value := getattr(message, field.name), str) else value
            for field in dataclasses.fields(message)  # type: ignore[arg-type]  # a type variable cannot say "dataclass"
        }
        # json's default escapes all but ASCII: a lone surrogate of a file name cannot fail to encode
        return json.dumps({"type": type(message).__name__, **fields}).encode("ascii")

    def decode(self, datagram: bytes) -> T:
        """Return the message in `datagram`. Raises `UndecodableError`."""
        fields: Any = None
        try:
            fields = json.loads(datagram)
            given: dict[str, Any] = {
                name: tuple(value) if type(value) is list else value for name, value in fields.items()
            }
            kind = self._kinds[given.pop("type")]
            message = kind(**given)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            known = fields if isinstance(fields, dict) else {}
            raise UndecodableError(f"{datagram[:80]!r}", known) from error
        for field in dataclasses.fields(message):  # type: ignore[arg-type]
            if not _is_of(getattr(message, field.name), str(field.type)):
                reason = f"{kind.__name__}.{field.name} is not {field.type}: {datagram[:80]!r}"
                raise UndecodableError(reason, fields)
        return message


def _is_of(value: object, annotation: str) -> bool:
    if annotation.startswith("tuple["):
        item = annotation.removeprefix("tuple[").removesuffix(", ...]")
        return type(value) is tuple and all(type(one) is _PLAIN[item] for one in value)
    if annotation == "object":
        return True
    name, _, other = annotation.partition(" | ")
    return type(value) is _PLAIN[name] or (other == "None" and value is None)  # a bool is no int here


def send(sock: socket.socket, datagram: bytes, descriptors: Sequence[int] = ()) -> None:
    """Send a datagram with at most `MOST_DESCRIPTORS` descriptors, of which the receiver gets duplicates.

    Raises what sendmsg(2) does, `BlockingIOError` among it; then nothing is sent.
    """
    if descriptors:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        sock.sendmsg([datagram], rights, socket.MSG_NOSIGNAL)
    else:
        sock.send(datagram, socket.MSG_NOSIGNAL)


def receive(sock: socket.socket, most_bytes: int) -> tuple[bytes, list[int], bool]:
    """Return a datagram, the descriptors beside it, and whether some of them were lost because too many are open.

    The descriptors are the caller's to close, and no program inherits them. An empty datagram is the end of the
    stream. Raises what recvmsg(2) does, `BlockingIOError` among it.
    """
    # not by socket.recv_fds, which does not pass flags on (CPython 3.11): a program could inherit them
    datagram, ancillary, flags, _ = sock.recvmsg(most_bytes, _SPACE, socket.MSG_CMSG_CLOEXEC)
    found = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return datagram, list(found), bool(flags & socket.MSG_CTRUNC)
