"""The shell around the machine: wait, translate what happened into events, step, perform the actions.

It decides nothing and waits in one place only, `kernel.wait`. It sleeps until something happens, until the machine's
deadline, or until the next look at the workers. `supervisor/shell/` holds its hands, and `start` opens what it needs.
"""

from __future__ import annotations

import collections
import logging

from hybrid.supervisor.children.forking import Forking
from hybrid.supervisor.children.handles import Children
from hybrid.supervisor.children.kernel import Kernel
from hybrid.supervisor.children.spawn import Program
from hybrid.supervisor.contact.control import Control
from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.machine import MAX_WORKERS, Machine
from hybrid.supervisor.listeners.sockets import Listeners
from hybrid.supervisor.settings import Settings
from hybrid.supervisor.shell.actions import Actions
from hybrid.supervisor.shell.deaths import Deaths
from hybrid.supervisor.shell.hearing import Hearing
from hybrid.supervisor.shell.looks import Looks
from hybrid.supervisor.shell.telling import Telling
from hybrid.supervisor.upgrade.succession import Succession
from hybrid.supervisor.watch.stack_dumps import StackDumps
from hybrid.supervisor.watch.stall_detector import StallDetector
from hybrid.workers.contract.exits import Exit
from hybrid.workers.contract.log import LOGGER_NAME

_PLACES = 2 * MAX_WORKERS + 64  # processes at a time: each worker and its successor, zygotes, and some that drain

_MEANINGS: dict[str, ev.Event] = {
    "SIGTERM": ev.StopAsked(graceful=True),
    "SIGINT": ev.Interrupted(),
    "SIGQUIT": ev.StopAsked(graceful=False),
    "SIGHUP": ev.ReloadAsked(),
    "SIGTTIN": ev.ScaleByAsked(1),
    "SIGTTOU": ev.ScaleByAsked(-1),
    "SIGUSR2": ev.UpgradeAsked(),
}
"""What a signal to the supervisor means; others mean nothing."""

logger = logging.getLogger(LOGGER_NAME)


class Shell:
    """The imperative part: one per run."""

    def __init__(
        self,
        settings: Settings,
        program: Program,
        kernel: Kernel,
        listeners: Listeners,
        succession: Succession,
        configured: int,
        control: Control | None,
    ) -> None:
        """`configured`: the number of workers in the command; that in the settings may be a predecessor's."""
        self._kernel = kernel
        self._machine = machine = Machine(settings.policy, settings.workers, preload=settings.preload != "off")
        self._children = children = Children(_PLACES)
        self._forking = forking = Forking(settings, program, kernel, listeners, children)
        self._stack_dumps = stack_dumps = StackDumps(kernel, children)
        detector = StallDetector(children.board, settings.stall_threshold, settings.slowest)
        self._hearing = Hearing(kernel, children, forking, detector.wake)
        self._deaths = Deaths(kernel, children, self._hearing, stack_dumps)
        self._actions = Actions(kernel, children, forking, listeners, succession, stack_dumps, machine, configured)
        self._looks = Looks(kernel, children, detector, machine, listeners, self._actions, self._deaths, self._feed)
        self._telling = Telling(
            kernel, children, machine, listeners, succession, self._actions, settings.service, control
        )
        self._succession = succession
        self._sources = (self._hearing, self._telling)  # of events that come on descriptors
        self._has_more_slots = listeners.slots > settings.workers
        self._slots = listeners.slots
        forking.foreign.append(succession.close)
        if control is not None:
            forking.foreign.append(self._telling.close_control)

    def run(self) -> Exit:
        """Run until the machine finishes; return its exit code. Blocks. No worker is left when it returns."""
        self._kernel.adopt_orphans(True)
        try:
            self._telling.open()
            if self._has_more_slots:
                self._feed(ev.SlotsInherited(self._slots))
            self._feed(ev.Started())
            while self._actions.code is None:
                self._turn()
            self._telling.finish(self._actions.code, self._actions.reason)
            return self._actions.code
        finally:
            self._clear()

    def _turn(self) -> None:
        deadline = self._machine.deadline()
        ready = self._wait(deadline, self._stack_dumps.due, self._children.due, self._deaths.due, *self._telling.dues)
        for name in _in_order(self._kernel.take_signals()):
            self._on_signal(name)
        for fd in ready or ():
            for source in self._sources:
                for event in source.events(fd):
                    self._feed(event)
        for event in self._deaths.events():
            self._feed(event)
        self._deaths.end_leftovers()
        now = self._kernel.now()
        if deadline is not None and deadline <= now:
            self._feed(ev.Tick())
        self._looks.look_if_due(now)
        self._children.settle(now)
        self._stack_dumps.advance(now)
        self._telling.tell(now, self._hearing.scheme)

    def _wait(self, *dues: float | None) -> list[int] | None:
        """Sleep until something happens or is due; return the descriptors that are readable.

        Under load most turns are looks that show nothing new: such a look is taken here, and is half a turn's work.
        """
        due = min((when for when in dues if when is not None), default=None)
        while True:
            look = self._looks.due
            wake = min((when for when in (due, look) if when is not None), default=None)
            ready = self._kernel.wait(None if wake is None else wake - self._kernel.now())
            now = self._kernel.now()
            self._looks.woke(wake, now)
            if ready is not None or look is None or (due is not None and due <= now):
                return ready
            if look <= now and self._looks.look_if_due(now):
                return None

    def _on_signal(self, name: str) -> None:
        if name == "SIGHUP":
            self._telling.reload_asked()
        if name in _MEANINGS:
            self._feed(_MEANINGS[name])
        else:
            logger.info("%s has no meaning here", name)

    def _feed(self, event: ev.Event) -> None:
        """Step the machine with `event` and with whatever its actions bring about, until nothing is left."""
        events = collections.deque([event])
        while events:
            for action in self._machine.step(events.popleft(), self._kernel.now()):
                answer = self._actions.perform(action)
                if answer is not None:
                    events.append(answer)

    def _clear(self) -> None:
        """Leave nothing behind: after a failure of our own there may be workers."""
        self._telling.close()
        for slot in self._children.pending_slots():
            self._forking.call_off(slot)
        self._deaths.clear()
        self._kernel.adopt_orphans(False)
        self._succession.close()


def _in_order(names: list[str]) -> list[str]:
    """Put SIGINT before a SIGTERM of the same moment: a process manager passes Ctrl-C on, and it is not the second.

    Of two signals that are pending at once the later one's handler runs first.
    """
    return sorted(names, key=lambda name: name != "SIGINT") if "SIGTERM" in names else names
