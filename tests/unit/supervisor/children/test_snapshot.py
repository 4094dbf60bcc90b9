"""The code of the package as it was when the supervisor started."""

from __future__ import annotations

import importlib
import py_compile
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid.supervisor.children import snapshot
from hybrid.supervisor.children.snapshot import Snapshot

VALUE = "VALUE = {}\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of one module and one package, with only the outermost imported."""
    home = tmp_path / "parcel"
    (home / "inner").mkdir(parents=True)
    (home / "__init__.py").touch()
    (home / "inner" / "__init__.py").touch()
    (home / "plain.py").write_text(VALUE.format(1))
    (home / "inner" / "deep.py").write_text(VALUE.format(2))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(snapshot, "_PACKAGE", "parcel")
    importlib.import_module("parcel")
    yield home
    for name in [name for name in sys.modules if name.partition(".")[0] == "parcel"]:
        del sys.modules[name]


def value_of(name: str) -> object:
    return importlib.import_module(name).VALUE


def test_modules_are_imported_as_they_were(package: Path) -> None:
    taken = Snapshot.take()
    for name in ("plain.py", "inner/deep.py", "inner/__init__.py"):
        (package / name).write_text("raise ImportError")
    with taken.in_use():
        assert (value_of("parcel.plain"), value_of("parcel.inner.deep")) == (1, 2)


def test_modules_that_are_imported_already_are_not_read(package: Path) -> None:
    importlib.import_module("parcel.plain")
    assert "parcel.plain" not in Snapshot.take()


def test_nothing_is_executed_while_the_code_is_read(package: Path) -> None:
    (package / "plain.py").write_text("raise ImportError")
    assert "parcel.plain" in Snapshot.take()
    assert "parcel.plain" not in sys.modules


def test_compiled_code_is_used_if_it_is_of_the_source(package: Path) -> None:
    py_compile.compile(str(package / "plain.py"))
    taken = Snapshot.take()
    assert not taken.find_spec("parcel.plain").loader.is_source  # type: ignore[union-attr]
    with taken.in_use():
        assert value_of("parcel.plain") == 1


def test_compiled_code_of_another_source_is_not_used(package: Path) -> None:
    py_compile.compile(str(package / "plain.py"))
    (package / "plain.py").write_text(VALUE.format("'another'"))
    with Snapshot.take().in_use():
        assert value_of("parcel.plain") == "another"


def test_a_module_knows_its_file_and_a_package_its_folder(package: Path) -> None:
    with Snapshot.take().in_use():
        deep = importlib.import_module("parcel.inner.deep")
        inner = importlib.import_module("parcel.inner")
    assert deep.__file__ == str(package / "inner" / "deep.py")
    assert list(inner.__path__) == [str(package / "inner")]


def test_a_module_that_came_later_is_left_to_the_import_system(package: Path) -> None:
    taken = Snapshot.take()
    (package / "later.py").write_text(VALUE.format(3))
    importlib.invalidate_caches()
    with taken.in_use():
        assert value_of("parcel.later") == 3


def test_the_import_system_is_as_before_afterwards(package: Path) -> None:
    before = list(sys.meta_path)
    with Snapshot.take().in_use():
        pass
    assert sys.meta_path == before
