"""`gevent`: sync handlers get gevent's sockets and greenlets; coroutines run on an asyncio loop over gevent's hub.

asyncio is not imported before `prepare`, because gevent must patch `socket`, `ssl` and `threading` first.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import asyncio

    from hybrid.workers.loops.gevent_runtime import GeventRuntime
    from hybrid.workers.loops.gevent_selector import GeventLoop


class GeventDriver:
    """See `driver.Driver`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def prepare(self) -> None:
        """Patch the standard library, so that blocking calls of the application switch greenlets."""
        from gevent import monkey

        if not monkey.is_module_patched("socket"):
            with _entry_points_read_once():
                monkey.patch_all()
            os.register_at_fork(before=_listen_for_children)

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """Return an asyncio loop that lets gevent's greenlets run while it waits."""
        from hybrid.workers.loops.gevent_selector import GeventLoop

        return GeventLoop()

    def runtime(self, loop: asyncio.AbstractEventLoop) -> GeventRuntime:
        """Return gevent's own greenlets and sockets."""
        from hybrid.workers.loops.gevent_runtime import GeventRuntime

        return GeventRuntime(self.name, cast("GeventLoop", loop))


@contextlib.contextmanager
def _entry_points_read_once() -> Iterator[None]:
    """Let importlib.metadata answer from one look at the installed packages.

    gevent asks for plugins before and after each of its patches, 25 times, and each time all packages are read: with
    115 of them that is 0.3 of the 0.4 s of processor time that patching takes (measured).
    """
    from importlib import metadata  # gevent imports it, too; other loops do without

    usual, found = metadata.entry_points, metadata.entry_points()
    metadata.entry_points = found.select
    try:
        yield
    finally:
        metadata.entry_points = usual


def _listen_for_children() -> None:
    """Install gevent's SIGCHLD watcher before the first fork; by default gevent installs it after the fork.

    A child that had ended by then would never be reported (seen in one first fork of twenty on a busy machine). It is
    not installed earlier, because libev then waits for all children, including those of code unaware of gevent.
    """
    from gevent._hub_local import get_hub_if_exists

    from hybrid.workers import preload

    # a zygote forks without gevent and must not have a hub: its forks would share the hub's epoll set
    if get_hub_if_exists() is not None or not preload.is_warm():
        from gevent import get_hub

        get_hub().loop.install_sigchld()


driver = GeventDriver
