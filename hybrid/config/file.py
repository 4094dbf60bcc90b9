"""`hybrid.toml`, or `[tool.hybrid]` in `pyproject.toml`: found, read, and checked against the declarations.

    workers = 4                 # top level: for every service

    [service.web]
    target = "shop:app"

    [profile.dev]               # laid over the top level by --profile dev
    reload = true

Reading runs no code. A mistake is a `FileError` that says where it stands. Nothing here knows a command line, and
`tomllib` is imported only for a file that is there: most starts have none.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from hybrid.config.companions import TableError, companions_of
from hybrid.config.declaring import Option
from hybrid.config.kinds import CommandLine, Companions, File, Mode, Parsed, Restarts, Switch
from hybrid.config.pools import Pools, pools_of
from hybrid.config.targets import TargetError, check_reference

NAME: Final = "hybrid.toml"
PROJECT: Final = "pyproject.toml"
TARGET: Final = "target"
_SECTION: Final = ("tool", "hybrid")  # of a pyproject.toml
_SERVICE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_AT = re.compile(r"(.*) \(at line (\d+), column (\d+)\)", re.DOTALL)  # how tomllib ends its messages
_Path = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Place:
    """Where something stands in a file. Lines and columns count from 1; 0: only the file is known."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


class FileError(ValueError):
    """A file that cannot be used: where, why, and what to write instead."""

    def __init__(self, place: Place, reason: str) -> None:
        super().__init__(place, reason)
        self.place = place
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


@dataclasses.dataclass(frozen=True)
class Entry:
    """A value of an option, and where it stands."""

    value: object
    place: Place


Entries = Mapping[str, Entry]
"""Key of an option, or `target` -> its value and place."""


@dataclasses.dataclass(frozen=True)
class Document:
    """The content of a file."""

    file: str
    defaults: Entries
    """For every service."""
    services: Mapping[str, Entries]
    """Name of a service -> its own entries, in the order of the file."""
    profiles: Mapping[str, Entries]
    """Name of a profile -> the entries that override all others of the file."""

    def layers(self, service: str | None, profile: str | None) -> tuple[Entries, ...]:
        """Return the entries that apply to a service, strongest first; None: a target that is not in the file.

        A profile overrides the service, because it is chosen for a single run. Raises `FileError` for a profile that
        the file does not have.
        """
        named = () if service is None else (self.services[service],)
        if profile is None:
            return (*named, self.defaults)
        if profile not in self.profiles:
            known = ", ".join(self.profiles) or "none"
            raise FileError(Place(self.file), f"there is no profile {profile!r}; known: {known}")
        return (self.profiles[profile], *named, self.defaults)


def find(directory: Path) -> Path | None:
    """Return the file that is used in a directory: `hybrid.toml`, or a `pyproject.toml` with `[tool.hybrid]`.

    None if there is neither; `read` says if the first cannot be read. Raises `FileError` for a `pyproject.toml` that
    cannot be read.
    """
    own = directory / NAME
    if own.exists() or own.is_symlink():  # a directory, or a link to nothing: reading it says so
        return own
    project = directory / PROJECT
    if project.is_file() and b"tool.hybrid" in _read(project):
        _, tree = _parse(project)
        if _below(tree, _SECTION) is not None:
            return project
    return None


def read(path: Path, options: Iterable[Option]) -> Document:
    """Return what a file says. `options` are those that it may set. Raises `FileError`."""
    text, tree = _parse(path)
    prefix: _Path = _SECTION if path.name == PROJECT else ()
    table = _below(tree, prefix)
    if table is None:
        raise FileError(Place(str(path)), "there is no table [tool.hybrid]")
    return _Reader(path, _places(text), {option.key: option for option in options if option.key is not None}).read(
        table, prefix
    )


