"""The file of `--log-config`, in each of its forms."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.rows import for_each

from hybrid.config import log_config
from hybrid.config.file import FileError
from hybrid.workers.boot.log_config import _line_of


def written(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_all_forms_say_the_same(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    forms = {
        "l.toml": "version = 1\n[root]\nhandlers = []\n",
        "l.json": '{"version": 1, "root": {"handlers": []}}',
        "l.yaml": "version: 1\nroot:\n  handlers: []\n",
        "l.yml": "{version: 1, root: {handlers: []}}",
    }
    found = [log_config.read(written(tmp_path, name, text)).content for name, text in forms.items()]
    assert found == [{"version": 1, "root": {"handlers": []}}] * 4


def test_a_mistake_in_yaml_has_a_place(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    with pytest.raises(FileError, match=r"l.yaml:2:8: mapping values are not allowed here"):
        log_config.read(written(tmp_path, "l.yaml", "version: 1\nroot: x: y\n"))


def test_yaml_makes_no_objects(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    with pytest.raises(FileError, match="could not determine a constructor"):
        log_config.read(written(tmp_path, "l.yaml", "version: !!python/object/apply:os.getpid []\n"))


def test_without_pyyaml_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(FileError, match=r"PyYAML, which reads YAML, is not installed: pip install pyyaml, or write"):
        log_config.read(written(tmp_path, "l.yaml", "version: 1\n"))


@pytest.mark.parametrize(
    ("name", "text"),
    [("l.json", "[" * 100_000), ("l.json", '"' + "x" * (1 << 20) + '"')],
    ids=["deep", "long"],
)
def test_a_strange_file_is_refused(name: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"nested too deeply|longer than 1 MiB"):
        log_config.read(written(tmp_path, name, text))


@for_each(
    "text",
    [
        "a = 1\n[handlers.file]\nfile = 2",
        'a = 1\n[handlers."file"]',
        '{"a": 1,\n "file": {}}',
        "a: 1\nfile:\n",
        "a: profile\n  file:",
        "handlers = {\nx = 1, file = {} }",
    ],
)
def test_the_line_of_a_handler_is_found(text: str) -> None:
    assert _line_of("file", text) == 2


def test_a_name_that_is_no_key_has_no_line() -> None:
    assert _line_of("file", "profile = 1\nfilename = 'file'") is None
