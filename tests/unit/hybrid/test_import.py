"""The cost of `import hybrid`, the modules it loads, and its public names."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys

import pytest
from support.rows import for_each

import hybrid

LOOP_LIBRARIES = {"asyncio", "gevent", "greenlet", "uvloop"}
HEAVY = LOOP_LIBRARIES | {"click", "multiprocess", "dill", "socket", "ssl", "logging"}


def in_fresh_python(code: str) -> str:
    """Run `code` in a new interpreter outside of this directory; return its output."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd="/"
    )
    return done.stdout


def modules_after(statement: str) -> set[str]:
    """Return the names of modules that `statement` adds to those of a bare interpreter."""
    code = f"import json, sys; old = set(sys.modules)\n{statement}\nprint(json.dumps(sorted(set(sys.modules) - old)))"
    return set(json.loads(in_fresh_python(code).splitlines()[-1]))


def test_importing_hybrid_loads_no_loop_and_nothing_heavy() -> None:
    assert not modules_after("import hybrid") & HEAVY


def test_importing_hybrid_takes_less_than_100_ms() -> None:
    """The best of five runs, because other tests run at the same time."""
    code = "import time; start = time.perf_counter(); import hybrid; print(time.perf_counter() - start)"
    assert min(float(in_fresh_python(code)) for _ in range(5)) < 0.1


@pytest.mark.parametrize("name", ["hybrid.cli.commands", "hybrid.api", "hybrid.supervisor.loop"])
def test_the_supervisor_imports_no_loop(name: str) -> None:
    assert not modules_after(f"import {name}") & (LOOP_LIBRARIES | {"multiprocess", "dill"})


def rooms_after(words: list[str]) -> set[str]:
    """Return the rooms of hybrid that a command imports; those of the supervisor and of workers by the side's name."""
    code = f"from hybrid.cli.entry import main\ntry:\n    main({words!r})\nexcept SystemExit:\n    pass"
    return {name.split(".")[1] for name in modules_after(code) if name.startswith("hybrid.")}


def test_the_version_is_shown_without_any_room_but_that_of_the_command() -> None:
    assert rooms_after(["--version"]) == {"cli"}


@pytest.mark.parametrize("command", ["ps", "status"])
def test_a_command_for_a_running_supervisor_imports_neither_side(command: str) -> None:
    """`config` is there for the texts of values alone, which imports none of the options."""
    assert rooms_after([command, "--help"]) <= {"cli", "config", "console", "control"}


def test_listing_loops_imports_none_of_them() -> None:
    assert not modules_after("from hybrid.loops import list_loops; list_loops()") & LOOP_LIBRARIES


def test_a_service_can_be_described_without_importing_a_loop() -> None:
    assert not modules_after("import hybrid; hybrid.Supervisor(hybrid.Service('app:handle'))") & LOOP_LIBRARIES


@for_each("name", hybrid.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(hybrid, name) is not None


def test_dir_shows_the_public_names() -> None:
    assert set(hybrid.__all__) <= set(dir(hybrid))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = hybrid.nonsense  # type: ignore[attr-defined]


def test_the_version_is_that_of_the_distribution() -> None:
    assert hybrid.__version__ == importlib.metadata.version("hybrid-runtime")
