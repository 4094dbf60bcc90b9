"""Why a worker cannot start, as an error that carries its exit code."""

from __future__ import annotations

from hybrid.workers.contract.exits import Exit


class BootError(Exception):
    """A worker cannot start and would not the next time either; `reason` is for a person to read."""

    def __init__(self, code: Exit, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
