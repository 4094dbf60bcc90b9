"""What a worker tells its supervisor, as types, and their form on the wire.

A message is one datagram of JSON: ``{"type": "Ready", ...fields}``. JSON and not pickle, because the other side of the
channel runs application code and must not be able to make the supervisor run any.
"""

from __future__ import annotations

import dataclasses
import json

MAX_MESSAGE = 32 * 1024  # bytes; far below a socket buffer's default (208 KiB): one always fits when it is empty
# characters of a text field; a quarter of it where JSON's escapes (up to 12 bytes a character) need more
_MAX_TEXT = 4 * 1024


class MessageError(ValueError):
    """A datagram that is no message of ours: a bug or a hostile application; never fatal to the supervisor."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ready:
    """The worker has loaded the application, runs its loop and accepts connections."""

    loop: str
    """Name of the event loop in use (`epoll`, `gevent`, ...)."""
    interface: str
    """What the application turned out to be, e.g. `async stream`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Draining:
    """The worker accepts no more and ends once its connections have; the supervisor may not have asked for it."""


@dataclasses.dataclass(frozen=True, slots=True)
class BootFailed:
    """The worker cannot start, and a second try would fail alike: it ends with `code`."""

    code: int
    """A value of `Exit`."""
    reason: str
    """One or a few lines for a person: what happened, where, what to type next."""


Message = Ready | Draining | BootFailed
_TYPES: dict[str, type[Message]] = {kind.__name__: kind for kind in (Ready, Draining, BootFailed)}


def encode(message: Message) -> bytes:
    """Return `message` as one datagram of at most `MAX_MESSAGE` bytes; long texts are cut."""
    encoded = _encoded(message, _MAX_TEXT)
    return encoded if len(encoded) <= MAX_MESSAGE else _encoded(message, _MAX_TEXT // 4)


def _encoded(message: Message, longest: int) -> bytes:
    fields = {
        field.name: value[:longest] if isinstance(value := getattr(message, field.name), str) else value
        for field in dataclasses.fields(message)
    }
    # json's default escapes all but ASCII: a lone surrogate of a file name cannot fail to encode
    return json.dumps({"type": type(message).__name__, **fields}).encode("ascii")


def decode(datagram: bytes) -> Message:
    """Return the message in `datagram`.

    Raises `MessageError` when it is none: the peer runs code we do not know.
    """
    try:
        fields = json.loads(datagram)
        kind = _TYPES[fields.pop("type")]
        message = kind(**fields)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MessageError(f"not a control message: {datagram[:80]!r}") from error
    for field in dataclasses.fields(message):
        if type(getattr(message, field.name)).__name__ != field.type:
            raise MessageError(f"{kind.__name__}.{field.name} is not {field.type}: {datagram[:80]!r}")
    return message
