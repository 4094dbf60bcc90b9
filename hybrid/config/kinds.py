"""The kinds of values of options. A kind checks values, and converts them from and to text.

Pure: no command line and no file. `hybrid.cli.flags` makes click types of them; a reader of a file or a prompt can use
them in the same way.
"""

from __future__ import annotations

import abc
import os
import shlex
from typing import ClassVar, Final

from hybrid.config.checks import Range, is_whole
from hybrid.config.companions import Companion, companion_text, read_companion
from hybrid.config.restart_limit import RestartLimit
from hybrid.config.texts import (
    duration_text,
    read_command,
    read_duration,
    read_mode,
    read_restarts,
    read_size,
    read_workers,
    restarts_text,
    size_text,
)

MAX_WORKERS: Final = 1024
MOST_OFFLOAD_WORKERS: Final = 64
"""The maximum of offload workers of a service."""


class Kind:
    """A kind of values. This class allows all of them; the option's own check has to restrict them."""

    metavar: str | None = None
    """The placeholder for a value in the help; None: click chooses a word itself, or there is no value."""

    def complaint(self, value: object) -> str | None:
        """Return why `value` is not allowed, and a value to write instead; None if it is allowed."""
        return None

    def text(self, value: object) -> object:
        """Return `value` as a person types it; numbers and words are returned unchanged."""
        return value


class Parsed(Kind, abc.ABC):
    """A kind that parses its values from text."""

    @abc.abstractmethod
    def parse(self, text: str) -> object:
        """Return the value that a text means. Raises `ValueError`."""


class Text(Kind):
    """A text; the option's own check restricts it."""

    def __init__(self, metavar: str) -> None:
        self.metavar = metavar


class Switch(Kind):
    """On or off."""

    def complaint(self, value: object) -> str | None:
        """Only booleans are allowed."""
        return None if isinstance(value, bool) else f"{value!r}: use True or False"


class Choice(Kind):
    """One word of a fixed set."""

    def __init__(self, words: tuple[str, ...]) -> None:
        self.words = words

    def complaint(self, value: object) -> str | None:
        """Only these words are allowed."""
        return None if value in self.words else f"{value!r}: use one of {', '.join(self.words)}"


class File(Kind):
    """The path of a file. Not checked for existence."""

    metavar = "PATH"

    def complaint(self, value: object) -> str | None:
        """Only paths that are not empty are allowed."""
        is_path = isinstance(value, str | os.PathLike) and os.fspath(value)
        return None if is_path else f"{value!r}: give a path"


class Directory(File):
    """The path of a directory. Not checked for existence."""


class Number(Kind):
    """A number in a range, with a unit."""

    whole: ClassVar[bool] = False
    unit: str = ""
    """The unit, in the plural. A count has none: the name of the option tells its unit."""

    def __init__(self, lowest: float, highest: float, *, zero: str = "") -> None:
        """`zero`: the meaning of 0, if 0 does not mean the number."""
        notes = [note for note in (self.unit, f"0: {zero}" if zero else "") if note]
        self.range = Range(lowest, highest, self.whole, f" ({'; '.join(notes)})" if notes else "")

    def complaint(self, value: object) -> str | None:
        """Only numbers in the range are allowed."""
        return None if self.range.contains(value) else f"{value!r}: use {self.range}"


class Count(Number):
    """A whole number."""

    whole = True
    metavar = "N"


class Fraction(Number):
    """A fraction of a limit that another option sets."""

    unit = "a fraction of the limit"
    metavar = "FRACTION"


class Seconds(Number, Parsed):
    """A duration in seconds."""

    unit = "seconds"
    metavar = "SECONDS"

    def parse(self, text: str) -> float:
        """Return seconds."""
        return read_duration(text)

    def text(self, value: object) -> object:
        """Return the number with a unit."""
        return duration_text(value) if isinstance(value, int | float) else value


class Bytes(Number, Parsed):
    """A size in bytes."""

    whole = True
    unit = "bytes"
    metavar = "BYTES"

    def parse(self, text: str) -> int:
        """Return bytes."""
        return read_size(text)

    def text(self, value: object) -> object:
        """Return the number with the largest unit of which it is a whole multiple."""
        return size_text(value) if isinstance(value, int) else value


