"""The lifespan of an ASGI application under `hybrid run`, on every loop: its modes, and failed starts."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from support.loops import LOOPS
from support.referee import get
from support.service import eventually, serving

from hybrid.workers.contract.exits import Exit


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def notes(cwd: Path) -> list[str]:
    path = cwd / "notes"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("mode", ["auto", "on", "off"])
def test_each_worker_starts_and_stops_its_application(loop: str, tmp_path: Path, mode: str) -> None:
    with serving("lifespans:full", "--loop", loop, "--workers", "2", "--lifespan", mode, cwd=tmp_path) as process:
        assert notes(tmp_path) == ([] if mode == "off" else ["started"] * 2), "before it is ready"
        expected = b"None" if mode == "off" else b"{'answer': 42}"
        assert {get(process, "/").body for _ in range(4)} == {expected}
    assert notes(tmp_path) == ([] if mode == "off" else ["started"] * 2 + ["stopped"] * 2)


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_a_failed_start_up_fails_the_start_with_the_applications_message(loop: str, tmp_path: Path, mode: str) -> None:
    arguments = ("--loop", loop, "--workers", "2", "--lifespan", mode)
    with serving("lifespans:failing", *arguments, cwd=tmp_path, ready=False) as process:
        assert process.wait() == Exit.TARGET
    assert "the application's start-up failed: the database is not there" in process.stderr
    assert "serving with" not in process.stderr


def test_a_start_up_that_raises_fails_the_start_if_a_lifespan_is_required(loop: str, tmp_path: Path) -> None:
    arguments = ("--loop", loop, "--workers", "1", "--lifespan", "on")
    with serving("lifespans:broken", *arguments, cwd=tmp_path, ready=False) as process:
        assert process.wait() == Exit.TARGET
    assert "the application's start-up failed: LookupError: no such table" in process.stderr
    assert "in broken" in process.stderr, "the traceback"


@pytest.mark.parametrize("target", ["broken", "answer"])
def test_an_application_without_a_lifespan_is_served(loop: str, tmp_path: Path, target: str) -> None:
    """One that raises although it knows the lifespan is logged."""
    with serving(f"lifespans:{target}", "--loop", loop, "--workers", "1", cwd=tmp_path) as process:
        assert get(process, "/").body == b"None"
        assert ("going on without a lifespan" in process.stderr) == (target == "broken")


def test_a_shutdown_that_never_ends_is_cancelled_within_the_grace_period(loop: str, tmp_path: Path) -> None:
    """A worker that took longer would be killed, with another exit code."""
    arguments = ("--loop", loop, "--workers", "1", "--graceful-timeout", "4")
    with serving("lifespans:never_stops", *arguments, cwd=tmp_path) as process:
        assert process.stop() == Exit.OK
    assert notes(tmp_path) == ["cancelled"]
    assert "the application's shutdown took longer than the grace period" in process.stderr


@pytest.mark.parametrize(
    ("target", "number"),
    [
        ("never_starts", signal.SIGTERM),
        ("never_starts", signal.SIGINT),
        ("refuses_to_end", signal.SIGTERM),
        ("blocks", signal.SIGTERM),
    ],
)
def test_a_stop_during_the_start_up_does_not_wait_for_it(
    loop: str, tmp_path: Path, target: str, number: signal.Signals
) -> None:
    """The grace period is for accepted work, and there is none: the start-up is cancelled, and then ended."""
    arguments = ("--loop", loop, "--workers", "1", "--graceful-timeout", "1h")
    with serving(f"lifespans:{target}", *arguments, cwd=tmp_path, ready=False) as process:
        eventually(lambda: notes(tmp_path) == ["starting"], "the application starts")
        process.signal(number)
        assert process.wait() == Exit.OK
        assert "WARNING" not in process.stderr
    if target == "never_starts":
        assert notes(tmp_path) == ["starting", "cancelled"]
