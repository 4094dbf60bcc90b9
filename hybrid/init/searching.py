"""Walks a directory and returns what could be served there, best first.

The walk is bounded: three levels, 500 files, 256 KiB each. It follows no links, and skips tests, virtual environments
and what is not the project's own code.
"""

from __future__ import annotations

import ast
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hybrid.init import django
from hybrid.init.candidates import Candidate, Form, UnreadableError, candidates_in, imported_by, parse

MAX_DEPTH: Final = 3
"""Levels of directories below the first."""
MAX_FILES: Final = 500
MAX_SIZE: Final = 256 << 10
"""Bytes of the largest file that is read."""
_SKIPPED: Final = {
    *("venv", "env", "node_modules", "__pycache__", "test", "tests", "testing", "build", "dist", "migrations"),
    *("docs", "doc", "examples"),
}
_SKIPPED_FILES: Final = ("test_", "conftest.", "setup.", "gunicorn.conf")
_USUAL_MODULES: Final = ("main", "app", "wsgi", "asgi", "application", "server", "__init__")
_USUAL_NAMES: Final = ("app", "application", "api", "create_app", "make_app", "handle")


@dataclasses.dataclass(frozen=True)
class Found:
    """A candidate and how to serve it."""

    target: str
    """`module:attribute`"""
    form: Form
    kind: str
    where: str
    """File and line, relative to the directory of the search."""
    chdir: str = ""
    """The directory to import it from, relative to that of the search; empty: that one itself."""
    rank: tuple[int, ...] = ()
    """Smaller is better."""


@dataclasses.dataclass(frozen=True)
class Findings:
    """The result of a search."""

    found: tuple[Found, ...]
    """Best first."""
    unreadable: tuple[str, ...]
    """Files that could not be read or parsed, and why."""
    is_cut: bool
    """True if there were more files than are read."""


def search(directory: Path) -> Findings:
    """Return what could be served in a directory. Reads files, and runs none of them."""
    found: list[Found] = []
    unreadable: list[str] = []
    files = list(_files(directory))
    for file in files[:MAX_FILES]:
        try:
            found += _in_file(directory, file)
        except (OSError, UnreadableError, RecursionError) as error:
            unreadable.append(f"{file.relative_to(directory)}: {getattr(error, 'strerror', None) or error}")
    unique: dict[tuple[str, str], Found] = {}
    for one in sorted(found, key=lambda one: one.rank):
        unique.setdefault((one.chdir, one.target), one)
    return Findings(tuple(unique.values()), tuple(unreadable), len(files) > MAX_FILES)


def _files(directory: Path) -> Iterator[Path]:
    """Yield at most one file more than are read: those near the top first, each level in alphabetical order."""
    level, count = [directory], 0
    for _ in range(MAX_DEPTH + 1):
        below: list[Path] = []
        for folder in level:
            for entry in _entries(folder):
                if entry.is_dir(follow_symlinks=False):
                    if not _is_skipped(entry):
                        below.append(Path(entry.path))
                elif _is_source(entry):
                    count += 1
                    yield Path(entry.path)
                    if count > MAX_FILES:
                        return
        level = below


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not entry.is_symlink()), key=lambda entry: entry.name)
    except OSError:  # no permission, or gone: nothing in it can be served
        return []


def _is_skipped(entry: os.DirEntry[str]) -> bool:
    is_ours = entry.name.isidentifier() and entry.name not in _SKIPPED
    return not is_ours or (Path(entry.path) / "pyvenv.cfg").exists()


def _is_source(entry: os.DirEntry[str]) -> bool:
    is_ours = entry.name.endswith(".py") and not entry.name.startswith((".", *_SKIPPED_FILES))
    return is_ours and entry.is_file(follow_symlinks=False)  # opening a pipe would wait for its writer


def _in_file(directory: Path, file: Path) -> Iterator[Found]:
    if file.stat().st_size > MAX_SIZE:
        raise UnreadableError(f"larger than {MAX_SIZE >> 10} KiB")
    if file.name == "manage.py":
        target = django.target_of(file)
        if target is not None:
            chdir = _text(file.parent.relative_to(directory))
            where = f"the settings of {file.relative_to(directory)}"
            yield Found(target, Form.APPLICATION, "Django", where, chdir, (0, len(chdir)))
        return
    tree = parse(file.read_bytes())
    candidates = candidates_in(tree)
    if not candidates:
        return
    root, module = _imported_as(directory, file, tree)
    for candidate in candidates:
        where = f"{file.relative_to(directory)}:{candidate.line}"
        rank = _rank(candidate, file.relative_to(directory))
        yield Found(f"{module}:{candidate.name}", candidate.form, candidate.kind, where, _text(root), rank)


def _text(path: Path) -> str:
    return "" if path == Path() else path.as_posix()


def _imported_as(directory: Path, file: Path, tree: ast.Module) -> tuple[Path, str]:
    """Return the directory to import a file from, relative to `directory`, and the name of the module.

    Above its packages, usually. A folder without `__init__.py` may be either: it is where the module finds those that
    it imports.
    """
    folder = file.parent
    while folder != directory and (folder / "__init__.py").is_file():
        folder = folder.parent
    is_found_there = any(_has(folder, name) for name in imported_by(tree))
    is_root = folder.name == "src" or (folder == file.parent and is_found_there)
    root = folder if folder == directory or is_root else directory
    parts = file.relative_to(root).with_suffix("").parts
    return root.relative_to(directory), ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _has(folder: Path, module: str) -> bool:
    return (folder / f"{module}.py").is_file() or (folder / module / "__init__.py").is_file()


def _rank(candidate: Candidate, file: Path) -> tuple[int, ...]:
    """Return the order of a candidate: by form, depth, module, name, line."""
    return (
        1 + list(Form).index(candidate.form),
        len(file.parts),
        _place(_USUAL_MODULES, file.stem),
        _place(_USUAL_NAMES, candidate.name),
        candidate.line,
    )


def _place(usual: tuple[str, ...], name: str) -> int:
    return usual.index(name) if name in usual else len(usual)
