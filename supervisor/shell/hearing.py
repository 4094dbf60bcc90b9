"""Messages of children and confirmed forks, as events of the machine.

Events are yielded one by one, and the loop feeds each to the machine before the next message is read: the reaction to
one may end the child that sent more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from hybrid.supervisor.children.forking import Forking
from hybrid.supervisor.children.handles import ChildHandle, Children
from hybrid.supervisor.children.kernel import Kernel
from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.table import ZYGOTE
from hybrid.workers.contract.channel import ChannelClosed
from hybrid.workers.contract.log import LOGGER_NAME
from hybrid.workers.contract.messages import Awake, CannotSpawn, Forked, Message, MessageError, Ready

_BATCH = 16  # messages read from one child per turn, so that a chatty child does not delay the others

logger = logging.getLogger(LOGGER_NAME)


class Hearing:
    """A source of events: the channels of all children. No method blocks."""

    def __init__(self, kernel: Kernel, children: Children, forking: Forking, wake: Callable[[float], None]) -> None:
        """`wake(now)` is called when a worker accepts a connection while the supervisor does not watch for stalls."""
        self._kernel = kernel
        self._children = children
        self._forking = forking
        self._wake = wake
        self.scheme = ""
        """`http` or `https`, once a worker has reported it."""

    def events(self, fd: int) -> Iterator[ev.Event]:
        """Yield the events of a readable descriptor, if it is a child's channel."""
        if (pid := self._children.pid_at(fd)) is not None:
            yield from self.of_child(pid, self._children[pid])
        elif (slot := self._children.pending_slot_at(fd)) is not None:
            yield from self._of_pending_fork(slot)

    def of_child(self, pid: int, handle: ChildHandle) -> Iterator[ev.Event]:
        """Yield the events from a child's messages, at most a batch per turn."""
        for _ in range(_BATCH):
            try:
                message = handle.channel.receive_nowait()
            except ChannelClosed:  # reap reports its death a moment later
                self.close_channel(handle)
                return
            except MessageError as error:
                self._ignore(pid, handle, error)
                continue
            if message is None:
                return
            yield from self._of_message(pid, handle, message)

    def close_channel(self, handle: ChildHandle) -> None:
        """Close our end of a channel."""
        fd = self._children.close_channel(handle)
        if fd is not None:
            self._kernel.unwatch(fd)

    def _of_message(self, pid: int, handle: ChildHandle, message: Message) -> Iterator[ev.Event]:
        if isinstance(message, Awake):
            self._wake(self._kernel.now())
        elif isinstance(message, CannotSpawn):
            yield from self._of_refusal(handle, message)
        elif isinstance(message, ev.ChildMessage):  # else an order, which only workers receive, or a second `Forked`
            if isinstance(message, Ready):
                handle.takes_orders, self.scheme = message.takes_orders, message.scheme
            yield ev.ChildSaid(pid, message)

    def _of_pending_fork(self, slot: int) -> Iterator[ev.Event]:
        """Handle the first message on the channel of a pending fork, or its EOF."""
        handle = self._children.pending_fork(slot)
        if handle is None:
            return
        try:
            message = handle.channel.receive_nowait()
        except ChannelClosed:
            yield from self._fork_failed(slot, "the zygote has not forked it, or it died at once")
            return
        except MessageError as error:
            yield from self._fork_failed(slot, f"its first message is {error}")
            return
        if message is None:
            return
        if not isinstance(message, Forked) or not self._is_new_child(message.pid):
            reason = f"its first message is {message}, which no new child of this process would say"
            yield from self._fork_failed(slot, reason)
            return
        self._forking.confirm(slot, message.pid)
        yield ev.Spawned(slot, message.pid)
        if message.pid in self._children:
            yield from self.of_child(message.pid, self._children[message.pid])

    def _is_new_child(self, pid: int) -> bool:
        """Return True if the pid may be the worker's own: it will get signals, so it must be no other process."""
        return pid not in self._children and self._kernel.is_child(pid)

    def _of_refusal(self, zygote: ChildHandle, message: CannotSpawn) -> Iterator[ev.Event]:
        """A zygote refused a fork; the order may be of an older zygote."""
        expected = self._children.pending_fork(message.slot)
        if zygote.slot == ZYGOTE and expected is not None and expected.generation == zygote.generation:
            yield from self._fork_failed(message.slot, message.reason)

    def _fork_failed(self, slot: int, reason: str) -> Iterator[ev.Event]:
        if self._children.pending_fork(slot) is not None:
            self._forking.call_off(slot)
            yield ev.ForkFailed(slot, reason)

    def _ignore(self, pid: int, handle: ChildHandle, error: MessageError) -> None:
        """Log the first bad message of a child."""
        if not handle.has_sent_bad_message:
            labels = {"slot": handle.slot, "generation": handle.generation, "subject_pid": pid}
            logger.warning("ignored: %s", error, extra=labels)
        handle.has_sent_bad_message = True
