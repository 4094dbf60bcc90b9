"""A ready check that reads a file of the working directory: the worker is ready if there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def ready_check(worker: Any) -> bool:
    if Path("reason").exists():
        raise ConnectionError(Path("reason").read_text())
    return True