class BytesPerSecond(Bytes):
    """A rate."""

    unit = "bytes per second"


class Workers(Parsed):
    """A number of workers, or `auto`."""

    metavar = "auto|N"

    def complaint(self, value: object) -> str | None:
        """`auto` and 1 to `MAX_WORKERS` are allowed."""
        if value == "auto" or (is_whole(value) and 1 <= value <= MAX_WORKERS):
            return None
        return f"{value!r}: use 'auto' or a number from 1 to {MAX_WORKERS}"

    def parse(self, text: str) -> int | str:
        """Return the number, or `auto`."""
        return read_workers(text)


class OffloadWorkers(Parsed):
    """A number of offload workers, or `auto`."""

    metavar = "auto|N"

    def __init__(self, fewest: int = 0) -> None:
        self._fewest = fewest

    def complaint(self, value: object) -> str | None:
        """`auto` and numbers up to `MOST_OFFLOAD_WORKERS` are allowed."""
        if value == "auto" or (is_whole(value) and self._fewest <= value <= MOST_OFFLOAD_WORKERS):
            return None
        return f"{value!r}: use 'auto' or a number from {self._fewest} to {MOST_OFFLOAD_WORKERS}"

    def parse(self, text: str) -> int | str:
        """Return the number, or `auto`."""
        text = text.strip()
        return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else text


class Mode(Parsed):
    """Permission bits of a file."""

    metavar = "OCTAL"

    def complaint(self, value: object) -> str | None:
        """The nine bits of user, group and others are allowed."""
        is_mode = is_whole(value) and 0 <= value <= 0o777
        return None if is_mode else f"{value!r}: use a file mode from 0o000 to 0o777"

    def parse(self, text: str) -> int:
        """Return the bits."""
        return read_mode(text)

    def text(self, value: object) -> object:
        """Return the octal digits."""
        return f"{value:o}" if isinstance(value, int) else value


class Restarts(Parsed):
    """A restart limit, or None."""

    metavar = "N/SECONDS"

    def complaint(self, value: object) -> str | None:
        """Only a `RestartLimit` is allowed, which checks its numbers itself."""
        is_limit = isinstance(value, RestartLimit)
        return None if is_limit else f"{value!r}: give a RestartLimit(restarts, seconds), or None"

    def parse(self, text: str) -> RestartLimit | None:
        """Return the limit; None for no limit."""
        return read_restarts(text)

    def text(self, value: object) -> object:
        """Return the two numbers; `0` for no limit."""
        return restarts_text(value) if value is None or isinstance(value, RestartLimit) else value


class CommandLine(Parsed):
    """A program and its arguments, as a tuple of words."""

    metavar = "COMMAND"

    def complaint(self, value: object) -> str | None:
        """At least one word is needed, and all are texts."""
        words = value if isinstance(value, tuple | list) else ()
        is_command = words and words[0] and all(isinstance(word, str) and "\0" not in word for word in words)
        if is_command:
            return None
        advice = "give a program and its arguments"
        return f"{value!r}: {advice}" if words or not isinstance(value, tuple | list) else advice

    def parse(self, text: str) -> tuple[str, ...]:
        """Return the words, split as a shell does; nothing is expanded."""
        return read_command(text)

    def text(self, value: object) -> object:
        """Return the words as a person types them in a shell."""
        return shlex.join(value) if isinstance(value, tuple | list) else value


class Companions(Parsed):
    """A companion."""

    metavar = "NAME=FUNCTION[*N]"

    def complaint(self, value: object) -> str | None:
        """Only a `Companion` is allowed, which checks its fields itself."""
        is_companion = isinstance(value, Companion)
        return None if is_companion else f"{value!r}: give Companion(name, target), or name=module:function as text"

    def parse(self, text: str) -> Companion:
        """Return the companion."""
        return read_companion(text)

    def text(self, value: object) -> object:
        """Return it as a person types it."""
        return companion_text(value) if isinstance(value, Companion) else value
