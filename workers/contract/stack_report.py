"""The form of a report of stacks: JSON that a worker writes, and that the supervisor reads without trusting it. Pure.

A report has four sections, lists of entries: `threads`, `requests`, `tasks`, `greenlets`. What has no room is left out
and counted in `left_out`. Frames are innermost first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

SECTIONS: Final = ("threads", "requests", "tasks", "greenlets")
"""In the order in which room is given: an earlier section leaves what it does not need to the later ones."""
MOST_REPORT: Final = 1024 * 1024
"""The maximum size of one report, bytes."""
MOST_ENTRIES: Final = 200
"""The maximum entries of a section."""
MOST_FRAMES: Final = 100
"""The maximum frames of an entry: the innermost ones."""
MOST_TEXT: Final = 300
"""The maximum characters of a text."""

Entry = Mapping[str, object]
_MOST_NUMBER = 2**53
_DENSITY = 20  # bytes for each object or list; a frame has 40
_SPARE = 1000  # objects and lists, or brackets in names, beside those
_EMPTY = len('{"threads": [], "requests": [], "tasks": [], "greenlets": [], "left_out": {}}')
_COUNT = len('"greenlets": , ') + 12  # of one number in `left_out`


class ReportError(ValueError):
    """Bytes that are no report: a bug or a hostile application; never fatal to the supervisor."""


def within(entries: Iterable[Entry], most: int) -> tuple[list[str], int]:
    """Return the JSON of the first entries, in `most` bytes at most, and the number of entries left out.

    An entry without room is passed over, so that one deep stack does not hide the shallow ones behind it.
    """
    kept: list[str] = []
    left_out = 0
    for entry in entries:
        text = json.dumps(entry)
        if len(kept) < MOST_ENTRIES and len(text) + 2 <= most:
            most -= len(text) + 2  # with ", "
            kept.append(text)
        else:
            left_out += 1
    return kept, left_out


def encode(sections: Mapping[str, Iterable[Entry]], left_out: Mapping[str, int], most: int) -> bytes:
    """Return a report of at most `most` bytes, which must be 256 or more.

    `left_out`: the numbers of entries that were never made. ASCII: an escape is never shorter than the character, so
    the report does not grow when it is sent on as UTF-8.
    """
    room = most - _EMPTY - len(SECTIONS) * _COUNT
    counts = dict(left_out)
    parts = []
    for index, name in enumerate(SECTIONS):
        kept, missing = within(sections.get(name, ()), room // (len(SECTIONS) - index))
        room -= sum(len(text) + 2 for text in kept)
        counts[name] = counts.get(name, 0) + missing
        parts.append(f'"{name}": [{", ".join(kept)}]')
    counts = {name: count for name, count in counts.items() if count}
    return f'{{{", ".join(parts)}, "left_out": {json.dumps(counts)}}}'.encode("ascii")


def decode(data: bytes) -> dict[str, Any]:
    """Return the report in `data`, with only the known fields, of the right types. Raises `ReportError`."""
    if data.count(b"[") + data.count(b"{") > _SPARE + len(data) // _DENSITY:
        raise ReportError("too many values")  # a hostile one would keep the supervisor busy for a tenth of a second
    try:
        found = json.loads(data.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise ReportError(f"no JSON: {type(error).__name__}") from None
    if not isinstance(found, dict):
        raise ReportError("no JSON object")
    report: dict[str, Any] = {name: _entries(name, found.get(name)) for name in SECTIONS}
    left_out = found.get("left_out")
    if not isinstance(left_out, dict):
        raise ReportError("left_out is no object")
    report["left_out"] = {name: _count(left_out[name]) for name in SECTIONS if name in left_out}
    return report


def _entries(section: str, found: object) -> list[dict[str, object]]:
    if not isinstance(found, list) or len(found) > MOST_ENTRIES:
        raise ReportError(f"{section} is no list, or too long")
    fields = _FIELDS[section]
    return [{name: read(_member(entry, name)) for name, read in fields.items()} for entry in found]


def _member(found: object, name: str) -> object:
    if not isinstance(found, dict):
        raise ReportError("an entry is no object")
    return found.get(name)


def _text(found: object) -> str:
    if not isinstance(found, str):
        raise ReportError(f"no text: {type(found).__name__}")
    return found[:MOST_TEXT]


def _text_or_none(found: object) -> str | None:
    return None if found is None else _text(found)


def _flag(found: object) -> bool:
    return found is True


def _count(found: object) -> int:
    if type(found) is not int or not 0 <= found < _MOST_NUMBER:
        raise ReportError("no count")
    return found


def _seconds_or_none(found: object) -> float | None:
    if found is None:
        return None
    if type(found) not in (int, float) or not 0 <= found < _MOST_NUMBER:  # type: ignore[operator]
        raise ReportError("no number of seconds")  # NaN among them
    return float(found)  # type: ignore[arg-type]


def _frames(found: object) -> list[dict[str, object]]:
    if not isinstance(found, list) or len(found) > MOST_FRAMES:
        raise ReportError("frames are no list, or too many")
    return [_frame(one) for one in found]


def _frame(found: object) -> dict[str, object]:
    line = _member(found, "line")
    return frame(
        _text(_member(found, "file")),
        None if line is None else _count(line),
        _text(_member(found, "function")),
        is_ours=_flag(_member(found, "ours")),
    )


def frame(file: str, line: int | None, function: str, *, is_ours: bool) -> dict[str, object]:
    """Return a frame of an entry; `line` is None if it is not known. The end of a long path counts, not its start."""
    made: dict[str, object] = {"file": file[-MOST_TEXT:], "line": line, "function": function[:MOST_TEXT]}
    if is_ours:
        made["ours"] = True
    return made


_FIELDS: dict[str, dict[str, Callable[[object], object]]] = {
    "threads": {"name": _text, "is_loop": _flag, "frames": _frames, "is_cut": _flag},
    "requests": {"method": _text, "path": _text, "seconds": _seconds_or_none, "id": _text_or_none},
    "tasks": {"name": _text, "waits_for": _text_or_none, "frames": _frames, "is_cut": _flag},
    "greenlets": {"name": _text, "frames": _frames, "is_cut": _flag},
}
