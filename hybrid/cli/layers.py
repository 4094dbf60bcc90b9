"""Where the values of a run come from: the command line, the environment, a file, the defaults.

The first of these that says something about an option wins:

    --workers  >  HYBRID_SERVICE_WEB_WORKERS  >  HYBRID_WORKERS  >  WEB_CONCURRENCY
    (each of these in the environment, or else in an env file)
    >  [profile.NAME]  >  [service.web]  >  the top level of the file  >  the default
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from hybrid.cli.variables import Variables, of_the_environment, with_files
from hybrid.config.declaring import Option
from hybrid.config.file import Document, Entries, FileError, Place, find, read, relative
from hybrid.config.targets import DEMONSTRATION
from hybrid.supervisor.upgrade.invocation import Invocation

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
    variables: Variables = dataclasses.field(default_factory=of_the_environment)
    """The environment, and the variables of the env files."""


@dataclasses.dataclass(frozen=True)
class Valued:
    """What to run, and the value of each option."""

    chosen: Chosen
    values: dict[str, Sourced]

    def is_from_file(self, field: str) -> bool:
        """Return True if a file sets an option, and neither the command line nor a variable."""
        origin = self.values[field].origin
        return origin != DEFAULT and not origin.startswith(("--", "HYBRID_"))


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


def lasting(document: Document, path: str | None) -> str:
    """Return the path by which a running supervisor finds a file again; `path`: what `--config` said.

    A file in the working directory is named by that directory, whose name may lead over a symbolic link: a new release
    moves it.
    """
    if path is None:
        return str(Path(Invocation.current().directory) / Path(document.file).name)
    return document.file


def choose(words: Sequence[str], document: Document | None, profile: str | None) -> tuple[Chosen, ...]:
    """Return what the words of the command line mean: a target, names of services of the file, or, without any, all.

    Raises `click.UsageError`, `FileError`.
    """
    target = next((word for word in words if ":" in word), None)
    if target is not None and len(words) > 1:
        raise click.UsageError(f"{target!r} is a target: give it alone, or names of services of a file")
    if document is None:
        if profile is not None:
            raise click.UsageError(f"--profile {profile}: there is no hybrid.toml here, and --config names none")
        if len(words) > 1:
            raise click.UsageError(f"{words[1]!r}: several services need a hybrid.toml that names them")
        if words and target is None:
            text = f"{words[0]!r} is no target: write module:attribute, e.g. {_example(words[0])}"
            raise click.UsageError(f"{text}; there is no hybrid.toml here that could have such a service")
        return (Chosen(_target(words), None, ()),)
    if target is not None or not (words or document.services):
        return (Chosen(_target(words), None, document.layers(None, profile)),)
    return tuple(_service(name, document, profile) for name in dict.fromkeys(words or document.services))


def _example(word: str) -> str:
    """Return a target that may be meant."""
    module = word.removesuffix(".py").replace("/", ".")
    return f"{module}:handle" if all(part.isidentifier() for part in module.split(".")) else "myapp:app"


def _target(words: Sequence[str]) -> Sourced:
    return Sourced(words[0], "command line") if words else Sourced(DEMONSTRATION, DEFAULT)


def _service(name: str, document: Document, profile: str | None) -> Chosen:
    services = document.services
    if name not in services:
        known = f"its services are {', '.join(services)}" if services else "it has no services"
        raise click.UsageError(
            f"{name!r} is no target, which is written module:attribute, and no service of "
            f"{relative(Path(document.file))}: {known}"
        )
    own, layers = services[name], document.layers(name, profile)
    if "target" in own:
        return Chosen(Sourced(own["target"].value, _shown(own["target"].place)), name, layers)
    if not any("command" in layer for layer in layers):
        text = f'service {name} has no target: write target = "module:attribute", or command = ["program", ...]'
        raise FileError(Place(document.file), text)
    if "bind" in own:
        raise FileError(own["bind"].place, f"bind: service {name} is a program, for which nothing is opened")
    return Chosen(Sourced(DEMONSTRATION, DEFAULT), name, layers)


def with_env_files(context: click.Context, options: Iterable[Option], chosen: Chosen) -> Chosen:
    """Return the same with the variables of its env files. Raises `click.UsageError`, `FileError`."""
    option = next(one for one in options if one.field == "env_file")
    paths = values_of(context, [option], chosen)[option.field].value
    return dataclasses.replace(chosen, variables=with_files(paths)) if paths else chosen


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
    for name in (_variable(option, chosen.service), *option.variables):
        if name is not None and (text := chosen.variables.get(name)) is not None:
            return Sourced(parameter.process_value(context, _from_text(parameter, text)), chosen.variables.origin(name))
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
