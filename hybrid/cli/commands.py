"""The command `hybrid`: parses options, reports errors in one line, and calls `hybrid.api`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from hybrid import api
from hybrid.cli import habits, layers, showing
from hybrid.cli.environment import forget_secrets
from hybrid.cli.flags import flags_of
from hybrid.cli.help import COMMAND, CONFIG, RUN, RUN_AFTERWORD
from hybrid.cli.modes import Modes
from hybrid.cli.sections import SectionedCommand
from hybrid.config.declaring import declared
from hybrid.config.file import FileError
from hybrid.config.service import DEFAULT_BIND, ConfigError, Service

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class _Commands(click.Group):
    """The group of commands. Gives advice for a target or an option of `run` in the place of a command."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve as click does. Raises `UsageError` with the command to type."""
        word = args[0]
        if self.get_command(ctx, word) is None and (advice := habits.advise_command(word, args)) is not None:
            raise click.UsageError(f"there is no command {word!r}: {advice}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, invoke_without_command=True, context_settings=_CONTEXT, help=COMMAND)
@click.version_option(package_name="hybrid-runtime", prog_name="hybrid")
@click.pass_context
def command(context: click.Context) -> None:
    """Show the help if no command is given."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _what_to_run() -> list[click.Parameter]:
    return [
        click.Argument(["target"], required=False, metavar="[TARGET|SERVICE]"),
        *flags_of(Service),
        *flags_of(Modes),
    ]


@command.command(
    cls=SectionedCommand,
    context_settings=_CONTEXT,
    help=RUN,
    epilog=RUN_AFTERWORD,
    short_help="Serve TARGET until stopped.",
    params=_what_to_run(),
)
def run(target: str | None, **_: Any) -> int:
    """Run a service until it is stopped; return the exit code."""
    chosen, values = _chosen(target)
    modes = Modes(**layers.plain({option.field: values.pop(option.field) for option in declared(Modes)}))
    settings = layers.plain(values)
    settings["bind"] = settings["bind"] or _default_binds()
    service = Service(chosen.target.value, **settings)
    forget_secrets()
    _check_loop(service.loop)
    if modes.check:
        click.echo(api.check(service))
        return int(api.Exit.OK)
    if modes.reload:
        from hybrid.autoreload.watcher import reload  # a start without it is 3 % quicker

        code = reload(service, modes.watched(service))
    else:
        code = int(api.Supervisor(service).run())
    _ignore_signals()
    return code


@command.command(
    cls=SectionedCommand,
    context_settings=_CONTEXT,
    help=CONFIG,
    short_help="Show the values in force and their origin.",
    params=[*_what_to_run(), click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON object.")],
)
def config(target: str | None, as_json: bool, **_: Any) -> int:
    """Print every value that a run would use."""
    chosen, values = _chosen(target)
    click.echo(showing.as_json(chosen, values) if as_json else showing.as_text(chosen, values))
    return int(api.Exit.OK)


def _chosen(word: str | None) -> tuple[layers.Chosen, dict[str, layers.Sourced]]:
    """Return the target or service to run, and its values. Raises `ConfigError`, `FileError`, `UsageError`."""
    context = click.get_current_context()
    options = (*declared(Service), *declared(Modes))
    for option in options:
        if option.is_of_the_run and (reason := option.complaint(context.params[option.field])) is not None:
            raise ConfigError(option.field, reason)
    document = layers.document_for(context.params["config"], options)
    chosen = layers.choose(word, document, context.params["profile"])
    values = layers.values_of(context, options, chosen)
    if chosen.service is not None and values["name"].origin == layers.DEFAULT:
        values["name"] = layers.Sourced(chosen.service, chosen.target.origin)
    return chosen, values


def _default_binds() -> tuple[str, ...]:
    """Return the sockets that systemd passed to us or to our predecessor, else PORT, else the default."""
    passed = tuple(f"fd://{bind.fd}" for bind in api.systemd_binds(os.environ, os.getpid()))
    handed = api.inherited_binds(os.environ)
    return passed or tuple(text for text in handed if text.startswith("fd://")) or (_port_bind() or DEFAULT_BIND,)


def _port_bind() -> str | None:
    """Return all interfaces at the port in the variable PORT, as gunicorn does; None without that variable.

    Raises `UsageError` for a value that is not a port.
    """
    text = os.environ.get("PORT", "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and int(text) <= 65_535):
        raise click.UsageError(f"PORT={text!r} in the environment is not a port: set 0 to 65535, or use --bind")
    return f"0.0.0.0:{int(text)}"


def _check_loop(name: str) -> None:
    """Raise `CheckError` for a loop that is known but not usable. The plan reports unknown loops."""
    for row in api.list_loops():
        if row.name == name and row.problem is not None:
            raise api.CheckError(api.Exit.LOOP, f"loop {name} cannot be used here: {row.problem}; see: hybrid loops")


@command.command(context_settings=_CONTEXT, short_help="List the event loops to choose from.")
def loops() -> int:
    """List the event loops, the packages each needs, and which are usable here."""
    rows = [("NAME", "USABLE HERE", "NEEDS", "DESCRIPTION")]
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


def _ignore_signals() -> None:
    """Ignore signals once the service has ended: they would change the exit code while Python shuts down."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command with `arguments` (None: `sys.argv`) and exit with its code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:  # inherited: waitpid(2) would see no child end
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        code = command.main(words, prog_name="hybrid", standalone_mode=False)
    except FileError as error:
        _fail(api.Exit.USAGE, str(error), "hybrid config --help")
    except ConfigError as error:
        _fail(api.Exit.USAGE, _with_flag(error), "hybrid run --help")
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
    """Fail with the option to type instead of one that hybrid does not have, or not in this place."""
    path = error.ctx.command_path if error.ctx else "hybrid"
    advice = habits.advise_option(error.option_name, words)
    if path == "hybrid":  # `run` was left out
        advice = f"write hybrid run {' '.join(words)}" if advice is None else f"{advice}, behind hybrid run"
    if advice is None:
        _fail(api.Exit.USAGE, error.format_message(), f"{path} --help")
    _fail(api.Exit.USAGE, f"there is no option {error.option_name}: {advice}", f"{path} --help")


def _with_flag(error: ConfigError) -> str:
    flags = {option.field: option.flag for option in (*declared(Service), *declared(Modes))}
    return f"{flags[error.field]}: {error.reason}" if error.field in flags else error.reason  # the target has no flag


def _fail(code: int, text: str, help_command: str | None = None) -> NoReturn:
    """Write one line, and the command that shows the help; exit with `code`."""
    click.echo(f"hybrid: error: {text}", err=True)
    if help_command is not None:
        click.echo(f"For all options type: {help_command}", err=True)
    sys.exit(int(code))
