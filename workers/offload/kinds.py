"""The kinds of messages between callers and those who run calls; see `letters`."""

from __future__ import annotations

from typing import Final

CALL: Final = 1
"""A call."""
RESULT: Final = 2
"""What the function has returned."""
RAISED: Final = 3
"""What the function has raised, with its traceback."""
FAILED: Final = 4
"""Why there is no outcome: a text."""
