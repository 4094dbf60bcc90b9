"""The command `hybrid`: reads options, says what is wrong in one line, and hands over to `hybrid.api`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from hybrid import api
from hybrid.autoreload.watcher import reload
from hybrid.cli import habits
from hybrid.cli.environment import forget_secrets
from hybrid.cli.flags import flags_of
from hybrid.cli.headings import HeadedCommand
from hybrid.cli.manual import COMMAND, RUN, RUN_AFTERWORD
from hybrid.cli.modes import Modes
from hybrid.config.declaring import declared
from hybrid.config.service import DEFAULT_BIND, ConfigError, Service
from hybrid.config.targets import DEMONSTRATION

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class _Commands(click.Group):
    """The group of commands; a target or an option of `run` in the place of a command gets advice."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does. Raises `UsageError` that says what to type."""
        word = args[0]
        if self.get_command(ctx, word) is None and (advice := habits.advise_command(word, args)) is not None:
            raise click.UsageError(f"there is no command {word!r}: {advice}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, invoke_without_command=True, context_settings=_CONTEXT, help=COMMAND)
@click.version_option(package_name="hybrid-runtime", prog_name="hybrid")
@click.pass_context
def command(context: click.Context) -> None:
    """Show the manual where no command is given."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@command.command(
    cls=HeadedCommand,
    context_settings=_CONTEXT,
    help=RUN,
    epilog=RUN_AFTERWORD,
    short_help="Serve TARGET until stopped.",
    params=[
        click.Argument(["target"], required=False, default=DEMONSTRATION, metavar="[TARGET]"),
        *flags_of(Service),
        *flags_of(Modes),
    ],
)
def run(bind: tuple[str, ...], **values: Any) -> int:
    """Run a service until it is stopped; return the exit code."""
    modes = Modes(**{option.field: values.pop(option.field) for option in declared(Modes)})
    service = Service(bind=bind or _default_binds(), **values)
    forget_secrets()
    _check_loop(service.loop)
    if modes.check:
        click.echo(api.check(service))
        return int(api.Exit.OK)
    if modes.reload:
        code = reload(service, modes.watched(service))
    else:
        code = int(api.Supervisor(service).run())
    _be_deaf()
    return code


def _default_binds() -> tuple[str, ...]:
    """The sockets that systemd passes to us or has passed to our predecessor; or else PORT, or the default."""
    passed = tuple(f"fd://{bind.fd}" for bind in api.systemd_binds(os.environ, os.getpid()))
    handed = api.inherited_binds(os.environ)
    return passed or tuple(text for text in handed if text.startswith("fd://")) or (_port_bind() or DEFAULT_BIND,)


def _port_bind() -> str | None:
    """Every interface at the port that a platform names in PORT, as gunicorn does; None without that variable.

    Raises `UsageError` for a value that is no port.
    """
    text = os.environ.get("PORT", "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and int(text) <= 65_535):
        raise click.UsageError(f"PORT={text!r} in the environment is no port: set a number from 0 to 65535, or --bind")
    return f"0.0.0.0:{int(text)}"


def _check_loop(name: str) -> None:
    """Raise `CheckError` for a loop that is known but not usable; the plan names the unknown ones."""
    for row in api.list_loops():
        if row.name == name and row.problem is not None:
            raise api.CheckError(api.Exit.LOOP, f"loop {name} cannot be used here: {row.problem}; see: hybrid loops")


@command.command(context_settings=_CONTEXT, short_help="List the event loops to choose from.")
def loops() -> int:
    """List the event loops, what each needs, and whether it is usable here."""
    rows = [("NAME", "USABLE HERE", "NEEDS", "WHAT IT IS")]
    for row in api.list_loops():
        rows.append((row.name, "yes" if row.problem is None else "no", ", ".join(row.needs) or "-", row.summary))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for cells in rows:
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=False)]
        click.echo("  ".join([*padded, cells[3]]))
    for row in api.list_loops():
        if row.problem is not None:
            click.echo(f"\n{row.name} is not usable here: {row.problem}")
    return int(api.Exit.OK)


def _be_deaf() -> None:
    """Let no signal change the exit code of a service that has ended: Python takes some milliseconds to go."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command with `arguments` (None: those of the process) and end the process with its exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:  # as it is inherited: then no child's end could be seen
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        code = command.main(words, prog_name="hybrid", standalone_mode=False)
    except ConfigError as error:
        _fail(api.Exit.USAGE, _in_words_of_the_command(error), "hybrid run --help")
    except api.CheckError as error:
        _fail(error.code, error.reason)
    except api.BindError as error:
        _fail(api.Exit.BIND, str(error))
    except click.NoSuchOption as error:
        _fail_at_option(error, words)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "hybrid"
        _fail(api.Exit.USAGE, error.format_message(), f"{path} --help")
    except click.Abort:
        _fail(api.Exit.ERROR, "interrupted")
    sys.exit(code or 0)


def _fail_at_option(error: click.NoSuchOption, words: Sequence[str]) -> NoReturn:
    """Say what to type instead of an option that hybrid does not have, or not in this place."""
    path = error.ctx.command_path if error.ctx else "hybrid"
    advice = habits.advise_option(error.option_name, words)
    if path == "hybrid":  # `run` was left out
        advice = f"write hybrid run {' '.join(words)}" if advice is None else f"{advice}, behind hybrid run"
    if advice is None:
        _fail(api.Exit.USAGE, error.format_message(), f"{path} --help")
    _fail(api.Exit.USAGE, f"there is no option {error.option_name}: {advice}", f"{path} --help")


def _in_words_of_the_command(error: ConfigError) -> str:
    flags = {option.field: option.flag for option in (*declared(Service), *declared(Modes))}
    return f"{flags[error.field]}: {error.reason}" if error.field in flags else error.reason  # the target has no flag


def _fail(code: int, text: str, manual: str | None = None) -> NoReturn:
    """Write one line, and where to read on; end with `code`."""
    click.echo(f"hybrid: error: {text}", err=True)
    if manual is not None:
        click.echo(f"For all options type: {manual}", err=True)
    sys.exit(int(code))
