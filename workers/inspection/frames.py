"""The frames of a stack: those of Python's threads and of greenlets, innermost first. Runs no code of others."""

from __future__ import annotations

import sys
import types
from typing import Any

from hybrid.workers.contract.stack_report import MOST_FRAMES, frame


def _folder() -> str:
    """Return the folder of the package `hybrid`, with a slash; all its code is below it."""
    file = sys.modules["hybrid.workers"].__file__ or ""
    return file.rpartition("/")[0].rpartition("/")[0] + "/"


OURS = _folder()
_LAUNCHER = f"{OURS}supervisor/"  # the code that forked this process, and all its callers, are below on the stack


def frame_of(code: types.CodeType, line: int | None) -> dict[str, Any]:
    """Return the frame of a call of `code`, with `ours` if the code is hybrid's own."""
    file = code.co_filename
    return frame(file, line, code.co_qualname, is_ours=file.startswith(OURS))


def stack_of(innermost: types.FrameType | None) -> tuple[list[dict[str, Any]], bool]:
    """Return the frames of a stack, and True if the outer ones are left out: there are more than `MOST_FRAMES`."""
    found: list[dict[str, Any]] = []
    current = innermost
    while current is not None and not current.f_code.co_filename.startswith(_LAUNCHER):
        if len(found) == MOST_FRAMES:
            return found, True
        found.append(frame_of(current.f_code, current.f_lineno))
        current = current.f_back
    return found, False


def entry(name: str, innermost: types.FrameType | None) -> dict[str, Any]:
    """Return the entry of a report for a stack with a name."""
    frames, is_cut = stack_of(innermost)
    made: dict[str, Any] = {"name": name, "frames": frames}
    if is_cut:
        made["is_cut"] = True
    return made
