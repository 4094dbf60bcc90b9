"""The entry of the command `hybrid`: imports the part that the words on the command line need.

A command for a running supervisor must answer quickly, so it imports neither the options of `hybrid run` nor the
supervisor.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

CONTROL: Final = (
    *(
        "ps",
        "status",
        "top",
        "reload",
        "scale",
        "restart",
        "stop",
        "upgrade",
        "stacks",
        "metrics",
        "events",
        "loglevel",
    ),
)
"""The commands for a running supervisor, in the order of the help."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command with `arguments` (None: `sys.argv`) and exit with its code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words == ["--version"]:
        _show_version()
    if _command_in(words) in CONTROL:
        _control(words)
    from hybrid.cli.commands import main as main_of_all

    main_of_all(words)


def _command_in(words: Sequence[str]) -> str:
    """Return the first word, or that of the line which a shell asks to complete."""
    if "_HYBRID_COMPLETE" in os.environ:
        words = os.environ.get("COMP_WORDS", "").split()[1:-1]
    return words[0] if words else ""


def _show_version() -> NoReturn:
    """Print what the option of the same name prints behind other words. Scripts ask often: it imports no click."""
    from importlib.metadata import version

    try:
        if sys.stdout is not None:  # it was closed at the start
            sys.stdout.write(f"hybrid, version {version('hybrid-runtime')}\n")
            sys.stdout.flush()
    except OSError as error:
        _fail_to_write(error)
    sys.exit(0)


def _fail_to_write(error: OSError) -> NoReturn:
    from hybrid.cli.ending import FAILED, fail, give_up_output

    give_up_output()
    fail(FAILED, f"the output cannot be written: {error.strerror or error}")


def _control(words: Sequence[str]) -> NoReturn:
    import click

    from hybrid.cli.control_commands import COMMANDS
    from hybrid.cli.ending import FAILED, USAGE, fail

    group = click.Group("hybrid", commands=COMMANDS)
    try:
        code = group.main(list(words), prog_name="hybrid", standalone_mode=False)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else f"hybrid {words[0]}"
        fail(USAGE, error.format_message(), f"{path} --help")
    except click.ClickException as error:
        fail(error.exit_code, error.format_message())
    except click.Abort:
        fail(FAILED, "interrupted")
    except OSError as error:  # of the output; those of the control socket have texts of their own
        _fail_to_write(error)
    sys.exit(code or 0)
