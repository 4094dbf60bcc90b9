"""Which changed files make a service restart (`Watched`), and the stream of changes on a disk (`batches`).

Nothing here knows of processes: what a change leads to is decided in `hybrid.autoreload.watcher`.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Generator, Sequence
from pathlib import Path, PurePath

from hybrid.config.service import ConfigError, Service

SOURCES = "*.py"  # always watched
_NEVER = frozenset({"__pycache__", "node_modules", "site-packages"})  # directories beside the hidden ones
_VENV_MARK = "pyvenv.cfg"  # PEP 405: a directory that holds it is a virtual environment

_QUIET = 50  # milliseconds without a change after which a batch is complete
_LONGEST = 400  # milliseconds a batch may grow where there is no end of changes; also how late a signal is seen then


@dataclasses.dataclass(frozen=True, slots=True)
class Watched:
    """Directories, and which files below them matter.

    A glob without a slash is compared with the name of a file, one with slashes with the end of its path. Like a
    shell's, it takes a hidden file only where it begins with a dot itself. Raises `ConfigError` on construction for a
    directory that does not exist and for a glob that can match nothing.
    """

    directories: tuple[Path, ...]
    """Absolute."""
    includes: tuple[str, ...] = ()
    """Globs of files that matter beside `SOURCES`."""
    excludes: tuple[str, ...] = ()
    """Globs of files, and of directories with all that is in them, that do not; they win."""

    def __post_init__(self) -> None:
        for directory in self.directories:
            if not directory.is_dir():
                raise ConfigError("reload_dir", f"{str(directory)!r}: there is no such directory")
        for field, globs in (("reload_include", self.includes), ("reload_exclude", self.excludes)):
            for glob in globs:
                if not PurePath(glob).parts or glob.startswith("/"):
                    raise ConfigError(field, f"{glob!r}: give a pattern for names or ends of paths, e.g. '*.html'")

    def matters(self, path: Path) -> bool:
        """Whether a change of the file at `path`, absolute, is one of the service. Looks for virtual environments."""
        return any(
            path != root and path.is_relative_to(root) and self._matters_below(root, path.relative_to(root))
            for root in self.directories
        )

    def _matters_below(self, root: Path, relative: Path) -> bool:
        folders = relative.parents[:-1]  # without `root` itself, which somebody wants to be watched
        if any(folder.name.startswith(".") or folder.name in _NEVER for folder in folders):
            return False
        if not any(_takes(glob, relative) for glob in (SOURCES, *self.includes)):
            return False
        if any(one.match(glob) for glob in self.excludes for one in (relative, *folders)):
            return False
        return not any((root / folder / _VENV_MARK).is_file() for folder in folders)


def _takes(glob: str, relative: Path) -> bool:
    is_hidden = relative.name.startswith(".")
    return relative.match(glob) and (not is_hidden or PurePath(glob).name.startswith("."))


def watched_for(
    service: Service, directories: Sequence[str], includes: Sequence[str] = (), excludes: Sequence[str] = ()
) -> Watched:
    """Return what to watch for `service`: these directories, relative to its own, or without any its own.

    Raises `ConfigError`, as `Watched` does. Symbolic links on the way to a directory are resolved.
    """
    home = service.directory
    chosen = tuple((home / one).resolve() for one in directories or ("",))
    return Watched(chosen, tuple(includes), tuple(excludes))


def batches(directories: tuple[Path, ...]) -> Generator[frozenset[Path], None, None]:
    """Give, again and again, the files that have changed since the last time: often none; unfiltered.

    Each step blocks, `_LONGEST` milliseconds at most. Raises `OSError` when the kernel has no watch left
    (fs.inotify.max_user_watches).
    """
    # What notices changes is not in the standard library, and looking at every file's time again and again wakes a
    # laptop up for a large tree. Only here: who does not reload does not load it.
    from watchfiles import watch

    # no filter of theirs: it would keep us waiting, and deaf for signals, as long as only files change that do not
    # matter, such as a log
    changes = watch(
        *directories,
        watch_filter=None,
        debounce=_LONGEST,
        step=_QUIET,
        rust_timeout=_QUIET,
        yield_on_timeout=True,
        ignore_permission_denied=True,
    )
    with contextlib.closing(changes):
        for batch in changes:
            yield frozenset(Path(path) for _, path in batch)


def describe(changed: frozenset[Path], directories: tuple[Path, ...]) -> str:
    """Return the changed files in a few words, the first by its path below the directory that is watched."""
    first, *others = sorted(changed)
    home = next((directory for directory in directories if first.is_relative_to(directory)), first.anchor)
    more = f" and {len(others)} more" if others else ""
    return f"{first.relative_to(home)}{more}"
