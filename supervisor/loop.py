"""The shell around the machine: wait, translate inputs into events, step, perform the actions.

It decides nothing and waits in one place only, `kernel.wait`. It sleeps until something happens, until the machine's
deadline, or until the next look at the workers. `supervisor/shell/` has its parts, and `start` opens the sockets.
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
"""The event for each signal to the supervisor; others are ignored."""

logger = logging.getLogger(LOGGER_NAME)


class Shell:
    """The imperative part; one instance per run."""

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
        """`configured`: the number of workers in the command; the settings may have a predecessor's number."""
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
        self._sources = (self._hearing, self._telling)  # sources of events on descriptors
        self._has_more_slots = listeners.slots > settings.workers
        self._slots = listeners.slots
        forking.foreign.append(succession.close)
        if control is not None:
            forking.foreign.append(self._telling.close_control)

    def run(self) -> Exit:
        """Run until the machine finishes; return its exit code. Blocks. Leaves no worker."""
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
        """Sleep until something happens or is due; return the readable descriptors.

        Under load most turns are looks without news. Such a look happens here, at half the cost of a turn.
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
        """Step the machine with `event`, and with the events that answer its actions, until none is left."""
        events = collections.deque([event])
        while events:
            for action in self._machine.step(events.popleft(), self._kernel.now()):
                answer = self._actions.perform(action)
                if answer is not None:
                    events.append(answer)

    def _clear(self) -> None:
        """Clean up: after a bug in the supervisor there may be workers left."""
        self._telling.close()
        for slot in self._children.pending_slots():
            self._forking.call_off(slot)
        self._deaths.clear()
        self._kernel.adopt_orphans(False)
        self._succession.close()


def _in_order(names: list[str]) -> list[str]:
    """Put SIGINT before a simultaneous SIGTERM: a process manager forwards Ctrl-C, which is not a second one.

    Of two pending signals, the handler of the later one runs first.
    """
    return sorted(names, key=lambda name: name != "SIGINT") if "SIGTERM" in names else names
