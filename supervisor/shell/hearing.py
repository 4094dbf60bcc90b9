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
from hybrid.supervisor.core.roles import ZYGOTE, Role, role_of
from hybrid.workers.contract.channel import ChannelClosed
from hybrid.workers.contract.label_counts import read_report
from hybrid.workers.contract.log import LOGGER_NAME
from hybrid.workers.contract.messages import (
    OFFLOAD_INTERFACE,
    Awake,
    CallDied,
    CallOverdue,
    CannotSpawn,
    Forked,
    GatewayTold,
    LabelsCounted,
    Message,
    MessageError,
    OffloadAsked,
    Readiness,
    Ready,
    StacksTold,
    Warm,
)

_MOST_REASON = 200  # characters of the reason why a worker is not ready
_BATCH = 16  # messages read from one child per turn, so that a chatty child does not delay the others

logger = logging.getLogger(LOGGER_NAME)


class Hearing:
    """A source of events: the channels of all children. No method blocks."""

    def __init__(
        self,
        kernel: Kernel,
        children: Children,
        forking: Forking,
        wake: Callable[[float], None],
        *,
        executes: bool = False,
    ) -> None:
        """`wake(now)` is called when a worker accepts a connection while the supervisor does not watch for stalls.

        `executes`: workers execute a program; then the EOF of a channel means that the program runs.
        """
        self._kernel = kernel
        self._children = children
        self._forking = forking
        self._wake = wake
        self.told: Callable[[int, StacksTold], None] = lambda pid, message: None
        """Called when a worker has reported its stacks."""
        self.readiness_told: Callable[[int, ChildHandle, bool], None] = lambda pid, handle, was_ready: None
        """Called when the ready checks of a worker have another result."""
        self.companions_for_calls: Callable[[str], tuple[int, ...]] = lambda pool: ()
        """Returns the slots of all companions, when a worker has calls for a pool; none if that runs already."""
        self.companions_in_trouble: Callable[[], tuple[int, ...]] = tuple
        """Returns the slots of the companions that are wanted while a cluster cannot be reached; none: no others."""
        self._executes = executes
        self.scheme = ""
        """`http` or `https`, once a worker has reported it."""
        self.loop = ""
        """The loop of the workers, once one has reported it."""
        self.interface = ""
        """The interface of the application, likewise."""

    def events(self, fd: int) -> Iterator[ev.Event]:
        """Yield the events of a readable descriptor, if it is a child's channel."""
        if (pid := self._children.pid_at(fd)) is not None:
            yield from self.of_child(pid, self._children[pid])
        elif (slot := self._children.pending_slot_at(fd)) is not None:
            yield from self._of_pending_fork(slot)
        elif (pid := self._children.output_at(fd)) is not None:
            self._read_output(pid, self._children[pid])

    def of_child(self, pid: int, handle: ChildHandle) -> Iterator[ev.Event]:
        """Yield the events from a child's messages, at most a batch per turn."""
        for _ in range(_BATCH):
            try:
                message = handle.channel.receive_nowait()
            except ChannelClosed:  # reap reports its death a moment later
                is_first = handle.channel.fileno() >= 0  # a program that runs has closed it, and its death looks again
                self.close_channel(handle)
                if self._executes and is_first:
                    yield ev.ChildSaid(pid, Ready("", ""))
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

    def end_output(self, pid: int, handle: ChildHandle) -> None:
        """Log the rest of a dead child's output, and stop reading: a process that it left may hold the other end."""
        output = handle.output
        if output is None or output.fileno() < 0:
            return
        for _ in range(_BATCH):
            lines = output.read()
            if lines is None:
                break
            self._log(pid, handle, lines)  # none if a long line goes on
        self._log(pid, handle, output.rest())
        self._kernel.unwatch(output.fileno())

    def _read_output(self, pid: int, handle: ChildHandle) -> None:
        assert handle.output is not None, "its descriptor was ready"
        lines = handle.output.read()
        if lines is not None:
            self._log(pid, handle, lines)
            return
        self._log(pid, handle, handle.output.rest())  # it has closed its output, and lives on
        fd = self._children.close_output(handle)
        if fd is not None:
            self._kernel.unwatch(fd)

    def _log(self, pid: int, handle: ChildHandle, lines: list[str]) -> None:
        labels = self._children.labels(pid, handle)
        for line in lines:
            if self._executes:
                logger.info("%s", line, extra=labels)
            else:  # captured: whatever the level is, as it may be the text of a crash
                extra = {**labels, "stream": "output"}
                logger.handle(logger.makeRecord(logger.name, logging.INFO, "", 0, "%s", (line,), None, extra=extra))

    def _of_message(self, pid: int, handle: ChildHandle, message: Message) -> Iterator[ev.Event]:
        if isinstance(message, Awake):
            self._wake(self._kernel.now())
        elif isinstance(message, StacksTold):
            self.told(pid, message)
        elif isinstance(message, LabelsCounted):
            try:
                self._children.label_book.hear(handle.record.place, read_report(message.labels, message.numbers))
            except ValueError as error:
                self._ignore(pid, handle, MessageError(f"counts by label: {error}"))
        elif isinstance(message, Readiness) and handle.slot != ZYGOTE:
            was_ready = handle.not_ready is None
            handle.not_ready = message.reason[:_MOST_REASON] or None
            self.readiness_told(pid, handle, was_ready)
        elif isinstance(message, OffloadAsked):
            if slots := self.companions_for_calls(message.pool):
                yield ev.CompanionsAsked(slots)
        elif isinstance(message, CallOverdue):
            if (found := self._children.pid_of_call(message.key)) is not None:
                yield ev.CallOverdue(found, message.name)
        elif isinstance(message, GatewayTold):
            handle.gateway = message
            if message.trouble and (slots := self.companions_in_trouble()):
                yield ev.CompanionsAsked(slots)
        elif isinstance(message, CallDied):  # of a gateway, which does not know the callers
            self._children.tell(message.key >> 32, message)
        elif isinstance(message, CannotSpawn):
            yield from self._of_refusal(handle, message)
        elif isinstance(message, ev.ChildMessage):  # else an order, which only workers receive, or a second `Forked`
            if isinstance(message, Ready):
                handle.takes_orders, handle.listens = message.takes_orders, message.listens
                handle.runs_calls = message.interface == OFFLOAD_INTERFACE
                if role_of(handle.slot) is Role.WORKER:
                    self.scheme, self.loop, self.interface = message.scheme, message.loop, message.interface
            elif isinstance(message, Warm) and handle.counts_for != ZYGOTE:  # it was a worker
                self._children.vacate(handle.record)
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
            logger.warning("ignored: %s", error, extra=self._children.labels(pid, handle))
        handle.has_sent_bad_message = True
