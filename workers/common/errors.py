"""`BootError`: why a worker cannot start, with its exit code."""

from __future__ import annotations

from hybrid.workers.contract.exits import Exit


class BootError(Exception):
    """A worker cannot start, and a retry would not help; `reason` is for people."""

    def __init__(self, code: Exit, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
