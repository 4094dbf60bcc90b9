"""Messages to the service manager: the systemd notifier over a socket that only records them."""

from __future__ import annotations

import pytest
from support.fake_kernel import FakeKernel
from support.play import ENDED, KILLED, Play
from support.play import serving as serving_play
from support.said import READY, said

from hybrid.supervisor.contact.notify_socket import NotifySocket
from hybrid.supervisor.contact.systemd_notifier import SystemdNotifier
from hybrid.supervisor.core import events as ev
from hybrid.workers.contract.messages import BootFailed

WATCHDOG = 10.0
"""Seconds between two feeds."""


class FakeNotifySocket(NotifySocket):
    """A socket to a manager that reads when the test says."""

    def __init__(self, interval: float | None) -> None:
        super().__init__(None, 4711, watchdog_interval=interval)
        self.words: list[str] = []
        self.retries = 0
        self._is_full = False

    def takes_nothing(self) -> None:
        """Let the manager's queue be full."""
        self._is_full = True

    def takes_all(self) -> None:
        """Let there be room."""
        self._is_full = False

    def heard(self) -> list[str]:
        """The notifications since the last call."""
        words, self.words = self.words, []
        return words

    @property
    def has_unsent(self) -> bool:
        return self._is_full

    def ready(self) -> None:
        self.words.append("ready")

    def reloading(self) -> None:
        self.words.append("reloading")

    def stopping(self) -> None:
        self.words.append("stopping")

    def watchdog(self) -> None:
        self.words.append("watchdog")

    def status(self, text: str) -> None:
        """The real one says it if it has changed."""
        self.line = text

    def retry(self) -> None:
        self.retries += 1


class Scene:
    """A play, and a systemd notifier that is called after each step as the shell does."""

    def __init__(self, play: Play, interval: float | None = None) -> None:
        self.play = play
        self.socket = FakeNotifySocket(interval)
        self.notifier = SystemdNotifier(self.socket, play.machine)

    def step(self, *events: ev.Event) -> list[str]:
        """Feed events; return the notifications."""
        self.play.step(*events)
        return self.tell()

    def tell(self) -> list[str]:
        self.notifier.tell(self.play.now)
        return self.socket.heard()

    def at(self, now: float, *events: ev.Event) -> list[str]:
        """Feed events at another time."""
        self.play.now = now
        return self.step(*events)


@pytest.fixture
def scene() -> Scene:
    """Two workers, nothing started yet."""
    return Scene(Play())


@pytest.fixture
def ready() -> Scene:
    """Two workers that serve, and the manager knows."""
    made = Scene(serving_play())
    assert made.tell() == ["ready"]
    return made


@pytest.fixture
def fed() -> Scene:
    """The same with a watchdog, fed at second 0."""
    made = Scene(serving_play(), WATCHDOG)
    assert made.tell() == ["ready", "watchdog"]
    return made


# --- how it goes


def test_it_is_ready_when_every_slot_is_served_and_once(scene: Scene) -> None:
    assert scene.step(ev.Started()) == []
    assert scene.step(said(1, READY)) == []
    assert scene.step(said(2, READY)) == ["ready"]
    assert scene.tell() == []


def test_a_death_does_not_take_it_back(ready: Scene) -> None:
    assert ready.step(ev.Exited(1, KILLED), said(3, READY)) == []


def test_a_reload_is_notified_and_ready_follows_when_it_is_complete(ready: Scene) -> None:
    assert ready.step(ev.ReloadAsked()) == ["reloading"]
    assert ready.step(said(3, READY)) == []
    assert ready.step(said(4, READY), ev.Exited(1, ENDED), ev.Exited(2, ENDED)) == ["ready"]


def test_a_reload_that_fails_ends_with_ready_too(ready: Scene) -> None:
    assert ready.step(ev.ReloadAsked()) == ["reloading"]
    assert ready.step(said(3, BootFailed(3, "broken"))) == ["ready"]


def test_a_reload_that_fails_at_once_is_notified_from_start_to_end(ready: Scene) -> None:
    """Systemd has sent SIGHUP and waits for both (Type=notify-reload)."""
    ready.play.forks_fail = True
    ready.notifier.reload_asked()
    assert ready.step(ev.ReloadAsked()) == ["reloading", "ready"]
    assert ready.tell() == []


def test_a_reload_that_is_asked_for_during_another_is_one_reload(ready: Scene) -> None:
    ready.notifier.reload_asked()
    assert ready.step(ev.ReloadAsked()) == ["reloading"]
    ready.notifier.reload_asked()
    assert ready.step(ev.ReloadAsked()) == []
    assert ready.step(said(4, READY), said(5, READY)) == ["ready"]


def test_a_reload_that_is_asked_for_before_all_serve_is_no_word(scene: Scene) -> None:
    scene.step(ev.Started())
    scene.notifier.reload_asked()
    assert scene.step(ev.ReloadAsked()) == []
    assert scene.step(said(1, READY)) == []


def test_a_stop_is_notified_once_and_nothing_follows(ready: Scene) -> None:
    assert ready.step(ev.StopAsked(graceful=True)) == ["stopping"]
    assert ready.step(ev.StopAsked(graceful=False)) == []
    assert ready.step(ev.Exited(1, ENDED), ev.Exited(2, ENDED)) == []


def test_a_stop_in_a_reload_is_a_stop(ready: Scene) -> None:
    ready.step(ev.ReloadAsked())
    assert ready.step(ev.StopAsked(graceful=True)) == ["stopping"]
    assert ready.step(ev.Exited(1, ENDED), ev.Exited(2, ENDED), ev.Exited(3, ENDED)) == []


