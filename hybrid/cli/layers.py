"""Where the values of a run come from: the command line, the environment, a file, the defaults.

The first of these that says something about an option wins:

    --workers  >  HYBRID_SERVICE_WEB_WORKERS  >  HYBRID_WORKERS  >  WEB_CONCURRENCY
    >  [profile.NAME]  >  [service.web]  >  the top level of the file  >  the default
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from hybrid.config.declaring import Option
from hybrid.config.file import Document, Entries, FileError, Place, find, read, relative
from hybrid.config.targets import DEMONSTRATION

NONE = "none"
"""In the place of a path: no file is read."""
DEFAULT = "default"
"""The origin of a value that nothing has set."""


@dataclasses.dataclass(frozen=True)
class Sourced:
    """A value, and where it came from: `--workers`, `HYBRID_WORKERS`, `hybrid.toml:3`, `default`."""

    value: Any
    origin: str


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The target or the service to run."""

    target: Sourced
    service: str | None
    """Its name in the file; None for a target that the file does not name."""
    layers: tuple[Entries, ...]
    """Its entries in the file, strongest first."""


def document_for(path: str | None, options: Iterable[Option]) -> Document | None:
    """Return the file that `--config` names, or the one that is found here; None if there is none, or none is wanted.

    Raises `FileError`.
    """
    if path == NONE:
        return None
    found = _found_here() if path is None else Path(path).absolute()
    return None if found is None else read(found, options)


def _found_here() -> Path | None:
    try:
        return find(Path.cwd())
    except FileNotFoundError:  # the directory was removed: `Service` says so
        return None


def choose(word: str | None, document: Document | None, profile: str | None) -> Chosen:
    """Return what a word of the command line means: a target, the name of a service of the file, or nothing.

    Raises `click.UsageError`, `FileError`.
    """
    target = Sourced(word or DEMONSTRATION, "command line" if word else DEFAULT)
    if document is None:
        if profile is not None:
            raise click.UsageError(f"--profile {profile}: there is no hybrid.toml here, and --config names none")
        return Chosen(target, None, ())
    services = document.services
    if word is None and len(services) > 1:
        names = ", ".join(services)
        raise click.UsageError(f"{relative(Path(document.file))} has {len(services)} services: name one of {names}")
    name = next(iter(services), None) if word is None else word
    if name is None or (word is not None and ":" in word):
        return Chosen(target, None, document.layers(None, profile))
    return _service(name, document, profile)


def _service(name: str, document: Document, profile: str | None) -> Chosen:
    services = document.services
    if name not in services:
        known = f"its services are {', '.join(services)}" if services else "it has no services"
        raise click.UsageError(
            f"{name!r} is no target, which is written module:attribute, and no service of "
            f"{relative(Path(document.file))}: {known}"
        )
    entry = services[name].get("target")
    if entry is None:
        raise FileError(Place(document.file), f'service {name} has no target: write target = "module:attribute"')
    return Chosen(Sourced(entry.value, _shown(entry.place)), name, document.layers(name, profile))


def values_of(context: click.Context, options: Iterable[Option], chosen: Chosen) -> dict[str, Sourced]:
    """Return the value of each option that is set, by its field. Raises `click.UsageError`."""
    parameters = {parameter.name: parameter for parameter in context.command.params}
    found = {}
    for option in options:
        parameter = parameters[option.field]
        value = context.params[option.field]
        found[option.field] = _sourced(context, option, parameter, value, chosen)
    return found


def _sourced(
    context: click.Context, option: Option, parameter: click.Parameter, value: object, chosen: Chosen
) -> Sourced:
    source = context.get_parameter_source(option.field)
    if source is ParameterSource.COMMANDLINE:
        return Sourced(value, option.flag)
    variable = _variable(option, chosen.service)
    if variable is not None and os.environ.get(variable):
        return Sourced(parameter.process_value(context, _from_text(parameter, os.environ[variable])), variable)
    if source is ParameterSource.ENVIRONMENT:
        return Sourced(value, next((name for name in option.variables if os.environ.get(name)), "environment"))
    entry = next((layer[option.key] for layer in chosen.layers if option.key in layer), None) if option.key else None
    return Sourced(value, DEFAULT) if entry is None else Sourced(entry.value, _shown(entry.place))


def _from_text(parameter: click.Parameter, text: str) -> object:
    return parameter.type.split_envvar_value(text) if parameter.multiple else text


def _variable(option: Option, service: str | None) -> str | None:
    """Return the variable that sets an option of one service of the file."""
    if service is None or option.key is None:
        return None
    name = "".join(char if char.isalnum() else "_" for char in service)
    return f"HYBRID_SERVICE_{name}_{option.key}".upper()


def _shown(place: Place) -> str:
    return f"{relative(Path(place.file))}:{place.line}"


def plain(values: Mapping[str, Sourced]) -> dict[str, Any]:
    """Return the values alone."""
    return {field: sourced.value for field, sourced in values.items()}
