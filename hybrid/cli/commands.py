"""The command `hybrid`: parses options, reports errors in one line, and calls `hybrid.api`."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click
from click.core import ParameterSource

from hybrid import api
from hybrid.cli import habits, layers, showing
from hybrid.cli.ending import fail
from hybrid.cli.entry import CONTROL
from hybrid.cli.environment import forget_secrets
from hybrid.cli.flags import flags_of
from hybrid.cli.help import CHECK, COMMAND, CONFIG, INIT, RUN, RUN_AFTERWORD
from hybrid.cli.modes import Modes
from hybrid.cli.sections import SectionedCommand
from hybrid.cli.variables import Variables
from hybrid.config.declaring import declared
from hybrid.config.file import FileError
from hybrid.config.service import DEFAULT_BIND, ConfigError, Service

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


DefaultBinds = Callable[[Variables], tuple[str, ...]]
"""Returns the addresses of a service without any."""


class _Commands(click.Group):
    """The group of commands. Gives advice for a target or an option of `run` in the place of a command.

    The commands for a running supervisor are imported when they are asked for, so that none of their modules is in a
    supervisor.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order of the help."""
        return [*self.commands, *(name for name in CONTROL if name not in self.commands)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; None if there is none of that name."""
        if cmd_name in CONTROL:
            from hybrid.cli.control_commands import COMMANDS

            return next(each for each in COMMANDS if each.name == cmd_name)
        return super().get_command(ctx, cmd_name)

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


# of three commands: making them is a twentieth of the time of a start
_WHAT_TO_RUN: list[click.Parameter] = [
    click.Argument(["words"], nargs=-1, metavar="[TARGET | SERVICE...]"),
    *flags_of(Service),
    *flags_of(Modes),
]


@command.command(
    cls=SectionedCommand,
    context_settings=_CONTEXT,
    help=RUN,
    epilog=RUN_AFTERWORD,
    short_help="Serve TARGET, or the services of a file, until stopped.",
    params=[*_WHAT_TO_RUN],
)
def run(words: tuple[str, ...], **_: Any) -> int:
    """Run services until they are stopped; return the exit code."""
    chosen = _chosen(words)
    modes = Modes(**layers.plain({option.field: chosen[0].values[option.field] for option in declared(Modes)}))
    default_binds = _default_binds()
    services = _services(chosen, default_binds)
    forget_secrets()
    for service in services:
        _check_loop(service.loop)
    if modes.check:
        for line in _checked(services):
            click.echo(line)
        return int(api.Exit.OK)
    if modes.reload:
        if len(services) > 1:
            raise click.UsageError("--reload restarts one service: name it, hybrid run --reload SERVICE")
        from hybrid.autoreload.watcher import reload  # a start without it is 3 % quicker

        code = reload(services[0], modes.watched(services[0]))
    else:
        reread = _reader(words, services, default_binds)
        code = int(api.Supervisor(*services, name=_name_of_all(chosen), reread=reread).run())
    _ignore_signals()
    return code


