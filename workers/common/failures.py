"""Errors of the application's code in words: what failed, the error, and the application's frames."""

from __future__ import annotations

import os
import traceback

_OURS = f"{os.path.dirname(os.path.dirname(__file__))}{os.sep}"  # noqa: PTH120 - compared with names of files
_MOST_FRAMES = 4


def in_words(what: str, error: BaseException) -> str:
    """Return `what: error`, and below it the innermost frames, without hybrid's and the import system's."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<frozen importlib", _OURS)) and "/importlib/" not in frame.filename
    ]
    summary = "".join(traceback.format_exception_only(error)).strip()
    where = "".join(traceback.format_list(frames[-_MOST_FRAMES:])).rstrip()
    return f"{what}: {summary}" + (f"\n{where}" if where else "")
