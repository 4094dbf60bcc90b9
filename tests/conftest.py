"""Fixtures of all tests: a `hybrid` command that surely ends, and a check that no test leaves anything behind."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from support.leaks import Census
from support.loops import ALL_LOOPS, LOOPS
from support.process import HybridProcess, RunHybrid


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run what no loop is involved in once in the matrix: in the cell of the default loop."""
    if LOOPS in (ALL_LOOPS, ("epoll",)):
        return
    once = [item for item in items if not hasattr(getattr(item, "module", None), "LOOPS")]
    if once:
        items[:] = [item for item in items if item not in set(once)]
        config.hook.pytest_deselected(items=once)


@pytest.fixture(autouse=True)
def _leaves_nothing_behind() -> Iterator[None]:
    """Fail a test that leaves a child process, a socket, a pipe or a poller behind."""
    census = Census()
    yield
    left = census.newcomers()
    assert not left, f"the test left behind: {'; '.join(left)}"


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """Put our logger back: a test may set up the log of a service, and `caplog` relies on how it is for all others."""
    logger = logging.getLogger("hybrid")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


@pytest.fixture
def hybrid_command(tmp_path: Path) -> Iterator[Callable[..., HybridProcess]]:
    """Start `python -m hybrid` with arguments, in an empty directory; at the end nothing of it is left.

    A test whose supervisor ended while a worker of it lives on fails here.
    """
    started: list[HybridProcess] = []

    def start(*arguments: str, cwd: Path | None = None, **options: object) -> HybridProcess:
        process = HybridProcess(*arguments, cwd=cwd or tmp_path, **options)  # type: ignore[arg-type]
        started.append(process)
        return process

    yield start
    outlived = [pid for process in started for pid in process.close()]
    assert not outlived, f"workers outlived their supervisor: {outlived}"


@pytest.fixture
def hybrid_run(hybrid_command: Callable[..., HybridProcess], tmp_path: Path) -> RunHybrid:
    """Start `python -m hybrid run` with arguments; port 0 of 127.0.0.1 unless `--bind` is among them."""

    def start(
        *arguments: str,
        app: str | None = None,
        env: Mapping[str, str | None] | None = None,
        serving: bool = True,
        **options: object,
    ) -> HybridProcess:
        if app is not None:
            (tmp_path / "app.py").write_text(app)
        bind = () if "--bind" in arguments else ("--bind", "127.0.0.1:0")
        process = hybrid_command("run", *bind, *arguments, env=env, **options)
        return process.wait_serving() if serving else process

    return start
