"""Messages of children and confirmed forks, as events of the machine.

Events are yielded one by one, and the loop feeds each to the machine before the next message is read: what the machine
does about one may end the child that has more to say.
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

_BATCH = 16  # messages of one child taken in a turn: one that talks without end does not keep us from the others

logger = logging.getLogger(LOGGER_NAME)


class Hearing:
    """A source of events: the channels of all children. No method blocks."""

    def __init__(self, kernel: Kernel, children: Children, forking: Forking, wake: Callable[[float], None]) -> None:
        """`wake(now)` is called when a worker that had stalled says that its loop turns again."""
        self._kernel = kernel
        self._children = children
        self._forking = forking
        self._wake = wake
        self.scheme = ""
        """`http` or `https` once a worker has said so."""

    def events(self, fd: int) -> Iterator[ev.Event]:
        """Yield what has come on a descriptor, if it is one of a child's."""
        if (pid := self._children.pid_at(fd)) is not None:
            yield from self.of_child(pid, self._children[pid])
        elif (slot := self._children.pending_slot_at(fd)) is not None:
            yield from self._of_pending_fork(slot)

    def of_child(self, pid: int, handle: ChildHandle) -> Iterator[ev.Event]:
        """Yield what a child has said, as far as a turn allows."""
        for _ in range(_BATCH):
            try:
                message = handle.channel.receive_nowait()
            except ChannelClosed:  # its death is reported by reap, a moment later
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
        elif isinstance(message, ev.ChildMessage):  # else an order, which only workers get, or a second `Forked`
            if isinstance(message, Ready):
                handle.takes_orders, self.scheme = message.takes_orders, message.scheme
            yield ev.ChildSaid(pid, message)

    def _of_pending_fork(self, slot: int) -> Iterator[ev.Event]:
        """Take in the first message of a worker that a zygote was asked for, or that there is none."""
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
        """Return True if a process may be the worker that says so: it will get signals, so it must be no other one."""
        return pid not in self._children and self._kernel.is_child(pid)

    def _of_refusal(self, zygote: ChildHandle, message: CannotSpawn) -> Iterator[ev.Event]:
        """A zygote has not forked the worker that it was asked for; it may have been another one since."""
        expected = self._children.pending_fork(message.slot)
        if zygote.slot == ZYGOTE and expected is not None and expected.generation == zygote.generation:
            yield from self._fork_failed(message.slot, message.reason)

    def _fork_failed(self, slot: int, reason: str) -> Iterator[ev.Event]:
        if self._children.pending_fork(slot) is not None:
            self._forking.call_off(slot)
            yield ev.ForkFailed(slot, reason)

    def _ignore(self, pid: int, handle: ChildHandle, error: MessageError) -> None:
        """Log the first datagram of a child that is no message."""
        if not handle.has_sent_bad_message:
            labels = {"slot": handle.slot, "generation": handle.generation, "subject_pid": pid}
            logger.warning("ignored: %s", error, extra=labels)
        handle.has_sent_bad_message = True
