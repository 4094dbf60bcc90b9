"""Env files: `KEY=VALUE` lines, read before the application is imported.

    # a comment
    DATABASE_URL=postgres://localhost/shop     # a comment needs a space before it
    export GREETING="two\\nlines"
    PATTERN='$taken "as it is"'

`parse` is pure. Nothing is substituted: `$HOME` stays `$HOME`. python-dotenv reads nearly the same form. It is not used
here, because it reports a bad line without the reason and the column, and because its import adds 23 modules and
1.6 MB to every supervisor (measured), `tempfile`, `shutil` and `random` among them.
"""

from __future__ import annotations

import dataclasses
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NoReturn

from hybrid.config.file import FileError, Place

MAX_SIZE: Final = 1 << 20
"""Bytes of the largest file that is read."""
_BLANK = re.compile(r"(?:[ \t]*(?:#[^\n]*)?(?:\n|\Z))")
_SPACE = re.compile(r"[ \t]*")
_START = re.compile(r"[ \t]*(?:export[ \t]+)?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_EQUALS = re.compile(r"[ \t]*=[ \t]*")
_COMMENT = re.compile(r"[ \t]#")  # behind a value without quotes
_QUOTED: Final = {
    "'": re.compile(r"'((?:\\.|[^'\\])*)'", re.DOTALL),
    '"': re.compile(r'"((?:\\.|[^"\\])*)"', re.DOTALL),
}
_ESCAPES: Final = {
    "'": dict(zip("'\\", "'\\", strict=True)),
    '"': dict(zip("\"'\\$nrtabfv", "\"'\\$\n\r\t\a\b\f\v", strict=True)),
}  # quote -> the character behind a backslash -> its meaning; others keep their backslash


@dataclasses.dataclass(frozen=True)
class Variable:
    """The value of a variable, and where it stands."""

    value: str
    place: Place


def read_all(paths: Iterable[str | os.PathLike[str]]) -> dict[str, Variable]:
    """Return the variables of several files; a later file overrides an earlier one. Raises `FileError`."""
    found: dict[str, Variable] = {}
    for path in paths:
        found.update(read(Path(path).absolute()))
    return found


def read(path: Path) -> dict[str, Variable]:
    """Return the variables of a file, in its order. Raises `FileError`, also if it does not exist."""
    try:
        text = _content(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileError(Place(str(path)), f"this is no UTF-8 text: {error.reason} at byte {error.start}") from None
    return parse(text, str(path))


def _content(path: Path) -> bytes:
    """Read a regular file only: a pipe could be read once, and the file is read again by each part that needs it."""
    place = Place(str(path))
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # opening a pipe would wait for its writer
        with os.fdopen(fd, "rb") as file:
            if not _can_be_read_again(os.fstat(fd)):
                raise FileError(place, "this env file is no regular file: write the variables to one")
            content = file.read(MAX_SIZE + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise FileError(place, f"this env file cannot be read: {reason}") from None
    if len(content) > MAX_SIZE:
        raise FileError(place, f"this env file is larger than {MAX_SIZE >> 10} KiB: is it the right file?")
    return content


def _can_be_read_again(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) or status.st_rdev == os.stat(os.devnull).st_rdev  # noqa: PTH116


def parse(text: str, file: str) -> dict[str, Variable]:
    """Return the variables in the text of an env file, in its order; of two with one name the later one counts.

    `file` is its name, for errors and places. Raises `FileError`.
    """
    return _Parser(text.replace("\r\n", "\n"), file).parse()


class _Parser:
    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file
        self._at = 0
        self._line, self._counted = 1, 0  # the line of a character, and its index

    def parse(self) -> dict[str, Variable]:
        found: dict[str, Variable] = {}
        while self._at < len(self._text):
            if not self._skip(_BLANK):
                name, variable = self._assignment()
                found[name] = variable
        return found

    def _assignment(self) -> tuple[str, Variable]:
        self._skip(_START)
        begin = self._at
        name = _NAME.match(self._text, begin)
        if name is None:
            self._fail(begin, "no name of a variable: write KEY=VALUE, or # before a comment")
        self._at = name.end()
        if not self._skip(_EQUALS):
            self._fail(self._at, f"there is no = behind {name[0]}: write {name[0]}=VALUE")
        value_begins = self._at
        quote = self._text[self._at : self._at + 1]
        value = self._quoted(quote) if quote in _QUOTED else self._plain()
        if "\0" in value:
            self._fail(value_begins, f"the value of {name[0]} has a NUL, which no variable can have")
        return name[0], Variable(value, self._place(begin))

    def _plain(self) -> str:
        end = self._text.find("\n", self._at)
        line = self._text[self._at : len(self._text) if end < 0 else end]
        is_comment = line.startswith("#") and self._text[self._at - 1] in " \t"  # KEY= # a comment
        self._at += len(line) + 1
        found = _COMMENT.search(line)
        return "" if is_comment else line[: found.start() if found else len(line)].rstrip(" \t")

    def _quoted(self, quote: str) -> str:
        match = _QUOTED[quote].match(self._text, self._at)
        if match is None:
            self._fail(self._at, f"this quote is not closed: put {quote} at the end of the value")
        self._at = match.end()
        if not self._skip(_BLANK):
            self._skip(_SPACE)
            self._fail(self._at, "there is text behind the closing quote: remove it, or put # before a comment")
        escapes = _ESCAPES[quote]
        return re.sub(r"\\(.)", lambda found: escapes.get(found[1], found[0]), match[1], flags=re.DOTALL)

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        match = pattern.match(self._text, self._at)
        if match is None:
            return False
        self._at = match.end()
        return True

    def _place(self, at: int) -> Place:
        line_begins = self._text.rfind("\n", 0, at) + 1
        self._line += self._text.count("\n", self._counted, at)  # places are asked for in the order of the file
        self._counted = at
        return Place(self._file, self._line, at - line_begins + 1)

    def _fail(self, at: int, reason: str) -> NoReturn:
        raise FileError(self._place(at), reason)