class _Reader:
    def __init__(self, path: Path, places: Mapping[_Path, tuple[int, int]], options: Mapping[str, Option]) -> None:
        self._path = path
        self._places = places
        self._options = options

    def read(self, table: Mapping[str, Any], at: _Path) -> Document:
        top = {key: value for key, value in table.items() if key not in ("service", "profile")}
        services = self._tables(table, "service", at)
        for name in services:
            if not _SERVICE_NAME.fullmatch(name):
                raise self._error(
                    (*at, "service", name), f"{name!r}: use up to 64 letters, digits, dots, dashes, underscores"
                )
        return Document(
            str(self._path),
            self._entries(top, at, ()),
            {name: self._entries(values, (*at, "service", name), (TARGET,)) for name, values in services.items()},
            {
                name: self._entries(values, (*at, "profile", name), ())
                for name, values in self._tables(table, "profile", at).items()
            },
        )

    def _tables(self, table: Mapping[str, Any], key: str, at: _Path) -> Mapping[str, Mapping[str, Any]]:
        found = table.get(key, {})
        if not isinstance(found, dict):
            raise self._error((*at, key), f"{key} is a table: write [{key}.NAME]")
        for name, values in found.items():
            if not isinstance(values, dict):
                raise self._error((*at, key, name), f"{key}.{name} is a table: write [{key}.{name}]")
        return found

    def _entries(self, table: Mapping[str, Any], at: _Path, more: tuple[str, ...]) -> Entries:
        return {key: self._entry(key, value, (*at, key), more) for key, value in table.items()}

    def _entry(self, key: str, value: object, at: _Path, more: tuple[str, ...]) -> Entry:
        if key in more:
            return Entry(self._target(value, at), self._place(at))
        option = self._options.get(key)
        if option is None:
            raise self._error(at, self._unknown(key, more))
        try:
            converted = _value(option, value, self._path.parent)
        except TableError as error:
            raise self._error((*at, *error.path), error.reason) from None
        except ValueError as error:
            raise self._error(at, f"{key}: {error}") from None
        return Entry(converted, self._place(at))

    def _target(self, value: object, at: _Path) -> str:
        if not isinstance(value, str):
            raise self._error(at, f'{TARGET}: {value!r}: write a text, e.g. "myapp:app"')
        try:
            return check_reference(value)
        except TargetError as error:
            raise self._error(at, str(error)) from None

    def _unknown(self, key: str, more: tuple[str, ...]) -> str:
        if key == TARGET:
            return "target belongs to a service: write it below [service.NAME]"
        import difflib

        tables = () if more else ("service", "profile")
        near = difflib.get_close_matches(key.replace("-", "_"), [*self._options, *more, *tables], n=1)
        return f"unknown key {key!r}" + (f": did you mean {near[0]}?" if near else "")

    def _error(self, at: _Path, reason: str) -> FileError:
        return FileError(self._place(at), reason)

    def _place(self, at: _Path) -> Place:
        while at and at not in self._places:
            within = [place for path, place in self._places.items() if path[: len(at)] == at]
            if within:  # a table that only the headers of its own tables name
                return Place(str(self._path), *min(within))
            at = at[:-1]
        return Place(str(self._path), *self._places.get(at, (0, 0)))


def _value(option: Option, value: object, directory: Path) -> object:
    """Return the value of an option that a value of TOML means. Raises `ValueError`."""
    if isinstance(option.kind, Companions) and isinstance(value, dict):
        converted: object = companions_of(value)
    elif isinstance(option.kind, Pools) and isinstance(value, dict):
        converted = pools_of(value, lambda one, given: _single(one, given, directory))
    elif option.is_repeated:
        items = value if isinstance(value, list) else [value]
        converted = tuple(_single(option, item, directory) for item in items)
    else:
        converted = _single(option, value, directory)
    complaint = option.complaint(converted)
    if complaint is not None:
        raise ValueError(complaint)
    return converted


def _single(option: Option, value: object, directory: Path) -> object:
    kind = option.kind
    if isinstance(kind, Switch) and not isinstance(value, bool):
        raise ValueError(f"{value!r}: write true or false")
    if isinstance(kind, Restarts):
        return kind.parse(str(value))
    if isinstance(kind, Mode) and isinstance(value, str):
        return kind.parse(value)
    if isinstance(kind, Parsed) and isinstance(value, str):
        return kind.parse(value)
    if isinstance(kind, CommandLine) and isinstance(value, list):
        return tuple(value)
    if isinstance(kind, File) and isinstance(value, str) and value:
        return str(directory / value)
    return value


