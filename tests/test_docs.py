"""The documents: the option reference is what the command says, and links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from support.rows import for_each

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")])
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_options", ROOT / "docs/generate_options.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_option_reference_is_up_to_date() -> None:
    """To bring it up to date: `python docs/generate_options.py`."""
    assert (ROOT / "docs/options.md").read_text(encoding="utf-8") == _generator().render()


def test_every_option_is_in_the_reference() -> None:
    from hybrid.cli.commands import all_commands

    text = (ROOT / "docs/options.md").read_text(encoding="utf-8")
    options = {name for sub in all_commands().values() for parameter in sub.params for name in parameter.opts}
    assert not [name for name in options if name.startswith("--") and f"`{name}`" not in text]


def _broken(document: Path) -> Iterator[str]:
    for link in _LINK.findall(_CODE.sub("", document.read_text(encoding="utf-8"))):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        file = document if not path else document.parent / path
        if not file.exists() or (anchor and anchor not in _anchors(file)):
            yield link


def _anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ +(.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@for_each("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_within_the_repository_lead_somewhere(document: Path) -> None:
    assert not list(_broken(document))


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "there.md").write_text("# A heading, here\n")
    document = tmp_path / "x.md"
    document.write_text("[a](there.md#a-heading-here) [b](gone.md) [c](there.md#gone) `[d](code.md)` [e](http://x/)")
    assert list(_broken(document)) == ["gone.md", "there.md#gone"]
