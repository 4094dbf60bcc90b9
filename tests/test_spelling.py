"""Words and phrases that must not come back in sources and documents, each with its replacement.

To replace a term everywhere, rename it, then add it to `REPLACED`. If a file needs the word in another meaning, add it
to `EXCEPTIONS`, with the reason.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
_GAP = r"\s+(?:#\s*)?"
THIS = "tests/test_spelling.py"

CHECKED = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/",
    "benchmarks/README.md",
    "hybrid/",
    "examples/",
    "supervisor/",
    "workers/",
    "tests/",
)
"""Beginnings of the paths that are checked. `hybrid/supervisor` and `hybrid/workers` are links."""

REPLACED = (
    # names
    ("HeadedCommand", "SectionedCommand"),
    ("HeadedOption", "SectionOption"),
    ("cli/manual", "cli/help"),
    ("cli/headings", "cli/sections"),
    ("demonstration/guide", "demonstration/hints"),
    ("what_to_try", "hints_for"),
    ("Errand", "ChildSpec"),
    ("Nursery", "ZygoteSpec"),
    ("Crew", "Children"),
    ("Herald", "SystemdNotifier"),
    ("Lookout", "StallDetector"),
    ("Inquest", "StackDumps"),
    ("Seasoned", "ReforkReady"),
    ("Worn", "RecycleDue"),
    ("Wear", "RecycleLimits"),
    ("babble", "send a bad message"),
    ("miscarry", "cancel"),
    ("contract/seat", "contract/worker_spec"),
    ("http/site", "http/context"),
    ("LoggedExchange", "Exchange, which `AccessEvents` is told of"),
    # terms
    ("renewal", "recycling"),
    ("look-out", "stall detector"),
    ("limit of restarts", "restart limit"),
    ("handler of connections", "connection handler"),
    ("files of TLS", "TLS files"),
    # phrases
    ("for ever", "forever"),
    ("lest", "so that ... not"),
    ("whoever", "any process that, or a noun"),
    ("of theirs", "their"),
    ("what for", "why"),
    ("does but", "only does"),
)
"""Pairs of a word that is gone and its replacement. Letters match in either case, and only whole words."""

EXCEPTIONS: dict[str, dict[str, str]] = {
    THIS: {word: "the list itself" for word, _ in REPLACED},
}
"""Path -> word that it may have -> reason."""

_WORDS = [
    # One pattern each, which begins with a letter: the search for that is quick, an alternative of all is not.
    # A phrase may continue in the next line, also of a comment.
    re.compile(rf"{_GAP.join(map(re.escape, word.lower().split()))}(?!\w)")
    for word, _ in REPLACED
]
_LETTER = re.compile(r"\w")


def found_in(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line number and the word of each occurrence, in their order."""
    small = text.lower()
    matches = [match for word in _WORDS for match in word.finditer(small)]
    for match in sorted(matches, key=lambda match: match.start()):
        if match.start() == 0 or not _LETTER.match(small, match.start() - 1):
            yield small.count("\n", 0, match.start()) + 1, re.sub(_GAP, " ", match[0])


def _checked_files() -> list[str]:
    """Return the sources and documents that git tracks; without git, all that exist."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        paths = listed.stdout.split("\0")
    else:
        paths = [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.*")]
    return [path for path in paths if path.endswith((".py", ".md")) and path.startswith(CHECKED)]


def test_no_replaced_word_comes_back() -> None:
    replacement = {word.lower(): new for word, new in REPLACED}
    files = _checked_files()
    assert len(files) > 80
    wrong = [
        f"{path}:{line}: {word!r}: write {replacement[word]!r}"
        for path in files
        if (ROOT / path).is_file()
        for line, word in found_in((ROOT / path).read_text(encoding="utf-8"))
        if word not in {allowed.lower() for allowed in EXCEPTIONS.get(path, {})}
    ]
    assert not wrong, "\n".join(wrong)


def test_exceptions_name_files_and_listed_words() -> None:
    assert [path for path in EXCEPTIONS if not (ROOT / path).is_file()] == []
    words = {word for word, _ in REPLACED}
    assert [word for allowed in EXCEPTIONS.values() for word in allowed if word not in words] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It waits for ever.", [(1, "for ever")]),
        ("a\n    # It waits for\n    # ever.", [(2, "for ever")]),
        ("Whoever reads", [(1, "whoever")]),
        ("class Errand:", [(1, "errand")]),
        ("forever, errands, at least", []),
    ],
)
def test_a_word_is_found_as_a_whole_and_across_lines(text: str, found: list[tuple[int, str]]) -> None:
    assert list(found_in(text)) == found
