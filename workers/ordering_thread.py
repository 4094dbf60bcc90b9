"""A thread that reads the orders of the supervisor in a child whose main thread may block: it runs no loop.

It obeys orders that need no loop: for stacks, for the log level, for reopened log files, and pings. It is a thread of
the kernel also where gevent has patched the process: it is started by the original function, waits in the original
poll(2), and calls nothing that might switch greenlets.
"""

from __future__ import annotations

import _thread
import logging
import posix
import select
import signal
import sys
from collections.abc import Callable
from typing import Any, Final

from hybrid.workers.contract import reopening
from hybrid.workers.contract.channel import Channel, ChannelClosed
from hybrid.workers.contract.log import unpatched
from hybrid.workers.contract.messages import LogLevel, Message, Ping, Reopened, TellStacks
from hybrid.workers.orders import told_stacks

LOOKS: Final = 0.25
"""Seconds."""
_log = logging.getLogger("hybrid")


class OrderingThread:
    """The thread. No method blocks."""

    def __init__(
        self, channel: Channel, answers: Callable[[], object], looks: Callable[[], object] | None = None
    ) -> None:
        """`answers` notes the answer to a ping, and `looks` is called every `LOOKS` seconds; both in the thread."""
        self._channel = channel
        self._answers = answers
        self._looks = looks
        self._misunderstood = False  # a bad order has been logged

    def begin(self) -> bool:
        """Start it; return False if there can be no further thread, which is logged: then no order is obeyed.

        It ends with the process, or when the channel is closed. Nothing waits for it.
        """
        try:
            _original_start()(self._run, ())
        except RuntimeError as error:  # EAGAIN
            _log.warning("orders of the supervisor are not read: %s", error)
            return False
        return True

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are for the main thread
        poll = unpatched("poll")()
        fd = self._channel.fileno()
        if fd < 0:
            return
        poll.register(fd, select.POLLIN)
        pause = None if self._looks is None else LOOKS * 1000
        while True:
            poll.poll(pause)
            if self._looks is not None:
                self._looks()
            if not self._hear_all():
                return

    def _hear_all(self) -> bool:
        """Obey the orders that have arrived; return False once there will be none."""
        while True:
            try:
                taken = self._channel.take_over_nowait()
                if taken is None:
                    return True
                self._obey(*taken)
            except ChannelClosed:  # the supervisor is gone: a signal follows
                return False
            except ValueError as error:  # `MessageError` among them
                if not self._misunderstood:
                    self._misunderstood = True
                    _log.error("ignoring an order of the supervisor: %s", error)

    def _obey(self, order: Message, descriptors: list[int]) -> None:
        """Carry out an order. Raises `ValueError` if that is impossible, and `ChannelClosed`."""
        if isinstance(order, Reopened):
            reopening.replace(order.numbers, descriptors)
            return
        try:
            match order:
                case TellStacks():
                    # not `send_nowait`: the main thread uses the queue behind it. Without room, a signal asks again
                    self._channel.hand_over_nowait(told_stacks(order, descriptors, None, tuple), ())
                case LogLevel(level):
                    _log.setLevel(level)
                case Ping():
                    self._answers()
                case _:
                    raise ValueError(f"{order} is not for a process without a loop")
        finally:
            for fd in descriptors:
                posix.close(fd)  # gevent patches that of `os`


def _original_start() -> Callable[..., Any]:
    saved: dict[str, dict[str, Any]] = getattr(sys.modules.get("gevent.monkey"), "saved", {})
    found: Callable[..., Any] = saved.get("_thread", {}).get("start_new_thread") or _thread.start_new_thread
    return found
