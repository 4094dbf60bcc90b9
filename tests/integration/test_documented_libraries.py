"""docs/libraries.md: every application in it is one that hybrid loads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.process import HybridProcess

TEXT = (Path(__file__).resolve().parents[2] / "docs/libraries.md").read_text(encoding="utf-8")
_SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = {title: body for title, section in _SECTION.findall(TEXT) for body in _BLOCK.findall(section)}


@pytest.mark.parametrize("title", BLOCKS)
def test_it_is_an_application(title: str, tmp_path: Path) -> None:
    (tmp_path / "documented_module.py").write_text(BLOCKS[title])
    process = HybridProcess("run", "--check", "--bind", "127.0.0.1:0", "documented_module:app", cwd=tmp_path)
    try:
        assert process.wait() == 0, process.stderr
    finally:
        process.close()
