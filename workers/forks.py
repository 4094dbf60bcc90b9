"""What a process gives up that a handler forks: it must not act for the worker, whose descriptors it shares.

Two dangers, both measured: Python's signal wake-up descriptor is shared, so that a SIGTERM for the child drains the
worker; and an epoll set is shared, so that a socket closed in the child is no longer watched in the worker (epoll(7),
"Questions").
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from typing import NoReturn

from hybrid.workers.contract.channel import Channel

_log = logging.getLogger("hybrid")
_RESET = (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1, signal.SIGUSR2)


def guard(channel: Channel, abandon: Callable[[], None]) -> None:
    """From now on have every forked child give up `channel`, the worker's signals, and by `abandon()` its loop."""
    masks: dict[int, set[int]] = {}  # thread that forks -> what it had blocked before

    def before() -> None:
        # until the child has handlers of its own: a signal for it would be written to the descriptor it shares
        masks[threading.get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, _RESET)

    def in_parent() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.pop(threading.get_ident()))

    def in_child() -> None:
        signal.set_wakeup_fd(-1)
        for number in _RESET:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        channel.close()
        abandon()
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.pop(threading.get_ident()))

    os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)


def leave() -> NoReturn:
    """End a forked child that returned to the event loop: it would take the worker's connections."""
    _log.error("a process that a handler forked returned to the event loop: ending it; leave it by os._exit")
    os._exit(1)