# -- reading -----------------------------------------------------------------------------------------------------------


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileError(Place(str(path)), f"cannot be read: {error.strerror or error}") from None


def _parse(path: Path) -> tuple[str, dict[str, Any]]:
    text = read_text(path)
    return text, parse_toml(path, text)


def read_text(path: Path) -> str:
    """Return the text of a file. Raises `FileError`."""
    try:
        return _read(path).decode()
    except UnicodeDecodeError as error:
        raise FileError(Place(str(path)), f"this is no UTF-8 text: {error.reason} at byte {error.start}") from None


def parse_toml(path: Path, text: str) -> dict[str, Any]:
    """Return what the text of a file says. Raises `FileError`."""
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _located(path, text, str(error)) from None


def _located(path: Path, text: str, message: str) -> FileError:
    """Return the error for a message of `tomllib`, which ends with a place in words."""
    match = _AT.fullmatch(message)
    if match:
        return FileError(Place(str(path), int(match[2]), int(match[3])), match[1])
    last = text.splitlines()[-1:] or [""]
    end = Place(str(path), max(1, len(text.splitlines())), len(last[0]) + 1)
    return FileError(end, message.replace(" (at end of document)", ": the file ends here"))


def _below(tree: Mapping[str, Any], path: _Path) -> Mapping[str, Any] | None:
    found: Any = tree
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None


def _places(text: str) -> dict[_Path, tuple[int, int]]:
    """Return where tables and keys stand: path -> line and column. `tomllib` does not tell.

    The text is valid TOML. A statement ends with the first line with which it can be parsed on its own.
    """
    import tomllib

    found: dict[_Path, tuple[int, int]] = {}
    table: _Path = ()
    for number, statement in _statements(text):
        column = len(statement) - len(statement.lstrip()) + 1
        if statement.lstrip().startswith("["):
            table = _key_of(statement.strip().removesuffix("\n"))
            found.setdefault(table, (number, column))
        else:
            path = (*table, *_path_of(tomllib.loads(statement)))
            for end in range(len(table) + 1, len(path) + 1):
                found.setdefault(path[:end], (number, column))
    return found


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Give headers of tables and assignments, each with the line on which it begins."""
    pending, begin = "", 0
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        if not pending and not line.partition("#")[0].strip():
            continue
        begin = begin if pending else number
        pending += line
        if _is_whole(pending):
            yield begin, pending
            pending = ""


def _is_whole(statement: str) -> bool:
    import tomllib

    try:
        tomllib.loads(statement)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _path_of(tree: Any) -> _Path:
    """Return the keys that lead to the value of one assignment; an inline table is a value."""
    path: _Path = ()
    while isinstance(tree, dict) and len(tree) == 1:
        ((key, tree),) = tree.items()
        path = (*path, key)
    return path


def _key_of(header: str) -> _Path:
    """Return the path that the header of a table names."""
    import tomllib

    tree: Any = tomllib.loads(header)
    path: _Path = ()
    while (isinstance(tree, dict) and tree) or isinstance(tree, list):
        if isinstance(tree, list):
            tree = tree[-1]
            continue
        ((key, tree),) = tree.items()
        path = (*path, key)
    return path


def is_masked(key: str) -> bool:
    """Return True if the value of a key is not to be printed: passwords, tokens and their like."""
    return key.endswith(("password", "token", "secret"))


def masked(text: str) -> str:
    """Return a text with the credentials of URLs in it replaced."""
    return re.sub(r"(?<=://)[^/@\s]+(?=@)", "***", text)


def relative(path: Path) -> str:
    """Return a path as a person would type it here."""
    try:
        return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
    except OSError:  # the working directory is gone
        return str(path)
