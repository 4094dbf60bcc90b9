"""`Modes`: the options of `hybrid run` that are no part of a service: to check it only, to restart it on changes."""

from __future__ import annotations

import dataclasses
from typing import Final

import click

from hybrid.autoreload.changes import Watched, watched_for
from hybrid.config.declaring import Heading, declared, option
from hybrid.config.kinds import Directory, Switch, Text
from hybrid.config.service import Service

_PROCESS: Final = Heading.PROCESS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Modes:
    """What the command does with a service. Raises `click.UsageError` for options that would have no effect."""

    check: bool = option(
        False,
        Switch(),
        _PROCESS,
        "Open the sockets, load TARGET in a child process, tell what it is, end.",
        is_flag_only=True,
    )
    reload: bool = option(
        False,
        Switch(),
        _PROCESS,
        "For development: restart the service when a source file (*.py) changes. Connections made meanwhile wait; "
        "those that are open may take 2 s to finish. All workers share one queue of connections then.",
    )
    reload_dir: tuple[str, ...] = option(
        (),
        Directory(),
        _PROCESS,
        "Directory to watch with all below it. May be repeated. Hidden directories, virtual environments, "
        "node_modules and __pycache__ in it are left out.",
        is_repeated=True,
        shown="the directory to work in",
    )
    reload_include: tuple[str, ...] = option(
        (),
        Text("GLOB"),
        _PROCESS,
        "Files to watch beside *.py, e.g. '*.html' or 'locale/*.po'. May be repeated.",
        is_repeated=True,
    )
    reload_exclude: tuple[str, ...] = option(
        (),
        Text("GLOB"),
        _PROCESS,
        "Files and directories not to watch, e.g. 'test_*.py' or build. May be repeated.",
        is_repeated=True,
    )

    def __post_init__(self) -> None:
        if self.reload and self.check:
            raise click.UsageError("--check and --reload do not go together: nothing is run that could be reloaded")
        if self.reload:
            return
        for one in declared(Modes):
            if one.is_repeated and getattr(self, one.field):
                raise click.UsageError(f"{one.flag} needs --reload beside it")

    def watched(self, service: Service) -> Watched:
        """Return what is to be watched. Raises `ConfigError`."""
        return watched_for(service, self.reload_dir, self.reload_include, self.reload_exclude)
