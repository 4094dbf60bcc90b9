"""The loops that handler tests run on: all six, or the one that HYBRID_TEST_LOOP names (the tox matrix sets it)."""

from __future__ import annotations

import os

ALL_LOOPS = ("select", "poll", "epoll", "gevent", "asyncio", "uvloop")
HUB_LOOPS = ("select", "poll", "epoll")  # those that run on the hub of ours


def _chosen() -> tuple[str, ...]:
    only = os.environ.get("HYBRID_TEST_LOOP")
    if not only:
        return ALL_LOOPS
    if only not in ALL_LOOPS:
        raise ValueError(f"HYBRID_TEST_LOOP is {only!r}; use one of {', '.join(ALL_LOOPS)}")
    return (only,)


LOOPS = _chosen()