@command.command(
    cls=SectionedCommand,
    context_settings=_CONTEXT,
    help=CONFIG,
    short_help="Show the values in force and their origin.",
    params=[*_WHAT_TO_RUN, click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON object.")],
)
def config(words: tuple[str, ...], as_json: bool, **_: Any) -> int:
    """Print every value that a run would use."""
    chosen = _chosen(words)
    click.echo(showing.as_json(chosen) if as_json else showing.as_text(chosen))
    return int(api.Exit.OK)


@command.command(
    cls=SectionedCommand,
    context_settings=_CONTEXT,
    help=CHECK,
    short_help="Check everything that a start needs.",
    params=[*_WHAT_TO_RUN, click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON object.")],
)
def check(words: tuple[str, ...], as_json: bool, **_: Any) -> int:
    """Check a service, or all services of the file; return 0, 1 with warnings, 2 with errors."""
    from hybrid.checkup import findings  # `run` needs none of these
    from hybrid.cli import checks

    def make(word: str | None) -> Service:
        found = _chosen(() if word is None else (word,))
        Modes(**layers.plain({option.field: found[0].values[option.field] for option in declared(Modes)}))
        return _services(found, default_binds)[0]

    default_binds = _default_binds()
    context = click.get_current_context()
    document = None
    with contextlib.suppress(FileError):  # `make` reports it
        document = layers.document_for(context.params["config"], (*declared(Service), *declared(Modes)))
    found = checks.check_all(checks.words_to_check(words, document), make, _with_flag, forget_secrets)
    click.echo(findings.as_json(found) if as_json else findings.as_text(found))
    return findings.exit_code(found)


@command.command(
    context_settings=_CONTEXT,
    help=INIT,
    short_help="Write a hybrid.toml for what is found here.",
    params=[
        click.Option(["--from", "source"], metavar="FILE|COMMAND", help="Translate this instead of searching."),
        click.Option(["--force"], is_flag=True, help="Replace a hybrid.toml that exists."),
    ],
)
def init(source: str | None, force: bool) -> int:
    """Write a `hybrid.toml` in the working directory."""
    from hybrid.cli import drafting

    for text in drafting.write_file(Path.cwd(), source, force=force):
        click.echo(text)
    return int(api.Exit.OK)


def _checked(services: Sequence[Service]) -> Iterator[str]:
    """Yield the lines of `--check`. Raises `CheckError`, `BindError`, `ConfigError`."""
    if len(services) == 1:
        yield api.check(services[0])
        return
    api.Supervisor(*services)  # checks that they fit together
    for service in services:
        try:
            yield f"{service.name}: {api.check(service)}"
        except api.CheckError as error:
            raise api.CheckError(error.code, f"service {service.name}: {error.reason}") from None


def _chosen(words: tuple[str, ...]) -> list[layers.Valued]:
    """Return the target or the services to run, with their values. Raises `ConfigError`, `FileError`, `UsageError`."""
    context = click.get_current_context()
    options = (*declared(Service), *declared(Modes))
    for option in options:
        if option.is_of_the_run and (reason := option.complaint(context.params[option.field])) is not None:
            raise ConfigError(option.field, reason)
    document = layers.document_for(context.params["config"], options)
    chosen = layers.choose(words, document, context.params["profile"])
    chosen = tuple(layers.with_env_files(context, options, one) for one in chosen)
    found = [layers.Valued(one, layers.values_of(context, options, one)) for one in chosen]
    for one in found:
        if one.chosen.service is not None and (len(found) > 1 or one.values["name"].origin == layers.DEFAULT):
            one.values["name"] = layers.Sourced(one.chosen.service, one.chosen.target.origin)
    _obey_port(found)
    if len(found) > 1 and found[0].values["bind"].origin in ("--bind", "HYBRID_BIND"):
        names = ", ".join(str(one.chosen.service) for one in found)
        raise click.UsageError(f"--bind is for one service, and these would run: {names}; name one, or use the file")
    return found


def _obey_port(found: list[layers.Valued]) -> None:
    """Let PORT win over the addresses of the first application in a file: a platform that sets it connects there."""
    first = next((one for one in found if one.values["command"].value is None), None)
    if first is not None and first.is_from_file("bind"):
        port = _port_bind(first.chosen.variables)
        if port is not None:
            first.values["bind"] = layers.Sourced((port,), first.chosen.variables.origin("PORT"))


def _reader(
    words: tuple[str, ...], before: list[Service], default_binds: DefaultBinds
) -> Callable[[], list[Service]] | None:
    """Return a function that returns the services as the file configures them now; None if there is no file.

    It raises `ValueError`. The rest of the command line and the environment count as before.
    """
    context = click.get_current_context()
    document = layers.document_for(context.params["config"], (*declared(Service), *declared(Modes)))
    if document is None:
        return None
    context.params["config"] = layers.lasting(document, context.params["config"])
    secrets = {option.field for option in declared(Service) if option.is_secret}
    kept = {one.name: {field: getattr(one, field) for field in secrets} for one in before}

    def read() -> list[Service]:
        try:
            with context:
                services = _services(_chosen(words), default_binds, kept)
                for service in services:
                    _check_loop(service.loop)
                return services
        except click.ClickException as error:
            raise ValueError(error.format_message()) from None
        except ConfigError as error:
            raise ValueError(_with_flag(error)) from None
        except api.CheckError as error:
            raise ValueError(error.reason) from None

    return read


def _services(
    found: list[layers.Valued],
    default_binds: DefaultBinds,
    kept: Mapping[str, Mapping[str, Any]] = types.MappingProxyType({}),
) -> list[Service]:
    """Return the services. The first application without an address gets the default one. Raises `ConfigError`.

    `kept`: service -> values of secrets that were read, and then removed from the environment.
    """
    services = []
    is_free = True
    for one in found:
        modes = {option.field for option in declared(Modes)}
        settings = layers.plain({field: value for field, value in one.values.items() if field not in modes})
        if settings["command"] is not None:
            settings["bind"] = (DEFAULT_BIND,)  # of no effect
        elif not settings["bind"]:
            if not is_free:
                raise ConfigError("bind", f"service {one.chosen.service}: give it an address, as another one has none")
            settings["bind"], is_free = default_binds(one.chosen.variables), False
        secrets = kept.get(str(settings["name"]), {})
        settings.update({field: value for field, value in secrets.items() if settings[field] is None})
        try:
            services.append(Service(one.chosen.target.value, **settings))
        except ConfigError as error:
            if error.field in one.values and one.is_from_file(error.field):
                error.where = one.values[error.field].origin
            raise
    return services


def _name_of_all(found: list[layers.Valued]) -> str | None:
    """Return the name of a supervisor of several services: --service, or the name of the working directory."""
    if len(found) == 1:
        return None
    return click.get_current_context().params["name"] if _is_named() else Path.cwd().name or "hybrid"


def _is_named() -> bool:
    source = click.get_current_context().get_parameter_source("name")
    return source is not ParameterSource.DEFAULT


def _default_binds() -> DefaultBinds:
    """Return a function that returns the sockets that systemd passed, else PORT, else the default."""
    passed = functools.cache(_passed_binds)  # systemd's variables can be read once
    return lambda variables: passed() or (_port_bind(variables) or DEFAULT_BIND,)


def _passed_binds() -> tuple[str, ...]:
    """Return the sockets that systemd passed to us or to our predecessor."""
    passed = tuple(f"fd://{bind.fd}" for bind in api.systemd_binds(os.environ, os.getpid()))
    handed = api.inherited_binds(os.environ)
    return passed or tuple(text for text in handed if text.startswith("fd://"))


def _port_bind(variables: Variables) -> str | None:
    """Return all interfaces at the port in the variable PORT, as gunicorn does; None without that variable.

    Raises `UsageError` for a value that is not a port.
    """
    text = variables.get("PORT")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and int(text) <= 65_535):
        where = variables.origin("PORT").removeprefix("PORT in ").replace("PORT", "the environment")
        raise click.UsageError(f"PORT={text!r} in {where} is not a port: set 0 to 65535, or use --bind")
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


def all_commands() -> dict[str, click.Command]:
    """Return every command by its name, in the order of the help."""
    context = click.Context(command)
    found = {name: command.get_command(context, name) for name in command.list_commands(context)}
    return {name: each for name, each in found.items() if each is not None}


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
        fail(api.Exit.USAGE, str(error), "hybrid config --help")
    except ConfigError as error:
        fail(api.Exit.USAGE, _with_flag(error), "hybrid run --help")
    except api.CheckError as error:
        fail(error.code, error.reason)
    except api.BindError as error:
        fail(api.Exit.BIND, str(error))
    except click.NoSuchOption as error:
        _fail_at_option(error, words)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "hybrid"
        fail(api.Exit.USAGE, error.format_message(), f"{path} --help")
    except click.ClickException as error:
        fail(error.exit_code, error.format_message())
    except click.Abort:
        fail(api.Exit.ERROR, "interrupted")
    sys.exit(code or 0)


def _fail_at_option(error: click.NoSuchOption, words: Sequence[str]) -> NoReturn:
    """Fail with the option to type instead of one that hybrid does not have, or not in this place."""
    path = error.ctx.command_path if error.ctx else "hybrid"
    advice = habits.advise_option(error.option_name, words)
    if path == "hybrid" and (control := next((word for word in words if word in CONTROL), None)) is not None:
        advice = f"write it behind the command: hybrid {control} {error.option_name} ..."
    elif path == "hybrid":  # `run` was left out
        advice = f"write hybrid run {' '.join(words)}" if advice is None else f"{advice}, behind hybrid run"
    if advice is None:
        fail(api.Exit.USAGE, error.format_message(), f"{path} --help")
    fail(api.Exit.USAGE, f"there is no option {error.option_name}: {advice}", f"{path} --help")


def _with_flag(error: ConfigError) -> str:
    options = {option.field: option for option in (*declared(Service), *declared(Modes))}
    if error.field not in options:  # the target
        return error.reason
    option = options[error.field]
    return f"{error.where}: {option.key}: {error.reason}" if error.where else f"{option.flag}: {error.reason}"
