"""`Modes`: the options of `hybrid run` that are not part of a service: only check it, or restart it on changes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

import click

from hybrid.config.declaring import Section, declared, option
from hybrid.config.kinds import Directory, Switch, Text
from hybrid.config.service import Service

if TYPE_CHECKING:
    from hybrid.autoreload.changes import Watched

_PROCESS: Final = Section.PROCESS


def _why_no_text(value: object) -> str | None:
    return None if isinstance(value, str) and value else "give a text that is not empty"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Modes:
    """How the command runs a service. Raises `click.UsageError` for options that would have no effect."""

    config: str | None = option(
        None,
        Text("PATH|none"),
        _PROCESS,
        "File to read options from. Default: ./hybrid.toml, or [tool.hybrid] in ./pyproject.toml. none: read no file.",
        is_of_the_run=True,
        check=_why_no_text,
    )
    profile: str | None = option(
        None,
        Text("NAME"),
        _PROCESS,
        "Section [profile.NAME] of the file; its values override those of the services.",
        is_of_the_run=True,
        check=_why_no_text,
    )
    check: bool = option(
        False,
        Switch(),
        _PROCESS,
        "Open the sockets, load TARGET in a child process, print its kind, and exit.",
        is_flag_only=True,
    )
    reload: bool = option(
        False,
        Switch(),
        _PROCESS,
        "For development: restart the service when a source file (*.py) changes. New connections wait meanwhile; "
        "open connections may take 2 s to finish. All workers share one queue of connections.",
    )
    reload_dir: tuple[str, ...] = option(
        (),
        Directory(),
        _PROCESS,
        "Directory to watch, recursively. May be repeated. Hidden directories, virtual environments, "
        "node_modules and __pycache__ in it are skipped.",
        is_repeated=True,
        shown="the working directory",
    )
    reload_include: tuple[str, ...] = option(
        (),
        Text("GLOB"),
        _PROCESS,
        "Files to watch besides *.py, e.g. '*.html' or 'locale/*.po'. May be repeated.",
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
            raise click.UsageError("--check and --reload exclude each other: --check runs no service to reload")
        if self.reload:
            return
        for one in declared(Modes):
            if one.is_repeated and getattr(self, one.field):
                raise click.UsageError(f"{one.flag} needs --reload")

    def watched(self, service: Service) -> Watched:
        """Return the files to watch. Raises `ConfigError`."""
        from hybrid.autoreload.changes import watched_for

        return watched_for(service, self.reload_dir, self.reload_include, self.reload_exclude)
