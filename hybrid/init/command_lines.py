"""Command lines of other servers: words in, options and targets out. Pure."""

from __future__ import annotations

import dataclasses
import re
import shlex
from typing import Final

from hybrid.init.servers import SERVERS, Server

_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
_VARIABLE = re.compile(r"\$\{?(\w+)")
SHELL: Final = re.compile(r"[;&|<>`$(){}*?~\n]")
"""What a shell would act on."""
_RUNNERS: Final = (("exec",), ("poetry", "run"), ("pipenv", "run"), ("uv", "run"), ("pdm", "run"), ("hatch", "run"))
_PYTHON = re.compile(r"(?:.*/)?python[0-9.]*")


@dataclasses.dataclass(frozen=True)
class Given:
    """An option of another server."""

    flag: str
    """Its long name."""
    value: str | None = None
    """As on a command line; None for an option without a value."""
    name: str = ""
    """Its name in a file, if that differs."""
    where: str = ""
    """Where it stands in a file, e.g. `line 3`."""
    variables: tuple[str, ...] = ()
    """Environment variables that the value is made of."""
    has_default: bool = False
    """True if `value` is right without these variables."""
    is_of_cores: bool = False
    """True if the value follows from the number of cores."""


@dataclasses.dataclass(frozen=True)
class Command:
    """A command line of another server."""

    server: Server
    options: tuple[Given, ...]
    targets: tuple[str, ...]
    unknown: tuple[str, ...] = ()
    """Options that the server does not have."""
    environment: tuple[str, ...] = ()
    """Assignments before the command, `KEY=VALUE`."""


class CommandError(ValueError):
    """A command line that cannot be understood."""


def split(text: str) -> list[str]:
    """Return the words of a command line. Raises `CommandError` for an open quote."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise CommandError(f"{text!r}: {str(error).lower()}") from None


def read_command(text: str) -> Command | None:
    """Return the command of another server; None if it is a command of none of them. Raises `CommandError`."""
    words = split(text)
    environment = []
    while words and _ASSIGNMENT.fullmatch(words[0]):
        environment.append(words.pop(0))
    words = _without_runner(words)
    server = SERVERS.get(words[0].rpartition("/")[2]) if words else None
    if server is None:
        return None
    return dataclasses.replace(_parse(server, words[1:]), environment=tuple(environment))


def _without_runner(words: list[str]) -> list[str]:
    """Return a command without what only starts it: `exec`, `poetry run`, `python -m`."""
    for runner in _RUNNERS:
        if tuple(words[: len(runner)]) == runner:
            return _without_runner(words[len(runner) :])
    if len(words) > 2 and _PYTHON.fullmatch(words[0]) and words[1] == "-m":
        return words[2:]
    return words


def _parse(server: Server, words: list[str]) -> Command:
    options: list[Given] = []
    targets: list[str] = []
    unknown: list[str] = []
    rest = iter(words)
    for word in rest:
        if not word.startswith("-") or word == "-":
            targets.append(word)
            continue
        if word == "--":
            targets += rest
            break
        name, value = _split_option(server, word)
        if name in server.takes_value:
            value = next(rest, None) if value is None else value
            if value is None:
                raise CommandError(f"{server.name}: {word} has no value")
            options.append(Given(name, value, variables=tuple(_VARIABLE.findall(value))))
        elif name in server.flags:
            options.append(Given(name, value))
        else:
            unknown.append(word)
    return Command(server, tuple(options), tuple(targets), tuple(unknown))


def _split_option(server: Server, word: str) -> tuple[str, str | None]:
    """Return the long name of an option and the value in the same word: `--workers=4`, `-w4`."""
    if not word.startswith("--"):
        name = server.short.get(word[:2], word[:2])
        return name, (word[2:].removeprefix("=") if len(word) > 2 else None)
    name, equals, value = word.partition("=")
    return server.short.get(name, name), value if equals else None
