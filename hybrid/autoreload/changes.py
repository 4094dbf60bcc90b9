"""The files whose changes restart a service (`Watched`), and the stream of changes on disk (`batches`).

Nothing here knows of processes: `hybrid.autoreload.restarting` decides on restarts.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Generator, Sequence
from pathlib import Path, PurePath

from hybrid.config.service import ConfigError, Service

SOURCES = "*.py"  # always watched
_NEVER = frozenset({"__pycache__", "node_modules", "site-packages"})  # ignored directories, like hidden ones
_VENV_MARK = "pyvenv.cfg"  # PEP 405: a directory that holds it is a virtual environment

_QUIET = 50  # milliseconds without a change after which a batch is complete
_LONGEST = 400  # milliseconds a batch may grow while changes continue; also the longest delay of a signal then


@dataclasses.dataclass(frozen=True, slots=True)
class Watched:
    """Directories, and the files below them that matter.

    A glob without a slash is matched against the name of a file, one with slashes against the end of its path. As in a
    shell, it matches a hidden file only if it begins with a dot itself. Raises `ConfigError` on construction for a
    directory that does not exist and for a glob that can match nothing.
    """

    directories: tuple[Path, ...]
    """Absolute paths."""
    includes: tuple[str, ...] = ()
    """Globs of files that matter besides `SOURCES`."""
    excludes: tuple[str, ...] = ()
    """Globs of files and directories to ignore; they take precedence. A directory is ignored with all its contents."""

    def __post_init__(self) -> None:
        for directory in self.directories:
            if not directory.is_dir():
                raise ConfigError("reload_dir", f"{str(directory)!r}: there is no such directory")
        for field, globs in (("reload_include", self.includes), ("reload_exclude", self.excludes)):
            for glob in globs:
                if not PurePath(glob).parts or glob.startswith("/"):
                    raise ConfigError(field, f"{glob!r}: give a pattern for names or ends of paths, e.g. '*.html'")

    def matters(self, path: Path) -> bool:
        """True if a change of the file at `path`, absolute, concerns the service. Looks for virtual environments."""
        return any(
            path != root and path.is_relative_to(root) and self._matters_below(root, path.relative_to(root))
            for root in self.directories
        )

    def _matters_below(self, root: Path, relative: Path) -> bool:
        folders = relative.parents[:-1]  # without `root` itself, which was chosen explicitly
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
    """Return the files to watch for `service`. `directories` are relative to its working directory, their default.

    Raises `ConfigError`, as `Watched` does. Symbolic links in the paths of directories are resolved.
    """
    home = service.directory
    chosen = tuple((home / one).resolve() for one in directories or ("",))
    return Watched(chosen, tuple(includes), tuple(excludes))


def batches(directories: tuple[Path, ...]) -> Generator[frozenset[Path], None, None]:
    """Yield, repeatedly, the files that have changed since the last step: often none; unfiltered.

    Each step blocks for `_LONGEST` milliseconds at most. Raises `OSError` if the kernel has no watches left
    (fs.inotify.max_user_watches).
    """
    # The standard library cannot watch files, and polling the times of a large tree keeps a laptop awake. Imported
    # here, so that it is loaded for --reload only.
    from watchfiles import watch

    # without a filter of watchfiles: it would block, and delay signals, while only irrelevant files change, such as
    # a log
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
    """Return a short description of the changed files, the first by its path below the watched directory."""
    first, *others = sorted(changed)
    home = next((directory for directory in directories if first.is_relative_to(directory)), first.anchor)
    more = f" and {len(others)} more" if others else ""
    return f"{first.relative_to(home)}{more}"
