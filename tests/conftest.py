"""Which tests run on which loops; a `hybrid` command that surely ends; a check that no test leaves anything behind."""

from __future__ import annotations

import fcntl
import functools
import gc
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import pytest
from _pytest.pathlib import import_path
from hypothesis import HealthCheck, settings
from support import template
from support.leaks import Census
from support.loops import DEFAULT, LOOPS, MATRIX, WHOLE
from support.process import HybridProcess, RunHybrid
from support.short_set import (
    CHOSEN,
    KINDS,
    LONG,
    ON_POLLERS,
    POLLERS,
    REPEATED,
    chosen_variants,
    is_repeated,
    loop_named,
    takes_loops,
)

HERE = Path(__file__).parent
COLLECTION = 30.0  # seconds that a process waits for its turn to collect
SHOWN = 0.005  # seconds: `--durations` lists no shorter step, unless `--durations-min` says so
LEFT_OUT = pytest.StashKey[list[pytest.Item]]()


# how long an example takes is the machine's matter: on a busy one both of these checks fail
EXAMPLES = 100 if MATRIX else 25  # of a property, where it does not say; others in each run, as they are random
settings.register_profile(
    "any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=EXAMPLES
)
settings.load_profile("any-machine")


def pytest_configure() -> None:
    """Heed SIGINT as in a terminal: `command &` in a script ignores it, and every child would inherit that.

    Remember what children inherit now: no test has changed it yet.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    template.usual_begin()


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "list the tests that do not run on every loop without HYBRID_TEST_LOOP, by kind of behaviour; run none"
    parser.addoption("--left-out", action="store_true", help=text)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Give out tests in stretches of the collection: neighbours share services. Idle workers steal from busy ones."""
    if config.option.left_out:
        config.option.collectonly, config.option.verbose = True, -3
    elif getattr(config.option, "numprocesses", None) and config.option.dist == "no":
        config.option.dist = "worksteal"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Choose twice as many workers as there are cores: half of the time a test waits for processes."""
    if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS"):
        return None  # for the plugin to obey
    return 2 * len(os.sched_getaffinity(0))


def pytest_report_header() -> str:
    rest = [loop for loop in LOOPS if loop not in WHOLE]
    short = f"; the short set on {', '.join(rest)} (HYBRID_TEST_LOOP=all: every test)" if rest else ""
    return f"loops: {'every test' if MATRIX else 'the tests'} on {', '.join(WHOLE)}{short}"


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Collect in no more processes at a time than there are cores, where pytest-xdist has started several.

    In a new checkout pytest compiles each test file and keeps the result: each process does so for a share of the files
    and reads what the others have kept. This only saves time, so it waits for a while at most: another run may have
    stopped within its collection. Nor is there garbage in twenty thousand tests that are being made.
    """
    gc.disable()
    try:
        if "PYTEST_XDIST_WORKER" not in os.environ:
            return (yield)
        _compile_share(session.config)
        files = sorted((HERE / "support").glob("*.py"))[: len(os.sched_getaffinity(0))]
        with files[_place() % len(files)].open() as turn:
            until = time.monotonic() + COLLECTION
            while not _is_locked(turn) and time.monotonic() < until:
                select.select([], [], [], 0.05)
            return (yield)
    finally:
        gc.enable()


def _place() -> int:
    """Return the number of this process among those of pytest-xdist, from 0."""
    return int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))


def _compile_share(config: pytest.Config) -> None:
    """Import every n-th of the test files asked for, unless it is compiled. The collection finds them imported.

    One that cannot be imported is left to the collection, which says why.
    """
    asked = [Path(argument.partition("::")[0]).absolute() for argument in config.args]
    found = {file for path in asked for file in (path.rglob("test_*.py") if path.is_dir() else [path])}
    share = sorted(found)[_place() :: int(os.environ["PYTEST_XDIST_WORKER_COUNT"])]
    for file in [file for file in share if not _is_compiled(file)]:
        before, is_imported = set(sys.modules), False
        with suppress(Exception, pytest.skip.Exception):
            import_path(file, mode="importlib", root=config.rootpath, consider_namespace_packages=False)
            is_imported = True
        if not is_imported:
            for name in set(sys.modules) - before:
                if getattr(sys.modules[name], "__file__", None) == str(file):
                    del sys.modules[name]


def _is_compiled(file: Path) -> bool:
    return any(
        kept.stat().st_mtime >= file.stat().st_mtime
        for kept in file.parent.glob(f"__pycache__/{file.stem}.{sys.implementation.cache_tag}-pytest-*.pyc")
    )


def _is_locked(file: IO[str]) -> bool:
    """Lock a file, until it is closed, if no other process has locked it; return whether that could be done."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of the loops that are tested as a whole, and the short set of the others."""
    variants = _variants(items)
    left_out = [item for item in items if not _is_run(item, variants)]
    if left_out:
        config.stash[LEFT_OUT] = left_out
        gone = set(left_out)
        items[:] = [item for item in items if item not in gone]
        config.hook.pytest_deselected(items=left_out)


def pytest_collection_finish() -> None:
    """Keep ten thousand tests, and all that is imported by now, out of the collections that tests ask for."""
    gc.collect()
    gc.freeze()


