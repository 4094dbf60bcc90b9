"""The lines of the control protocol as objects. Pure: bytes in, objects out.

Every field may be missing or of another type, because the server may be of another version: what cannot be understood
is left out, and only a first line that is no greeting is an error.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from hybrid.control.errors import ControlError, OtherProtocolError, RefusedError, RequestError

PROTOCOL: Final = 1
MAX_LINE: Final = 16 << 20  # bytes; a status of 1,000 workers has half a megabyte

_REFUSALS = frozenset({"refused", "busy"})


@dataclasses.dataclass(frozen=True, slots=True)
class Greeting:
    """The first line of a supervisor."""

    version: str
    """Of hybrid."""
    name: str
    pid: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """The answer to a request that was carried out."""

    id: object
    value: dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """The answer to a request that was not carried out."""

    id: object
    """None: the line that it answers could not be read."""
    code: str
    reason: str

    def error(self) -> ControlError:
        """Return the error to raise for it."""
        return RefusedError(self.reason) if self.code in _REFUSALS else RequestError(self.code, self.reason)


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """A long request was accepted, or has come further."""

    id: object
    value: dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """Something has happened; sent after `subscribe`."""

    value: dict[str, Any]


Message = Result | Failure | Progress | Event


def greeting_of(line: bytes) -> Greeting:
    """Return the greeting in the first line of a supervisor.

    Raises `RefusedError` if it is a refusal, and `OtherProtocolError` if it is of another protocol or version.
    """
    fields = _object(line)
    match fields:
        case {"error": Mapping() as error}:
            raise _failure(None, error).error()
        case {"hybrid": str(version), "protocol": int(protocol), **rest} if protocol == PROTOCOL:
            pid = rest.get("pid")
            return Greeting(version, str(rest.get("name", "")), pid if type(pid) is int else None)
        case {"hybrid": str(version), "protocol": protocol}:
            raise OtherProtocolError(
                f"hybrid {version} speaks version {protocol!r} of the control protocol, this command version "
                f"{PROTOCOL}: use the hybrid command of that installation"
            )
    raise OtherProtocolError("it does not speak hybrid's control protocol")


def message_of(line: bytes) -> Message | None:
    """Return the message in a line; None for one of an unknown shape. Raises `OtherProtocolError` if it is no JSON."""
    match _object(line):
        case {"event": _, **rest} as fields if "id" not in rest:
            return Event(fields)
        case {"progress": Mapping() as value, **rest}:
            return Progress(rest.get("id"), dict(value))
        case {"error": Mapping() as error, **rest}:
            return _failure(rest.get("id"), error)
        case {"result": value, **rest}:
            return Result(rest.get("id"), dict(value) if isinstance(value, Mapping) else {})
    return None


def request_line(number: int, name: str, parameters: Mapping[str, object]) -> bytes:
    """Return a request; parameters that are None are left out."""
    given = {key: value for key, value in parameters.items() if value is not None}
    return json.dumps({"id": number, "request": name, **given}).encode() + b"\n"


def _failure(number: object, error: Mapping[str, Any]) -> Failure:
    code, reason = str(error.get("code", "failed")), error.get("reason")
    return Failure(number, code, str(reason) if reason else code)


def _object(line: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise OtherProtocolError("it sent a line that is no JSON object: it is not hybrid, or is of another version")
    return fields


class Lines:
    """Bytes as they come, in lines."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []  # a line that has no end yet
        self._size = 0  # bytes in _parts

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the lines that `data` completes, without their ends. Raises `OtherProtocolError` for an endless one."""
        *complete, rest = data.split(b"\n")
        for line in complete:
            whole = b"".join((*self._parts, line))
            self._parts, self._size = [], 0
            if whole.strip():
                yield whole
        if rest:
            self._parts.append(rest)
            self._size += len(rest)
        if self._size > MAX_LINE:
            raise OtherProtocolError(f"it sent a line of more than {MAX_LINE >> 20} MiB")
