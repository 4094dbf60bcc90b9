"""The contract of the control socket: requests with the shapes of their answers.

`tests/contract/test_control.py` holds every supervisor to it, the fake (`support.control_peer`) and real ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple


class Shape:
    """A shape that is more than a type."""

    def complaints(self, value: object, place: str) -> Iterator[str]:
        """Yield where a value differs."""
        raise NotImplementedError


class Either(Shape):
    """One of several shapes."""

    def __init__(self, *shapes: object) -> None:
        self.shapes = shapes

    def complaints(self, value: object, place: str) -> Iterator[str]:
        if all(any(True for _ in complaints(value, shape, place)) for shape in self.shapes):
            yield f"{place}: {value!r} is none of {len(self.shapes)} shapes"


class Word(Shape):
    """One of several texts."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def complaints(self, value: object, place: str) -> Iterator[str]:
        if value not in self.words:
            yield f"{place}: {value!r} is not one of {self.words}"


class Each(Shape):
    """An object of which each value has one shape."""

    def __init__(self, shape: object) -> None:
        self.shape = shape

    def complaints(self, value: object, place: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{place}: {value!r} is no object"
            return
        for key, one in value.items():
            yield from complaints(one, self.shape, f"{place}.{key}")


def complaints(value: object, shape: object, place: str = "") -> Iterator[str]:
    """Yield where a value differs from a shape; nothing if it fits.

    A shape is a type, None, `[shape]` for a list of any length, an object with the keys that must be there (more may
    be; those that end in a question mark may be missing), or a `Shape`. A whole number is a `float` too, a bool is not.
    """
    match shape:
        case Shape():
            yield from shape.complaints(value, place)
        case dict():
            if not isinstance(value, dict):
                yield f"{place}: {value!r} is no object"
                return
            for key, one in shape.items():
                name = key.removesuffix("?")
                if name in value:
                    yield from complaints(value[name], one, f"{place}.{name}")
                elif name == key:
                    yield f"{place}: has no {name!r}"
        case [one]:
            if not isinstance(value, list):
                yield f"{place}: {value!r} is no list"
                return
            for number, each in enumerate(value):
                yield from complaints(each, one, f"{place}[{number}]")
        case None:
            if value is not None:
                yield f"{place}: {value!r} is not null"
        case type():
            accepted = (int, float) if shape is float else (shape,)
            if not isinstance(value, accepted) or (isinstance(value, bool) and shape is not bool):
                yield f"{place}: {value!r} is no {shape.__name__}"


def _or_null(shape: object) -> Either:
    return Either(shape, None)


WORKER_SHAPE = {
    "slot": int, "pid": _or_null(int), "generation": int, "up": _or_null(float), "restarts": int,
    "state": Word("booting", "failed", "ready", "draining", "aborted", "killed", "waiting", "done"),
    "stalled": _or_null(float), "where": _or_null(str), "busy": _or_null(float),
    "requests_per_second": _or_null(float), "requests": _or_null(int), "in_flight": _or_null(int),
    "connections": _or_null(int), "accepted": _or_null(int), "adopted": _or_null(int),
    "queue": _or_null(int), "lag_p99": _or_null(float),
    "memory": _or_null(int), "responses?": Each(int), "bytes_in?": int, "bytes_out?": int, "busy_seconds?": float,
    "log_dropped?": _or_null(int),
}  # fmt: skip
SERVICE_SHAPE = {
    "name": str, "kind": Word("application", "command"), "target": str, "loop": str, "interface": str,
    "phase": Word("waiting", "starting", "serving", "stopping", "ended", "failed"),
    "generation": int, "addresses": [str], "wanted": int, "ready": int, "is_reloading": bool, "depends": [str],
    "last_reload": _or_null({"outcome": str, "reason": str, "at": float}),
    "last_death": _or_null({"slot": int, "pid": int, "how": str, "at": float}),
    "failure": _or_null(str), "workers": [WORKER_SHAPE],
    "queues": [{"address": str, "slot": _or_null(int), "waiting": int, "limit": int}],
}  # fmt: skip
STATUS_SHAPE = {
    "name": str, "pid": int, "version": str, "python": str, "phase": str, "up": float, "at": float,
    "since": float, "log_dropped": int,
    "services": [SERVICE_SHAPE],
}  # fmt: skip
GREETING_SHAPE = {"hybrid": str, "protocol": int, "name": str, "pid": int}
FRAMES_SHAPE = [{"file": str, "line": int, "function": str}]
STACKS_SHAPE = {
    "workers": [
        {
            "service": str, "slot": int, "pid": int, "generation": int, "source": Word("loop", "signal"),
            "threads": [{"name": str, "is_loop": bool, "frames": FRAMES_SHAPE}],
            "greenlets": [{"frames": FRAMES_SHAPE}],
            "tasks": [{"name": str, "waits_for": _or_null(str), "frames": FRAMES_SHAPE}],
            "requests": [{"method": str, "path": str, "seconds": float, "id": _or_null(str)}], "error": _or_null(str),
        }
    ]
}  # fmt: skip
BLOCKER_SHAPE = {"service": str, "where": str, "stalls": int, "seconds": float}
LABEL_SHAPE = {
    "service": str, "label": str, "requests": int, "responses": Each(int), "seconds": float, "loop_seconds": float,
    "cpu_seconds": float,
}  # fmt: skip
EVENT_SHAPE = {
    "event": str, "at": float, "service?": _or_null(str), "slot?": _or_null(int), "pid?": _or_null(int),
    "generation?": _or_null(int),
}  # fmt: skip
PROGRESS_SHAPE = Either(
    {"service?": str, "ready": int, "of": int},
    {"left": int},
    {"pid": int},
)


class Clause(NamedTuple):
    """A request and the shape of its answer, of a supervisor with one application `web` of two workers."""

    number: int
    request: dict[str, object] | bytes
    """Bytes: a line as it is."""
    result: object = None
    """The shape of the result; None: it is an error."""
    code: str = ""
    """The code of the error."""
    ends: bool = False
    """The supervisor ends, so this clause is the last one."""


def _clause(number: int, name: str, answer: object = None, **given: Any) -> Clause:
    code, ends = given.pop("code", ""), given.pop("ends", False)
    return Clause(number, {"id": number, "request": name, **given}, answer, code, ends)


CONTRACT: Sequence[Clause] = (
    _clause(1, "ping", {}),
    _clause(2, "status", STATUS_SHAPE),
    _clause(3, "status", STATUS_SHAPE, service="web"),
    _clause(4, "status", code="unknown_service", service="nowhere"),
    _clause(5, "scale", {"service": str, "workers": int}, service="web", workers=3),
    _clause(6, "scale", {"service": str, "workers": int}, by=-1),
    _clause(7, "restart", {"service": str, "slot": int, "pid": int}, service="web", slot=0),
    _clause(8, "restart", code="unknown_slot", service="web", slot=99),
    _clause(9, "reload", {"services": Each({"generation": int})}, service="web"),
    _clause(10, "reload", {"services": Each({"generation": int})}),
    _clause(11, "reload", code="unknown_service", service="nowhere"),
    _clause(12, "stacks", STACKS_SHAPE),
    _clause(13, "stacks", STACKS_SHAPE, service="web", slot=0),
    _clause(14, "loglevel", {"level": str}, level="debug"),
    _clause(15, "loglevel", {"level": str, "for": float}, level="debug", **{"for": 60}),
    _clause(16, "subscribe", {"recent?": [EVENT_SHAPE]}),
    _clause(21, "status", STATUS_SHAPE, fresh=False),
    _clause(22, "blockers", {"blockers": [BLOCKER_SHAPE]}),
    _clause(23, "blockers", code="unknown_service", service="nowhere"),
    _clause(24, "labels", {"labels": [LABEL_SHAPE]}),
    _clause(25, "labels", code="unknown_service", service="nowhere"),
    _clause(17, "no_such_request", code="bad_request"),
    Clause(18, b"this is no JSON\n", code="bad_request"),
    Clause(19, b"[1, 2]\n", code="bad_request"),
    _clause(20, "stop", {"code": int}, ends=True),
)
