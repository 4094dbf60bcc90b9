"""The requests of the control line: a table, and what makes a line one of them. Pure.

A request that is not in the table, or whose parameters are wrong, is refused here. Whether a service or a slot exists,
and what the request does, is for others to say.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from hybrid.workers.contract.records import record

BAD_REQUEST: Final = "bad_request"
REFUSED: Final = "refused"
UNKNOWN_SERVICE: Final = "unknown_service"
UNKNOWN_SLOT: Final = "unknown_slot"
FAILED: Final = "failed"
STOPPING: Final = "stopping"
BUSY: Final = "busy"
CODES: Final = frozenset((BAD_REQUEST, REFUSED, UNKNOWN_SERVICE, UNKNOWN_SLOT, FAILED, STOPPING, BUSY))
"""The codes of errors."""

LEVELS: Final = ("debug", "info", "warning", "error")
MOST_TEXT: Final = 200
"""The maximum characters of an id, of the name of a service and the like: they are kept while a request is open."""
MOST_NUMBER: Final = 2**53
"""The largest number: up to there, all readers of JSON agree on whole ones."""
_SHOWN = 60  # characters of a bad value in an error

Id = int | float | str | None


class Kind(enum.Enum):
    """The type of a parameter; the value is its name in an error."""

    TEXT = f"a text of 1 to {MOST_TEXT} characters"
    COUNT = "a whole number of 0 or more"
    STEP = "a whole number"
    SECONDS = "a number of seconds above 0"
    FLAG = "true or false"
    LEVEL = "one of " + ", ".join(LEVELS)


@record(frozen=True, slots=True)
class Parameter:
    """One parameter of a request."""

    name: str
    kind: Kind
    is_required: bool = False


@record(frozen=True, slots=True)
class RequestKind:
    """A row of the table."""

    name: str
    parameters: tuple[Parameter, ...] = ()
    is_for_lookers: bool = False
    """True if members of the control group may send it."""
    exactly_one: tuple[str, ...] = ()
    """Parameters of which one must be there, and no two."""


_SERVICE = Parameter("service", Kind.TEXT)
_SLOT = Parameter("slot", Kind.COUNT)

PING: Final = RequestKind("ping", is_for_lookers=True)
SUBSCRIBE: Final = RequestKind("subscribe", is_for_lookers=True)
REQUESTS: Final = {
    kind.name: kind
    for kind in (
        PING,
        RequestKind("status", (_SERVICE, Parameter("fresh", Kind.FLAG)), is_for_lookers=True),
        RequestKind("blockers", (_SERVICE,), is_for_lookers=True),
        RequestKind("labels", (_SERVICE,), is_for_lookers=True),
        RequestKind("reload", (_SERVICE,)),
        RequestKind(
            "scale",
            (_SERVICE, Parameter("workers", Kind.COUNT), Parameter("by", Kind.STEP)),
            exactly_one=("workers", "by"),
        ),
        RequestKind("restart", (Parameter("service", Kind.TEXT, True), Parameter("slot", Kind.COUNT, True))),
        RequestKind("stop", (_SERVICE, Parameter("now", Kind.FLAG))),
        RequestKind("upgrade"),
        RequestKind("stacks", (_SERVICE, _SLOT), is_for_lookers=True),
        RequestKind("loglevel", (Parameter("level", Kind.LEVEL, True), Parameter("for", Kind.SECONDS))),
        SUBSCRIBE,
    )
}
"""Name -> request."""

_RESERVED = frozenset(("id", "request"))


class BadRequestError(ValueError):
    """A line that is no request; the text says why."""

    def __init__(self, reason: str, request_id: Id = None) -> None:
        super().__init__(reason)
        self.request_id = request_id
        """Its id; None if it has none, or cannot be read."""


def parse(line: bytes) -> tuple[Id, RequestKind, dict[str, Any]]:
    """Return the id, the kind and the parameters of a line. Raises `BadRequestError`."""
    fields = _fields_of(line)
    request_id = _id_of(fields)
    name = fields.get("request")
    kind = REQUESTS.get(name) if isinstance(name, str) else None
    if kind is None:
        known = ", ".join(REQUESTS)
        raise BadRequestError(f"unknown request {_shown(name)}; known: {known}", request_id)
    parameters = {name: value for name, value in fields.items() if name not in _RESERVED}
    if (reason := _why_wrong(kind, parameters)) is not None:
        raise BadRequestError(f"{kind.name}: {reason}", request_id)
    return request_id, kind, parameters


def _fields_of(line: bytes) -> dict[str, Any]:
    try:
        fields = _DECODER.decode(line.decode())  # not `json.loads(line)`, which takes UTF-16 too
    except RecursionError:
        raise BadRequestError("no JSON object: nested too deeply") from None
    except ValueError as error:  # invalid UTF-8, invalid JSON, a number of more than 4300 digits
        raise BadRequestError(f"no JSON object: {error}") from None
    if not isinstance(fields, dict):
        raise BadRequestError(f"no JSON object: {_shown(fields)}")
    return fields


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name appears twice")
    return fields


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)


def _id_of(fields: Mapping[str, Any]) -> Id:
    found = fields.get("id")
    if found is None or (isinstance(found, str) and len(found) <= MOST_TEXT) or _is_number(found):
        return found
    raise BadRequestError(f"id: a number up to 2^53 or a text of at most {MOST_TEXT} characters, not {_shown(found)}")


def _why_wrong(kind: RequestKind, given: Mapping[str, Any]) -> str | None:
    known = {parameter.name: parameter for parameter in kind.parameters}
    for name, value in given.items():
        if name not in known:
            takes = f"it takes: {', '.join(known)}" if known else "it takes none"
            return f"unknown parameter {_shown(name)}; {takes}"
        if not _FITS[known[name].kind](value):
            return f"{name} is {known[name].kind.value}, not {_shown(value)}"
    for parameter in kind.parameters:
        if parameter.is_required and parameter.name not in given:
            return f"{parameter.name} is missing"
    if kind.exactly_one and sum(name in given for name in kind.exactly_one) != 1:
        return f"give either {' or '.join(kind.exactly_one)}"
    return None


def _is_number(value: object) -> bool:
    """Return True for a number within bounds. 1e999 is JSON, and infinite here."""
    return type(value) in (int, float) and abs(value) <= MOST_NUMBER  # type: ignore[arg-type]


def _is_whole(value: object) -> bool:
    return type(value) is int and abs(value) <= MOST_NUMBER


_FITS: Mapping[Kind, Callable[[Any], bool]] = {
    Kind.TEXT: lambda value: isinstance(value, str) and 1 <= len(value) <= MOST_TEXT,
    Kind.COUNT: lambda value: _is_whole(value) and value >= 0,
    Kind.STEP: _is_whole,
    Kind.SECONDS: lambda value: _is_number(value) and value > 0,
    Kind.FLAG: lambda value: type(value) is bool,
    Kind.LEVEL: lambda value: isinstance(value, str) and value in LEVELS,
}


def _shown(value: object) -> str:
    """Return the beginning of a value, for an error message."""
    try:
        text = repr(value)
    except RecursionError:  # `repr` needs more of the stack for it than the JSON reader
        return "a value that is nested too deeply"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
