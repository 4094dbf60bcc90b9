"""What the logger `hybrid` was told, for tests that expect one clear line."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def logged(level: int = logging.INFO) -> Iterator[list[str]]:
    """Give the list of records at `level` and above, as `LEVEL message`, while the block runs."""
    lines: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.levelname} {record.getMessage()}")

    logger = logging.getLogger("hybrid")
    before = logger.level, logger.propagate
    collector = Collector(level)
    logger.addHandler(collector)
    logger.setLevel(min(level, logging.DEBUG))
    logger.propagate = False
    try:
        yield lines
    finally:
        logger.removeHandler(collector)
        logger.level, logger.propagate = before
