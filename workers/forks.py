"""What a process gives up that a handler forks: it must not act for the worker, whose descriptors it shares.

Two dangers, both measured: Python's signal wake-up descriptor is shared, so that a SIGTERM for the child drains the
worker; and an epoll set is shared, so that a socket closed in the child is no longer watched in the worker (epoll(7),
"Questions").
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable
from typing import NoReturn

from hybrid.workers.contract.channel import Channel

_log = logging.getLogger("hybrid")
_RESET = (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1, signal.SIGUSR2)


def guard(channel: Channel, abandon: Callable[[], None]) -> None:
    """From now on have every forked child give up `channel`, the worker's signals, and by `abandon()` its loop."""
    masks: list[set[int]] = []  # of the thread that forks: what was blocked before

    def before() -> None:
        masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, _RESET))  # until the child has its own handlers

    def in_parent() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.pop())

    def in_child() -> None:
        with contextlib.suppress(
            ValueError
        ):  # in a thread; then the wake-up descriptor stays, and signals go to no one
            signal.set_wakeup_fd(-1)
            for number in _RESET:
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
        channel.close()
        abandon()
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.pop())

    os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)


def leave() -> NoReturn:
    """End a forked child that returned to the event loop: it would take the worker's connections."""
    _log.error("a process that a handler forked returned to the event loop: ending it; leave it by os._exit")
    os._exit(1)