def test_a_start_that_fails_is_a_stop(scene: Scene) -> None:
    scene.step(ev.Started())
    assert scene.step(said(1, BootFailed(3, "broken"))) == ["stopping"]


def test_the_status_is_the_machines_summary(scene: Scene) -> None:
    scene.step(ev.Started())
    assert scene.socket.line == "0 of 2 workers ready, generation 1"
    scene.step(said(2, READY))
    assert scene.socket.line == "1 of 2 workers ready, generation 1"


# --- the watchdog


def test_without_a_watchdog_nothing_is_due(ready: Scene) -> None:
    assert ready.notifier.due is None


def test_the_watchdog_is_fed_when_it_is_due_and_not_before(fed: Scene) -> None:
    assert fed.notifier.due == WATCHDOG
    assert fed.at(WATCHDOG - 0.01) == []
    assert fed.at(WATCHDOG) == ["watchdog"]
    assert fed.notifier.due == 2 * WATCHDOG


def test_one_that_turns_among_those_that_stand_still_is_enough(fed: Scene) -> None:
    fed.at(1, ev.Stalled(1, since=0.9))
    assert fed.at(30) == ["watchdog"]


def test_workers_that_are_busy_for_a_moment_serve(fed: Scene) -> None:
    """Each is in a turn that is too long to get more connections, as under full load, and neither hangs."""
    fed.at(9.9, ev.Stalled(1, since=9.8), ev.Stalled(2, since=9.8))
    assert fed.at(10) == ["watchdog"]


def test_when_all_have_stood_still_for_too_long_it_is_not_fed_until_one_turns(fed: Scene) -> None:
    fed.at(1, ev.Stalled(1, since=0.9), ev.Stalled(2, since=0.9))
    assert fed.at(10) == ["watchdog"]
    assert fed.at(20) == []
    assert fed.notifier.due is not None
    assert fed.notifier.due - 20 < 1
    assert fed.at(20.5) == []
    assert fed.at(21, ev.Recovered(2)) == ["watchdog"]
    assert fed.notifier.due == 21 + WATCHDOG


def test_without_a_serving_worker_it_is_not_fed(fed: Scene) -> None:
    fed.play.forks_fail = True
    fed.at(1, ev.Exited(1, KILLED), ev.Exited(2, KILLED))
    assert fed.at(10) == []


def test_a_start_may_take_its_time_and_so_may_a_stop() -> None:
    scene = Scene(Play(), WATCHDOG)
    assert scene.step(ev.Started()) == ["watchdog"]
    assert scene.at(10) == ["watchdog"]
    scene.step(said(1, READY), said(2, READY))
    assert scene.at(20, ev.StopAsked(graceful=True)) == ["stopping", "watchdog"]
    assert scene.at(30) == ["watchdog"]


# --- a manager that does not keep up, and a successor


def test_messages_without_room_are_sent_again_soon(ready: Scene) -> None:
    ready.socket.takes_nothing()
    ready.tell()
    assert ready.notifier.due == pytest.approx(0.2)
    ready.at(0.2)
    assert ready.socket.retries == 1
    ready.socket.takes_all()
    ready.tell()
    assert ready.notifier.due is None


def test_it_is_sent_again_soon_also_while_much_else_happens(ready: Scene) -> None:
    ready.socket.takes_nothing()
    for turn in range(1000):
        ready.at(turn * 0.005)
    assert 20 <= ready.socket.retries <= 26


def test_after_a_handover_only_the_successor_speaks(fed: Scene) -> None:
    fed.step(ev.UpgradeAsked(), ev.SuccessorStarted(500))
    assert fed.step(ev.SuccessorServes()) == []
    assert fed.notifier.due is None
    assert fed.at(100, ev.Exited(1, ENDED), ev.Exited(2, ENDED)) == []


def test_after_a_handover_what_had_no_room_is_sent_again(fed: Scene) -> None:
    """One of them may name another main process."""
    fed.socket.takes_nothing()
    fed.step(ev.UpgradeAsked(), ev.SuccessorStarted(500), ev.SuccessorServes())
    assert fed.notifier.due == pytest.approx(0.2)
    assert fed.at(0.2) == []
    assert fed.socket.retries == 1


def test_the_end_waits_until_a_manager_reads_whose_queue_is_full(ready: Scene) -> None:
    kernel = FakeKernel()
    began = kernel.now()
    ready.socket.takes_nothing()
    kernel.at(0.3, ready.socket.takes_all)
    ready.notifier.finish(kernel)
    assert kernel.now() - began == pytest.approx(0.3, abs=0.06)


def test_the_end_does_not_wait_for_ever_for_a_manager(ready: Scene) -> None:
    kernel = FakeKernel()
    began = kernel.now()
    ready.socket.takes_nothing()
    ready.notifier.finish(kernel)
    assert kernel.now() - began == pytest.approx(1.0, abs=0.06)


def test_the_end_does_not_wait_if_all_was_said(ready: Scene) -> None:
    kernel = FakeKernel()
    began = kernel.now()
    ready.notifier.finish(kernel)
    assert kernel.now() - began == 0


def test_while_a_successor_starts_this_one_speaks(fed: Scene) -> None:
    fed.step(ev.UpgradeAsked(), ev.SuccessorStarted(500))
    assert fed.at(10) == ["watchdog"]
    assert fed.step(ev.StopAsked(graceful=True)) == ["stopping"]
