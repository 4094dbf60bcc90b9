"""Upgrades: another supervisor, of the program as it is on disk now, takes over the listening sockets.

    asked -> it starts beside us and serves the same sockets -> it reports that its workers serve -> we drain and end

Until it serves, nothing changes here; a failure is logged once.
"""

from __future__ import annotations

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.base import OVER, Core, Phase
from hybrid.supervisor.core.events import Level


class Upgrades:
    """The successor of this supervisor, if there is one."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._is_starting = False
        self.is_held = False
        """True if the successor waits for a fork in progress; no other fork starts meanwhile."""
        self._deadline: float | None = None  # when the successor must serve, seconds
        self.has_successor = False
        """True once another supervisor owns the sockets."""

    def on_asked(self, now: float) -> None:
        """Start an upgrade."""
        core = self._core
        if core.phase is not Phase.SERVING:
            core.say(Level.WARNING, "not upgrading: the service is not up, or is stopping")
        elif self._is_starting:
            core.say(Level.WARNING, "not upgrading: the successor of this supervisor is starting already")
        else:
            self._is_starting = self.is_held = True
            self._deadline = now + core.policy.upgrade_timeout
            core.say(Level.INFO, "upgrading: starting another supervisor on the same sockets")

    def pursue(self) -> None:
        """Start the requested successor, once no zygote is forking.

        During such a fork, orphans become children of this process. So would the successor, and a service manager ends
        a main process that is not its own child without a drain.
        """
        if self.is_held and not self._core.table.forks():
            self.is_held = False
            self._core.do(ev.StartSuccessor())

    def on_started(self, pid: int) -> None:
        """The successor's process was started."""
        self._core.say(Level.INFO, f"upgrading: supervisor {pid} is starting")

    def on_serves(self) -> None:
        """The successor serves: drain and end."""
        core = self._core
        if not self._is_starting or core.phase in OVER:
            return
        self._is_starting, self._deadline = False, None
        self.has_successor = True
        core.say(Level.INFO, "upgraded: the other supervisor serves; draining the workers here")
        core.phase = Phase.STOPPING
        core.table.want(0)

    def on_failed(self, reason: str) -> None:
        """The successor failed."""
        if self._is_starting:
            self._is_starting, self._deadline = False, None
            self._core.say(Level.ERROR, f"upgrade failed, this supervisor goes on: {reason}")

    def on_tick(self, now: float) -> None:
        """Give up a successor that does not serve in time."""
        if self._deadline is not None and now >= self._deadline:
            self._end()
            self.on_failed(f"the other supervisor did not serve within {self._core.policy.upgrade_timeout:g} s")

    def give_up(self) -> None:
        """End a successor that does not serve yet: a stop is meant for both."""
        if self._is_starting:
            self._is_starting, self._deadline = False, None
            self._end()

    def _end(self) -> None:
        if not self.is_held:
            self._core.do(ev.EndSuccessor())
        self.is_held = False

    def next_deadline(self) -> float | None:
        """Return when the successor must serve; None: no successor is starting."""
        return self._deadline
