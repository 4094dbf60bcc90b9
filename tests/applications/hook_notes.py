"""Where the hooks of the tests write what has happened."""

from __future__ import annotations

import os


def note(line: str) -> None:
    """Add a line to the file NOTES."""
    with open(os.environ["NOTES"], "a") as file:  # noqa: PTH123 - one write for each line
        file.write(line + "\n")
