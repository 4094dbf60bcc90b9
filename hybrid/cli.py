"""The command `hybrid`: reads options, says what is wrong in one line, and hands over to `hybrid.api`."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import click

from hybrid import api
from hybrid.config import DEFAULT_BIND, INTERFACES, LOG_FORMATS, LOG_LEVELS, ConfigError, Service
from hybrid.manual import COMMAND, RUN, RUN_AFTERWORD
from hybrid.options import Duration, FileMode, WorkerCount, duration_text
from hybrid.targets import DEMONSTRATION

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])
_DEFAULTS: dict[str, Any] = {
    field.name: field.default for field in dataclasses.fields(Service)
}  # field of Service -> default
_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_OPTION_OF = {"name": "service", "target": "target"}  # field of Service -> option, where the names differ


def _option(name: str, **details: Any) -> Callable[[_Decorated], _Decorated]:
    """An option with the default of `Service` and an environment variable of its own."""
    envvar = "HYBRID_" + name.removeprefix("--").replace("-", "_").upper()
    details.setdefault("show_default", True)
    return click.option(name, envvar=envvar, show_envvar=True, **details)


def _duration(name: str, text: str) -> Callable[[_Decorated], _Decorated]:
    default = duration_text(_DEFAULTS[name.removeprefix("--").replace("-", "_")])
    return _option(name, type=Duration(), metavar="SECONDS", default=default, help=text)


@click.group(invoke_without_command=True, context_settings=_CONTEXT, help=COMMAND)
@click.version_option(package_name="hybrid-runtime", prog_name="hybrid")
@click.pass_context
def command(context: click.Context) -> None:
    """Show the manual where no command is given."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@command.command(context_settings=_CONTEXT, help=RUN, epilog=RUN_AFTERWORD, short_help="Serve TARGET until stopped.")
@click.argument("target", required=False, default=DEMONSTRATION, metavar="[TARGET]")
@_option("--bind", multiple=True, metavar="ADDRESS", show_default=DEFAULT_BIND, help=(
    "Where to listen: HOST:PORT, [IPV6]:PORT, unix:/PATH, unix:@NAME, udp://HOST:PORT, or fd://N for a socket that is "
    "open already. Port 0 takes a free one. May be repeated. Without it, sockets passed by systemd are used."
))  # fmt: skip
@_option("--workers", type=WorkerCount(), default="auto", metavar="auto|N", help=(
    "Number of worker processes. auto: as many as there are cores usable here (affinity and cgroup quota)."
))  # fmt: skip
@_option("--loop", default="auto", metavar="NAME", help=(
    "Event loop: select, poll, epoll, gevent, asyncio or uvloop; auto is epoll. See: hybrid loops."
))  # fmt: skip
@_option("--interface", type=click.Choice(INTERFACES), default="auto", help=(
    "What TARGET is: stream, a handler of one connection, sync (sock, address) or async (reader, writer); protocol, "
    "a factory of asyncio.Protocol; datagram, a handler (data, address, transport). auto tells by the signature."
))  # fmt: skip
@_option("--service", default=_DEFAULTS["name"], metavar="NAME", help="Name of the service in the log.")
@_duration("--graceful-timeout", "How long workers may finish their connections at a stop; then they are killed.")
@_duration("--boot-timeout", "How long a worker may take until it is ready; then it is killed and started anew.")
@_duration("--backoff", "First pause before a worker that keeps dying is restarted; doubles each time.")
@_duration("--backoff-max", "Longest such pause.")
@_option("--backlog", type=int, default=_DEFAULTS["backlog"], metavar="N", help=(
    "Connections the kernel queues per worker (at most net.core.somaxconn)."
))  # fmt: skip
@_option("--max-connections", type=int, default=_DEFAULTS["max_connections"], metavar="N", help=(
    "Connections one worker serves at once; more wait in its queue. 0: no limit."
))  # fmt: skip
@_option("--unix-mode", type=FileMode(), default=f"{_DEFAULTS['unix_mode']:o}", metavar="OCTAL", help=(
    "File mode of UNIX sockets."
))  # fmt: skip
@_option("--pidfile", type=click.Path(dir_okay=False), metavar="PATH", help="File for the supervisor's process id.")
@_option("--chdir", type=click.Path(file_okay=False), metavar="PATH", help=(
    "Directory to work in; TARGET is looked for there first."
))  # fmt: skip
@_option("--user", metavar="NAME|UID", help="Run the workers as this user (needs root; sockets are made before).")
@_option("--group", metavar="NAME|GID", help="Run the workers as this group (needs root).")
@_option("--pin", is_flag=True, help="Bind each worker to one core.")
@_option("--log-format", type=click.Choice(LOG_FORMATS), default="text", help="Form of the log, on stderr.")
@_option("--log-level", type=click.Choice(LOG_LEVELS), default="info", help="Least important records to log.")
@click.option("--check", is_flag=True, help="Open the sockets, load TARGET in a child process, tell what it is, end.")
def run(check: bool, bind: tuple[str, ...], service: str, **values: Any) -> int:
    """Run a service until it is stopped; return the exit code."""
    configured = Service(bind=bind or _default_binds(), name=service, **values)
    _check_loop(configured.loop)
    if check:
        click.echo(api.check(configured))
        return int(api.Exit.OK)
    return int(api.Supervisor(configured).run())


def _default_binds() -> tuple[str, ...]:
    """The sockets that systemd passes to us, or else the default address."""
    passed = api.systemd_binds(os.environ, os.getpid())
    return tuple(f"fd://{bind.fd}" for bind in passed) or (DEFAULT_BIND,)


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


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command with `arguments` (None: those of the process) and end the process with its exit code."""
    try:
        code = command.main(arguments, prog_name="hybrid", standalone_mode=False)
    except ConfigError as error:
        _fail(api.Exit.USAGE, _in_words_of_the_command(error), "hybrid run --help")
    except api.CheckError as error:
        _fail(error.code, error.reason)
    except api.BindError as error:
        _fail(api.Exit.BIND, str(error))
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "hybrid"
        _fail(api.Exit.USAGE, error.format_message(), f"{path} --help")
    except click.Abort:
        _fail(api.Exit.ERROR, "interrupted")
    sys.exit(code or 0)


def _in_words_of_the_command(error: ConfigError) -> str:
    option = _OPTION_OF.get(error.field, error.field).replace("_", "-")
    return error.reason if option == "target" else f"--{option}: {error.reason}"


def _fail(code: int, text: str, manual: str | None = None) -> NoReturn:
    """Write one line, and where to read on; end with `code`."""
    click.echo(f"hybrid: error: {text}", err=True)
    if manual is not None:
        click.echo(f"For all options type: {manual}", err=True)
    sys.exit(int(code))
