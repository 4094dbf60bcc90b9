"""The line to the supervisor while a loop runs: orders come in, messages go out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from hybrid.workers.common.requests import RequestInProgress
from hybrid.workers.contract.channel import Channel, ChannelClosed
from hybrid.workers.contract.messages import Message, StacksTold, TellStacks

_log = logging.getLogger("hybrid")
_MOST_ORDERS = 100  # orders of the supervisor read before a drain begins


class Orders:
    """The loop's end of the channel. No method blocks."""

    def __init__(
        self,
        channel: Channel,
        loop: asyncio.AbstractEventLoop,
        obey: Callable[[Message, list[int]], None],
        orphaned: Callable[[], object],
    ) -> None:
        """`obey` carries out an order that came with descriptors, or raises `ValueError`.

        `orphaned` is called when the supervisor is gone.
        """
        self._channel = channel
        self._loop = loop
        self._obey = obey
        self._orphaned = orphaned
        self._misunderstood = False  # a bad order has been logged

    def listen(self) -> None:
        """Obey orders from now on."""
        self._loop.add_reader(self._channel.fileno(), self.hear_one)

    def deafen(self) -> None:
        """Read no further order."""
        self._loop.remove_reader(self._channel.fileno())

    def tell(self, message: Message) -> None:
        """Send to the supervisor; wait for room if the channel is full, e.g. while a debugger stops the supervisor."""
        try:
            if not self._channel.send_nowait(message):
                self._loop.add_writer(self._channel.fileno(), self._flush)
        except ChannelClosed:
            self._orphaned()

    def _flush(self) -> None:
        try:
            if not self._channel.flush():
                return
        except ChannelClosed:
            self._orphaned()
        self._loop.remove_writer(self._channel.fileno())

    def hear_one(self) -> bool:
        """Obey one order of the supervisor, or note its end; return True if there may be another order."""
        try:
            taken = self._channel.take_over_nowait()
            if taken is None:
                return False
            self._obey(*taken)
        except ValueError as error:  # `MessageError` among them
            if not self._misunderstood:
                self._misunderstood = True
                _log.error("ignoring an order of the supervisor: %s", error)
        except ChannelClosed:
            self._loop.remove_reader(self._channel.fileno())
            self._orphaned()
            return False
        return True

    def hear_until(self, is_over: Callable[[], bool]) -> None:
        """Obey the orders that have arrived, until `is_over()`."""
        for _ in range(_MOST_ORDERS):
            if is_over() or not self.hear_one():
                return


def told_stacks(
    order: TellStacks,
    descriptors: list[int],
    loop: asyncio.AbstractEventLoop | None,
    requests: Callable[[], Iterable[RequestInProgress]],
) -> StacksTold:
    """Write a report of everything that this process does; return the answer to the order.

    `loop`: None if the process runs none, and this thread only reads orders.

    If that fails, the supervisor asks by a signal. Takes some milliseconds.
    """
    size = 0
    try:
        from hybrid.workers.inspection import survey  # rarely needed

        size = survey.write(descriptors[0], loop, requests(), time.monotonic(), order.most)
    except Exception as error:  # noqa: BLE001 - logged: no memory, no descriptors left, or an unknown kind of object
        _log.warning("cannot report the stacks of this worker: %s: %s", type(error).__name__, error)
    return StacksTold(order.id, size)
