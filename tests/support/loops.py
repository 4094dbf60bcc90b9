"""The loops that handler tests run on: HYBRID_TEST_LOOP chooses them.

    not set   every test on epoll, but for a few that take long or repeat another one; on the others the chosen ones of
              `support.short_set`
    NAME      every test on the loop of that name, none on another (the tox matrix sets it)
    all       every test on every loop

A test takes its loops from `LOOPS`. Which of them run in the short set is decided after the collection (conftest.py).
"""

from __future__ import annotations

import os

ALL_LOOPS = ("select", "poll", "epoll", "gevent", "asyncio", "uvloop")
HUB_LOOPS = ("select", "poll", "epoll")  # loops that run on the hub
DEFAULT = "epoll"  # of `hybrid run`


def _chosen() -> tuple[str, ...]:
    only = os.environ.get("HYBRID_TEST_LOOP")
    if not only or only == "all":
        return ALL_LOOPS
    if only not in ALL_LOOPS:
        raise ValueError(f"HYBRID_TEST_LOOP is {only!r}; use one of {', '.join(ALL_LOOPS)}, or all")
    return (only,)


def _whole() -> tuple[str, ...]:
    return _chosen() if _is_asked() else (DEFAULT,)


def _is_asked() -> bool:
    return bool(os.environ.get("HYBRID_TEST_LOOP"))


MATRIX = _is_asked()
"""True if every test of a loop, or of all loops, is to run, including slow ones."""
LOOPS = _chosen()
WHOLE = _whole()
"""Those of `LOOPS` on which every test runs; without HYBRID_TEST_LOOP but for a few, see `support.short_set`."""
