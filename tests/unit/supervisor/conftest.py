"""What most tests of the machine, and of the shell around it, begin with."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from support.fake_kernel import FakeKernel
from support.play import Play
from support.play import serving as serving_play
from support.said import READY, said
from support.shell import Log

from hybrid.supervisor.core import events as ev


@pytest.fixture
def play() -> Play:
    """Two workers, nothing started yet."""
    return Play()


@pytest.fixture
def serving() -> Play:
    """Two workers, pids 1 and 2 in slots 0 and 1, ready at second 0."""
    return serving_play()


@pytest.fixture
def kernel() -> Iterator[FakeKernel]:
    """A kernel with children that report ready at once."""
    made = FakeKernel()
    made.on_fork(made.says_ready)
    yield made
    made.close()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Log:
    """Give the lines that the supervisor has logged."""
    caplog.set_level(logging.INFO, "hybrid")
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.fixture
def trying(serving: Play) -> Play:
    """Pid 3 boots in slot 0 beside pid 1, of generation 2."""
    serving.at(5, ev.ReloadAsked())
    return serving


@pytest.fixture
def one_by_two(trying: Play) -> Play:
    """Generation 2 serves by pid 3 in slot 0; pid 1 drains, and pid 4 boots beside pid 2 in slot 1."""
    trying.step(said(3, READY))
    return trying


@pytest.fixture
def starting() -> Play:
    """Pid 1 is the zygote and imports; two workers are wanted."""
    play = Play(preload=True)
    play.step(ev.Started())
    return play


@pytest.fixture
def warm() -> Play:
    """Pid 1 is the zygote, pids 2 and 3 serve in slots 0 and 1, since second 0."""
    return serving_play(preload=True)


@pytest.fixture
def reloading(warm: Play) -> Play:
    """Pid 4, the zygote of generation 2, imports since second 5."""
    warm.at(5, ev.ReloadAsked())
    return warm
