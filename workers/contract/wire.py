"""The form of all messages between our processes: one datagram of JSON per message, with descriptors.

A message is a frozen dataclass; on the wire it is ``{"type": "Ready", ...fields}``. It is JSON and not pickle because
the other process may run application code, or be another version of this program: it must not be able to run code here.
The channel to workers, the link between two supervisors and the socket to an embedding process use this form, each with
its own set of messages. A codec refuses a type that is not in its set.
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
"""The maximum beside one message: SCM_MAX_FD, linux/net/scm.h."""
_SPACE: Final = socket.CMSG_LEN(MOST_DESCRIPTORS * array.array("i").itemsize)  # bytes
_PLAIN: Final = {kind.__name__: kind for kind in (bool, int, str)}


class UndecodableError(ValueError):
    """A datagram that is no message of the set; the text shows its first bytes, after the name of the bad field."""

    def __init__(self, reason: str, fields: dict[str, Any]) -> None:
        super().__init__(reason)
        self.fields = fields
        """The fields that could be read, to identify the message to the sender."""


class Codec(Generic[T]):
    """Encodes and decodes one set of messages. No method blocks.

    A field is annotated as `int`, `bool`, `str`, `int | None`, `object` (any JSON value), or a tuple of many of the
    first three.
    """

    def __init__(self, kinds: Iterable[type[T]], most_text: int | None = None) -> None:
        """`most_text`: texts are cut to this many characters; None: texts are not cut."""
        self._kinds = {kind.__name__: kind for kind in kinds}
        self._most_text = most_text

    def encode(self, message: T, most_text: int | None = None) -> bytes:
        """Return `message` as one datagram, with texts cut to `most_text` characters, or to the codec's own limit."""
        most = most_text or self._most_text
        fields = {
            field.name: value[:most] if isinstance(value := getattr(message, field.name), str) else value
            for field in dataclasses.fields(message)  # type: ignore[arg-type]  # a type variable cannot say "dataclass"
        }
        # json escapes all but ASCII by default, so a lone surrogate in a file name can be encoded
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
    return type(value) is _PLAIN[name] or (other == "None" and value is None)  # rejects a bool for an int


def send(sock: socket.socket, datagram: bytes, descriptors: Sequence[int] = ()) -> None:
    """Send a datagram with at most `MOST_DESCRIPTORS` descriptors; the receiver gets duplicates.

    Raises the errors of sendmsg(2), including `BlockingIOError`; then nothing is sent.
    """
    if descriptors:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        sock.sendmsg([datagram], rights, socket.MSG_NOSIGNAL)
    else:
        sock.send(datagram, socket.MSG_NOSIGNAL)


def receive(sock: socket.socket, most_bytes: int) -> tuple[bytes, list[int], bool]:
    """Return a datagram, its descriptors, and True if some were lost because too many are open.

    The caller must close the descriptors, which executed programs do not inherit. An empty datagram is EOF. Raises the
    errors of recvmsg(2), including `BlockingIOError`.
    """
    # not socket.recv_fds, which ignores its flags (CPython 3.11): programs would inherit the descriptors
    datagram, ancillary, flags, _ = sock.recvmsg(most_bytes, _SPACE, socket.MSG_CMSG_CLOEXEC)
    found = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return datagram, list(found), bool(flags & socket.MSG_CTRUNC)
