"""The page about strictness is what the tables of the tests say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from support.malformed import MALFORMED, ODD

DOCS = Path(__file__).resolve().parents[2] / "docs"


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_malformed", DOCS / "generate_malformed.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date() -> None:
    """To bring it up to date: `python docs/generate_malformed.py`."""
    assert (DOCS / "strictness.md").read_text(encoding="utf-8") == _generator().render()


def test_every_row_is_on_the_page() -> None:
    """A group that is left out would go unnoticed."""
    rows = [line for line in (DOCS / "strictness.md").read_text(encoding="utf-8").splitlines() if line[:2] == "| "]
    assert len(rows) == len(MALFORMED) + len(ODD) + 6  # a heading for each table


def test_every_row_has_as_many_cells_as_its_heading() -> None:
    """A bar in a request would make another one."""
    for line in (DOCS / "strictness.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("| "):
            assert line.replace(r"\|", "").count("|") == 5, line
