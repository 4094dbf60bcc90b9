"""Upgrades: another supervisor, of the program as it is on disk now, takes over the listening sockets.

    asked -> it starts beside us and serves the same sockets -> it reports that its workers serve -> we drain and end

Until it serves, nothing changes here; a failure is logged once.
"""

from __future__ import annotations

import enum

from hybrid.supervisor.core import events as ev
from hybrid.supervisor.core.base import OVER, Core, Phase
from hybrid.supervisor.core.events import Level


class _Step(enum.Enum):
    """How far the start of a successor has come."""

    NONE = "none"
    HOLDING = "holding"
    """It waits for a fork in progress."""
    ASKED = "asked"
    """`StartSuccessor` was issued. With several services, it is performed once all of them have issued it."""
    STARTED = "started"
    """Its process runs."""


class Upgrades:
    """The successor of this supervisor, if there is one."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._step = _Step.NONE
        self._deadline: float | None = None  # when the successor must serve, seconds
        self.has_successor = False
        """True once another supervisor owns the sockets."""

    @property
    def is_held(self) -> bool:
        """True while no zygote may begin to fork, because the successor is about to be started."""
        return self._step in (_Step.HOLDING, _Step.ASKED)

    @property
    def is_upgrading(self) -> bool:
        """True while a successor is starting, or is about to."""
        return self._step is not _Step.NONE

    def on_asked(self, now: float) -> None:
        """Start an upgrade."""
        core = self._core
        if core.phase is not Phase.SERVING:
            core.say(Level.WARNING, "not upgrading: the service is not up, or is stopping", news=_failed("not up"))
        elif self._step is not _Step.NONE:
            # no news: that upgrade goes on
            core.say(Level.WARNING, "not upgrading: the successor of this supervisor is starting already")
        else:
            self._step = _Step.HOLDING
            self._deadline = now + core.policy.upgrade_timeout
            news = ev.News("upgrade", (("outcome", "started"),))
            core.say(Level.INFO, "upgrading: starting another supervisor on the same sockets", news=news)

    def pursue(self) -> None:
        """Start the requested successor, once no zygote is forking.

        During such a fork, orphans become children of this process. So would the successor, and a service manager ends
        a main process that is not its own child without a drain.
        """
        if self._step is _Step.HOLDING and not self._core.table.forks():
            self._step = _Step.ASKED
            self._core.do(ev.StartSuccessor())

    def on_started(self, pid: int) -> None:
        """The successor's process was started."""
        if self._step is _Step.ASKED:
            self._step = _Step.STARTED
        news = ev.News("upgrade", (("outcome", "starting"), ("successor", pid)))
        self._core.say(Level.INFO, f"upgrading: supervisor {pid} is starting", news=news)

    def on_serves(self) -> None:
        """The successor serves: drain and end."""
        core = self._core
        if self._step is _Step.NONE or core.phase in OVER:
            return
        self._over()
        self.has_successor = True
        text = "upgraded: the other supervisor serves; draining the workers here"
        core.say(Level.INFO, text, news=ev.News("upgrade", (("outcome", "complete"),)))
        core.phase = Phase.STOPPING
        core.table.want(0)

    def on_failed(self, reason: str) -> None:
        """The successor failed."""
        if self._step is not _Step.NONE:
            self._over()
            text = f"upgrade failed, this supervisor goes on: {reason}"
            self._core.say(Level.ERROR, text, news=_failed(reason))

    def on_tick(self, now: float) -> None:
        """Give up a successor that does not serve in time."""
        if self._deadline is not None and now >= self._deadline:
            self._end()
            self.on_failed(f"the other supervisor did not serve within {self._core.policy.upgrade_timeout:g} s")

    def give_up(self) -> None:
        """End a successor that does not serve yet: a stop is meant for both."""
        if self._step is not _Step.NONE:
            self._end()
            self._over()

    def _end(self) -> None:
        if self._step in (_Step.ASKED, _Step.STARTED):
            self._core.do(ev.EndSuccessor())

    def _over(self) -> None:
        self._step, self._deadline = _Step.NONE, None

    def next_deadline(self) -> float | None:
        """Return when the successor must serve; None: no successor is starting."""
        return self._deadline


def _failed(reason: str) -> ev.News:
    return ev.News("upgrade", (("outcome", "failed"), ("reason", reason)))
