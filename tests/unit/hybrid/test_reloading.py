"""When a watcher starts and ends its child: scripted batches of changes and a fake child."""

from __future__ import annotations

import importlib.util
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.records import logged

from hybrid.autoreload.changes import Watched
from hybrid.autoreload.restarting import QUIT_GRACE, Reloader, Signalled

GRACE = 2.0


class FakeChild:
    """A fake service: it ends when a test says so."""

    def __init__(self) -> None:
        self.signals: list[int] = []
        self._code: int | None = None
        self._obeys = True

    def ends(self, code: int) -> None:
        self._code = code

    def ignores_signals(self) -> None:
        self._obeys = False

    def poll(self) -> int | None:
        return self._code

    def send_signal(self, sig: int) -> None:
        self.signals.append(sig)
        if self._obeys and sig in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            self._code = 7 if sig == signal.SIGQUIT else 0


class Scene:
    """A reloader, the children it has started, and methods to drive it: each step is one batch."""

    def __init__(self, directory: Path) -> None:
        self.children: list[FakeChild] = []
        self.now = 100.0
        self.code: int | None = None
        self._directory = directory
        self._failures: list[OSError] = []
        self._signals: list[Signalled] = []
        self._steps: tuple[Step, ...] = ()
        self._reloader = Reloader(Watched((directory,)), self._start, self._take, grace=GRACE, now=lambda: self.now)

    @property
    def child(self) -> FakeChild:
        return self.children[-1]

    def fail_next_start(self, error: OSError) -> None:
        self._failures.append(error)

    def says(self, number: signal.Signals, *, to_all: bool = False) -> None:
        self._signals.append(Signalled(number, to_all))

    def play(self, *steps: Step) -> int | None:
        """Run one step before each batch; a step returns the changed file. Return the exit code, if any."""
        self._steps = steps
        try:
            self.code = self._reloader.run(self._give())
        except RuntimeError:  # the script is over
            self.code = None
        return self.code

    def _give(self) -> Iterator[frozenset[Path]]:
        for step in self._steps:
            changed = step(self)
            yield frozenset({self._directory / changed} if changed else ())

    def _start(self) -> FakeChild:
        if self._failures:
            raise self._failures.pop()
        self.children.append(FakeChild())
        return self.child

    def _take(self) -> list[Signalled]:
        taken, self._signals = self._signals, []
        return taken


Step = Callable[[Scene], str | None]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def quiet(scene: Scene) -> None:
    """Nothing changes."""


def edits(name: str = "app.py") -> Callable[[Scene], str]:
    return lambda scene: name


def child_ends(code: int) -> Callable[[Scene], None]:
    return lambda scene: scene.child.ends(code)


def hears(number: signal.Signals, *, to_all: bool = False) -> Callable[[Scene], None]:
    return lambda scene: scene.says(number, to_all=to_all)


def passes(seconds: float) -> Callable[[Scene], None]:
    def step(scene: Scene) -> None:
        scene.now += seconds

    return step


def stubborn(scene: Scene) -> None:
    scene.child.ignores_signals()


# --- changes


def test_a_child_is_started_at_once(scene: Scene) -> None:
    scene.play(quiet)
    assert len(scene.children) == 1


def test_a_change_ends_the_child_gracefully_and_starts_another(scene: Scene) -> None:
    scene.play(quiet, edits(), quiet)
    first, second = scene.children
    assert first.signals == [signal.SIGTERM]
    assert second.signals == []


def test_a_change_that_does_not_matter_changes_nothing(scene: Scene) -> None:
    scene.play(quiet, edits("notes.txt"), edits(".git/x.py"))
    assert len(scene.children) == 1
    assert scene.child.signals == []


def test_no_child_is_started_while_another_one_lives(scene: Scene) -> None:
    scene.play(quiet, stubborn, edits(), quiet, quiet)
    assert len(scene.children) == 1
    scene.play(child_ends(0))
    assert len(scene.children) == 2


def test_a_burst_of_changes_is_one_restart_when_it_is_over(scene: Scene) -> None:
    scene.play(quiet, edits("a.py"), edits("b.py"), edits("c.py"))
    assert len(scene.children) == 1
    scene.play(quiet)
    assert len(scene.children) == 2
    assert [len(child.signals) for child in scene.children] == [1, 0]


def test_a_change_while_the_new_child_boots_restarts_once_more(scene: Scene) -> None:
    """The watcher does not know about booting: a child counts from its first moment."""
    scene.play(quiet, edits(), quiet, edits(), quiet)
    assert len(scene.children) == 3


def test_a_change_is_logged_once(scene: Scene, records: list[str]) -> None:
    scene.play(quiet, edits("sub/app.py"), edits("other.py"), quiet)
    assert records == ["INFO reload: sub/app.py changed; restarting"]


