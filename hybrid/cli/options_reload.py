"""The options of `hybrid run` for development: restart the service when its source files change."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from hybrid.autoreload.changes import Watched, watched_for
from hybrid.cli.headings import Heading
from hybrid.config.service import Service

_process = Heading.PROCESS

OPTIONS = [
    _process.option(
        "--reload",
        "For development: restart the service when a source file (*.py) changes. Connections made meanwhile wait; "
        "those that are open may take 2 s to finish. All workers share one queue of connections then.",
        is_flag=True,
    ),
    _process.option(
        "--reload-dir",
        "Directory to watch with all below it. May be repeated. Hidden directories, virtual environments, "
        "node_modules and __pycache__ in it are left out.",
        multiple=True,
        type=click.Path(file_okay=False),
        metavar="PATH",
        show_default="the directory to work in",
    ),
    _process.option(
        "--reload-include",
        "Files to watch beside *.py, e.g. '*.html' or 'locale/*.po'. May be repeated.",
        multiple=True,
        metavar="GLOB",
    ),
    _process.option(
        "--reload-exclude",
        "Files and directories not to watch, e.g. 'test_*.py' or build. May be repeated.",
        multiple=True,
        metavar="GLOB",
    ),
]


@dataclasses.dataclass(frozen=True, slots=True)
class Reloading:
    """What the command line says about reloading."""

    directories: tuple[str, ...]
    includes: tuple[str, ...]
    excludes: tuple[str, ...]

    def watched(self, service: Service) -> Watched:
        """Return what is to be watched. Raises `ConfigError`."""
        return watched_for(service, self.directories, self.includes, self.excludes)


def take(values: dict[str, Any], *, check: bool) -> Reloading | None:
    """Take the values of the options above out of `values`; None where the service shall not reload.

    Raises `click.UsageError` for options that would have no effect.
    """
    is_wanted = values.pop("reload")
    details = {name: values.pop(name) for name in ("reload_dir", "reload_include", "reload_exclude")}
    if is_wanted and check:
        raise click.UsageError("--check and --reload do not go together: nothing is run that could be reloaded")
    if is_wanted:
        return Reloading(*details.values())
    for name, value in details.items():
        if value:
            raise click.UsageError(f"--{name.replace('_', '-')} needs --reload beside it")
    return None
