"""What `--from` names: a file or a command line of another server, as a draft."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Final

from hybrid.init.candidates import UnreadableError
from hybrid.init.command_lines import Command, CommandError, read_command
from hybrid.init.drafts import Draft, ServiceDraft
from hybrid.init.gunicorn_file import read_settings
from hybrid.init.procfile import read_procfile
from hybrid.init.searching import search
from hybrid.init.servers import GUNICORN, SERVERS
from hybrid.init.translating import translate
from hybrid.init.translation import Translated

_USUAL_FILE: Final = "gunicorn.conf.py"
MAX_SIZE: Final = 256 << 10
"""Bytes of the largest file that is read."""


class SourceError(ValueError):
    """What `--from` names cannot be translated; the text says what it takes."""


def draft_from(source: str, directory: Path) -> Draft:
    """Return the draft for a file, or for a command line. Raises `SourceError`."""
    path = directory / source
    guess = _guess(directory)
    if _is_file(path):
        origin, results = path.name, _from_file(path, guess)
    else:
        origin, results = _from_command(source, directory, guess)
    services, remarks = _together(results)
    # the command itself is not repeated: it may have passwords
    return Draft(f"Written by hybrid init, from {origin}.", tuple(services), tuple(remarks))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a command line may be too long for a name
        return False


def _guess(directory: Path) -> str | None:
    """Return the best candidate of the directory, for settings that name no application."""
    found = search(directory).found
    return found[0].target if found else None


def _from_file(path: Path, guess: str | None) -> list[Translated | str]:
    content = _content(path)
    if path.name.startswith("Procfile"):
        make = functools.partial(_service, directory=path.parent, guess=guess)
        return list(read_procfile(content.decode(errors="replace"), make))
    if path.suffix == ".py":
        return [_from_settings(Command(GUNICORN, (), ()), "web", path, guess)]
    raise SourceError(
        f"{path.name} is neither a Procfile nor a configuration file of gunicorn, which ends in .py; {_others()}"
    )


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SIZE + 1)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror or error}") from None
    if len(content) > MAX_SIZE:
        raise SourceError(f"{path} is larger than {MAX_SIZE >> 10} KiB: is it the right file?")
    return content


def _from_command(source: str, directory: Path, guess: str | None) -> tuple[str, list[Translated | str]]:
    try:
        command = read_command(source)
    except CommandError as error:
        raise SourceError(str(error)) from None
    if command is None:
        if source.endswith((".py", ".toml", ".cfg", ".ini")) or "Procfile" in source:
            raise SourceError(f"there is no file {source}")
        raise SourceError(f"{source!r} is no file, and no command line that hybrid knows: {_others()}")
    return f"a command line of {command.server.name}", [_service(command, "web", directory=directory, guess=guess)]


def _service(command: Command, name: str, *, directory: Path, guess: str | None) -> Translated:
    """Return the service for a command, and for the file that it reads."""
    file = _settings_of(command, directory)
    if file is None:
        return translate(command, name, guess=guess)
    return _from_settings(command, name, file, guess)


def _others() -> str:
    return f"write a command line of {', '.join(SERVERS)} in quotes"


def _settings_of(command: Command, directory: Path) -> Path | None:
    """Return the file that gunicorn would read for a command; None for other servers and without a file."""
    if command.server is not GUNICORN:
        return None
    named = [given.value for given in command.options if given.flag == "--config" and given.value]
    if named:
        file = directory / named[-1].removeprefix("file:")
        if not _is_file(file):
            raise SourceError(f"there is no file {named[-1]}, which -c names")
        return file
    usual = directory / _USUAL_FILE
    return usual if _is_file(usual) else None


def _from_settings(command: Command, name: str, path: Path, guess: str | None) -> Translated:
    """Return the service for a configuration file and the command that overrides it."""
    try:
        settings = read_settings(_content(path))
    except UnreadableError as error:
        raise SourceError(f"{path.name} cannot be read: {error}") from None
    options = tuple(given for given in command.options if given.flag != "--config")
    overridden = {given.flag for given in options}
    merged = dataclasses.replace(
        command,
        options=(*(given for given in settings.options if given.flag not in overridden), *options),
        targets=command.targets or (() if settings.target is None else (settings.target,)),
    )
    one = translate(merged, name, guess=guess)
    return Translated(one.service, (*one.remarks, *settings.remarks))


def _together(results: list[Translated | str]) -> tuple[list[ServiceDraft], list[str]]:
    services: dict[str, ServiceDraft] = {}
    remarks: list[str] = []
    for one in results:
        if isinstance(one, str):
            remarks.append(one)
        elif one.service.name in services:
            remarks.append(f"{one.service.name}: there are two services of that name: the second is not translated")
        else:
            services[one.service.name] = one.service
            remarks += one.remarks
    if not services:
        raise SourceError("there is no process type in it: write lines such as web: gunicorn shop:app")
    return list(services.values()), remarks
