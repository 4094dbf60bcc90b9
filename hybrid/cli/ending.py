"""How a command ends if it fails: one line, what to type next, and an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Final, NoReturn

import click

from hybrid.console.safe import safe

FAILED: Final = 1
USAGE: Final = 2
LATE: Final = 124
"""The exit code of timeout(1)."""


def give_up_output(number: int = 1) -> None:
    """Let what is still to be written to stdout, or to stderr (2), vanish.

    The interpreter would try again at its end, and exit with 120 instead of the command's code.
    """
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, number)
        os.close(null)


class FailedError(click.ClickException):
    """A command that has failed, with the reason in one line."""

    exit_code = FAILED

    def __init__(self, reason: str) -> None:
        super().__init__(safe(reason))


class OverdueError(FailedError):
    """A command that was not answered in time."""

    exit_code = LATE


def fail(code: int, text: str, help_command: str | None = None) -> NoReturn:
    """Write one line, and the command that shows the help; exit with `code`, with or without a reader."""
    try:
        click.echo(f"hybrid: error: {text}", err=True)
        if help_command is not None:
            click.echo(f"For all options type: {help_command}", err=True)
    except OSError:  # a terminal that is gone, a closed pipe
        give_up_output(2)
    sys.exit(int(code))
