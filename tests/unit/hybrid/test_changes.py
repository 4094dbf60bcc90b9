"""The files whose changes restart a service, and the stream of changes on disk."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import pytest
from support.service import descriptors, eventually

from hybrid.autoreload.changes import Watched, batches, describe, watched_for
from hybrid.config.service import ConfigError, Service


def watched(root: Path, includes: tuple[str, ...] = (), excludes: tuple[str, ...] = ()) -> Watched:
    return Watched((root,), includes, excludes)


@pytest.mark.parametrize("path", ["app.py", "package/module.py", "package/deep/down/__init__.py", "venv.py"])
def test_python_sources_matter(tmp_path: Path, path: str) -> None:
    assert watched(tmp_path).matters(tmp_path / path)


@pytest.mark.parametrize(
    "path",
    [
        "notes.txt",
        "app.pyc",
        "app.py~",
        ".#app.py",
        ".app.py",
        ".git/hooks/x.py",
        ".tox/py311/lib/x.py",
        "__pycache__/app.py",
        "node_modules/gyp/x.py",
        "lib/site-packages/x.py",
        "../beside.py",
    ],
)
def test_other_files_and_generated_files_do_not_matter(tmp_path: Path, path: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    assert not watched(root).matters((root / path).resolve())


def test_a_virtual_environment_of_any_name_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "sandbox").mkdir()
    (tmp_path / "sandbox/pyvenv.cfg").touch()
    assert not watched(tmp_path).matters(tmp_path / "sandbox/lib/x.py")
    assert watched(tmp_path).matters(tmp_path / "sand/x.py")


def test_a_directory_named_explicitly_matters_even_if_hidden(tmp_path: Path) -> None:
    root = tmp_path / ".hidden"
    root.mkdir()
    (root / "pyvenv.cfg").touch()
    assert watched(root).matters(root / "x.py")


@pytest.mark.parametrize(
    ("glob", "path", "matters"),
    [
        ("*.html", "templates/a.html", True),
        ("templates/*.html", "web/templates/a.html", True),
        ("templates/*.html", "web/a.html", False),
        ("*", ".env", False),
        (".env", ".env", True),
        ("*.html", ".git/a.html", False),
    ],
)
def test_globs_include_more_files(tmp_path: Path, glob: str, path: str, matters: bool) -> None:
    assert watched(tmp_path, (glob,)).matters(tmp_path / path) is matters


@pytest.mark.parametrize(
    ("glob", "path", "matters"),
    [
        ("test_*.py", "test_app.py", False),
        ("tests", "tests/deep/x.py", False),
        ("build/lib", "build/lib/x.py", False),
        ("build/lib", "lib/x.py", True),
        ("*.py", "app.py", False),
        ("tests", "app.py", True),
    ],
)
def test_globs_exclude_files_and_directories(tmp_path: Path, glob: str, path: str, matters: bool) -> None:
    assert watched(tmp_path, ("*.py",), (glob,)).matters(tmp_path / path) is matters


@pytest.mark.parametrize("glob", ["", "/etc/*.py", "."])
def test_a_glob_that_matches_nothing_is_refused(tmp_path: Path, glob: str) -> None:
    with pytest.raises(ConfigError, match="reload_include"):
        watched(tmp_path, (glob,))
    with pytest.raises(ConfigError, match="reload_exclude"):
        watched(tmp_path, (), (glob,))


def test_the_directory_of_the_service_is_watched_unless_others_are_named(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    service = Service(chdir=tmp_path)
    assert watched_for(service, ()).directories == (tmp_path,)
    assert watched_for(service, ("src", str(tmp_path))).directories == (tmp_path / "src", tmp_path)


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such directory"):
        watched_for(Service(chdir=tmp_path), ("nowhere",))


def test_a_change_is_described_by_its_first_file(tmp_path: Path) -> None:
    one, two = tmp_path / "a/one.py", tmp_path / "two.py"
    assert describe(frozenset({one}), (tmp_path,)) == "a/one.py"
    assert describe(frozenset({one, two}), (tmp_path,)) == "a/one.py and 1 more"


def test_batches_arrive_without_changes_and_name_a_changed_file(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    until = time.monotonic() + 20
    before = descriptors(os.getpid())
    with contextlib.closing(batches((tmp_path,))) as stream:
        assert next(stream) == frozenset()
        (tmp_path / "deep/x.py").write_text("1")
        while not (batch := next(stream)):
            assert time.monotonic() < until
    assert tmp_path / "deep/x.py" in batch
    eventually(lambda: descriptors(os.getpid()) <= before, "the thread of watchfiles has closed its descriptors")