def _variants(items: list[pytest.Item]) -> dict[tuple[str, str], set[str]]:
    """Return the ids of the variants of each function on each loop of which there is a short set."""
    variants: dict[tuple[str, str], set[str]] = {}
    for item in items:
        if (loop := _loop(item)) is not None and loop not in WHOLE:
            variants.setdefault((_test(item), loop), set()).add(item.callspec.id)  # type: ignore[attr-defined]
    return variants


def _is_run(item: pytest.Item, variants: Mapping[tuple[str, str], set[str]]) -> bool:
    test, identity, loop = _test(item), _identity(item), _loop(item)
    if not MATRIX and (test.partition("::")[0] in LONG or (loop in (None, *WHOLE) and is_repeated(test, identity))):
        return False
    if not _takes_loops(item):
        return DEFAULT in WHOLE  # no loop is involved: once in the matrix, in the cell of the default loop
    return loop is None or loop in WHOLE or identity in chosen_variants(test, loop, variants[test, loop])


def _takes_loops(item: pytest.Item) -> bool:
    module = getattr(item, "module", None)
    return module is not None and takes_loops(module)


def _loop(item: pytest.Item) -> str | None:
    """Return the loop of a test that takes its loops from `support`, or None."""
    callspec = getattr(item, "callspec", None)
    return loop_named(callspec.params) if callspec and _takes_loops(item) else None


def _identity(item: pytest.Item) -> str:
    callspec = getattr(item, "callspec", None)
    return callspec.id if callspec else ""


def _test(item: pytest.Item) -> str:
    return f"{_relative(item.path)}::{_function(item)}"


@functools.cache
def _relative(path: Path) -> str:
    return str(path.relative_to(HERE))


def _function(item: pytest.Item) -> str:
    return getattr(item, "originalname", None) or item.name


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """With `--left-out`, list what the short set leaves out."""
    if not config.option.left_out:
        return
    functions = {
        _test(item) for item in config.stash.get(LEFT_OUT, []) if not is_repeated(_test(item), _identity(item))
    }
    for file, because in LONG.items():
        terminalreporter.write_line(f"{file}: left out, because {because}")
    for variants, because in REPEATED:
        terminalreporter.write_line(f"variants: left out, because {because}")
        for variant in variants:
            terminalreporter.write_line(f"    {variant}")
    for kind in KINDS:
        terminalreporter.write_line(f"{kind.behaviour}: left out, because {kind.because}")
        for test in sorted(functions - CHOSEN.keys()):
            if test.partition("::")[0] in kind.stands_for:
                terminalreporter.write_line(f"    {test}")
    terminalreporter.write_line(f"left out on {' and '.join(POLLERS)} alone, as no poller has a part in it:")
    for test in sorted(CHOSEN.keys() - ON_POLLERS):
        terminalreporter.write_line(f"    {test}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Send the reports of a process of pytest-xdist without keywords, which no plugin there reads.

    There are thirty thousand reports, and keywords are most of their size.
    """
    report = yield
    if "PYTEST_XDIST_WORKER" in os.environ:
        report.keywords = {}
    return report


def pytest_sessionstart(session: pytest.Session) -> None:
    """Have a process of pytest-xdist send only what the run may print of a test, where that is not all.

    That is a third of the events: of a test that has passed not its beginning and its end, and neither its set-up nor
    its clean-up, unless `--durations` would list it or it has written something.
    """
    option = session.config.option
    if "PYTEST_XDIST_WORKER" not in os.environ or option.verbose > 0 or getattr(option, "xmlpath", None):
        return
    for plugin in session.config.pluginmanager.get_plugins():
        if type(plugin).__name__ == "WorkerInteractor":  # of pytest-xdist, which executes its module without a name
            shortest = SHOWN if option.durations_min is None else option.durations_min
            plugin.sendevent = functools.partial(_send, plugin.sendevent, shortest)


def _send(send: Callable[..., None], shortest: float, name: str, **event: Any) -> None:
    if name in ("logstart", "logfinish") or (name == "testreport" and _is_silent(event["data"], shortest)):
        return
    send(name, **event)


def _is_silent(report: Mapping[str, Any], shortest: float) -> bool:
    """Return True for the report of a step about which the run prints nothing."""
    is_beside_the_call = report["when"] != "call" and report["outcome"] == "passed"
    return is_beside_the_call and not report["sections"] and report["duration"] < shortest


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
    """Execute `python -m hybrid` with arguments, in an empty directory; at the end nothing of it is left.

    A test whose supervisor ended while a worker of it lives on fails here.
    """
    started: list[HybridProcess] = []

    def start(*arguments: str, cwd: Path | None = None, **options: object) -> HybridProcess:
        process = HybridProcess(*arguments, cwd=cwd or tmp_path, **{"executed": True, **options})  # type: ignore[arg-type]
        started.append(process)
        return process

    yield start
    outlived = [pid for process in started for pid in process.close()]
    assert not outlived, f"workers outlived their supervisor: {outlived}"


@pytest.fixture
def hybrid_run(hybrid_command: Callable[..., HybridProcess], tmp_path: Path) -> RunHybrid:
    """Start `python -m hybrid run` with arguments; port 0 of 127.0.0.1 unless `--bind` is among them.

    It is a fork (`support.template`) where that can be.
    """

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
        process = hybrid_command("run", *bind, *arguments, env=env, **{"executed": False, **options})
        return process.wait_serving() if serving else process

    return start