@pytest.fixture
def records() -> Iterator[list[str]]:
    """The log messages, in order."""
    with logged() as lines:
        yield lines


def test_the_compiled_form_of_a_changed_module_is_gone_before_the_next_start(scene: Scene, tmp_path: Path) -> None:
    compiled = Path(importlib.util.cache_from_source(tmp_path / "app.py"))
    kept = Path(importlib.util.cache_from_source(tmp_path / "other.py"))
    compiled.parent.mkdir(parents=True)

    def writes_compiled(scene: Scene) -> None:
        compiled.touch()
        kept.touch()

    scene.play(quiet, edits("app.py"), writes_compiled)
    assert len(scene.children) == 2
    assert (compiled.exists(), kept.exists()) == (False, True)


# --- a child that does not end


def test_a_child_that_does_not_end_gets_sigquit_and_then_sigkill(scene: Scene) -> None:
    scene.play(quiet, stubborn, edits(), passes(GRACE - 0.1))
    assert scene.child.signals == [signal.SIGTERM]
    scene.play(passes(0.1))
    assert scene.child.signals == [signal.SIGTERM, signal.SIGQUIT]
    scene.play(passes(QUIT_GRACE), quiet)
    assert scene.child.signals == [signal.SIGTERM, signal.SIGQUIT, signal.SIGKILL]


def test_a_stop_during_a_restart_gives_the_child_its_full_grace_period(scene: Scene) -> None:
    code = scene.play(quiet, stubborn, edits(), hears(signal.SIGTERM), passes(1000), quiet, child_ends(0))
    assert code == 0
    assert scene.child.signals == [signal.SIGTERM, signal.SIGTERM]


# --- a child that ends by itself


@pytest.mark.parametrize(("code", "words"), [(3, "with code 3"), (6, "with code 6"), (-9, "by SIGKILL")])
def test_a_failed_child_is_restarted_only_after_a_change(
    scene: Scene, records: list[str], code: int, words: str
) -> None:
    assert scene.play(quiet, child_ends(code), quiet, quiet) is None
    assert len(scene.children) == 1
    assert records == [f"WARNING reload: the service has ended {words}; waiting for a change"]
    scene.play(edits(), quiet)
    assert len(scene.children) == 2


@pytest.mark.parametrize("code", [0, 7])
def test_stopping_the_child_ends_the_watcher(scene: Scene, code: int) -> None:
    assert scene.play(quiet, child_ends(code)) == code


def test_a_failed_start_is_retried_after_a_change(scene: Scene, records: list[str]) -> None:
    scene.fail_next_start(BlockingIOError(11, "Resource temporarily unavailable"))
    scene.play(quiet, quiet)
    assert "cannot be started" in records[0]
    scene.play(edits(), quiet)
    assert len(scene.children) == 1


# --- signals


@pytest.mark.parametrize(
    ("number", "passed_on"),
    [
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGQUIT, signal.SIGQUIT),
        (signal.SIGINT, signal.SIGTERM),  # may be repeated if the child has got the interrupt too
    ],
)
def test_a_stop_is_passed_on_and_the_exit_code_is_the_childs(
    scene: Scene, number: signal.Signals, passed_on: signal.Signals
) -> None:
    code = scene.play(quiet, stubborn, hears(number), quiet, edits(), child_ends(7))
    assert code == 7
    assert scene.child.signals == [passed_on]


def test_a_second_interrupt_ends_the_child_at_once(scene: Scene) -> None:
    scene.play(quiet, stubborn, hears(signal.SIGINT), hears(signal.SIGINT))
    assert scene.child.signals == [signal.SIGTERM, signal.SIGQUIT]


def test_a_signal_from_the_terminal_is_not_passed_on(scene: Scene) -> None:
    """A second interrupt would end it at once."""
    code = scene.play(quiet, hears(signal.SIGINT, to_all=True), child_ends(0))
    assert code == 0
    assert scene.child.signals == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_stop_without_a_child_ends_at_once(scene: Scene, number: signal.Signals) -> None:
    assert scene.play(quiet, child_ends(3), hears(number)) == 0


def test_a_stop_before_the_first_start_starts_nothing(scene: Scene) -> None:
    assert scene.play(hears(signal.SIGTERM)) == 0
    assert scene.children == []


def test_a_child_killed_at_the_stop_gets_the_exit_code_of_a_shell(scene: Scene) -> None:
    assert scene.play(quiet, stubborn, hears(signal.SIGTERM), child_ends(-9)) == 137


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU])
def test_other_signals_are_passed_on(scene: Scene, number: signal.Signals) -> None:
    assert scene.play(quiet, hears(number), quiet) is None
    assert scene.child.signals == [number]
