"""The commands for a running supervisor: `ps`, `status`, `top`, `reload`, `scale` and so on.

Starting one of them imports neither the supervisor nor the workers, so that it answers quickly: see `hybrid.cli.entry`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import click

from hybrid.cli import changing, looking
from hybrid.cli.asking import Duration, service_names, waiting, which, worker_names
from hybrid.cli.changing import CHANGE
from hybrid.cli.help import EVENTS, LOGLEVEL, METRICS, PS, RELOAD, RESTART, SCALE, STACKS, STATUS, STOP, TOP, UPGRADE

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
_LEVELS: Final = ("debug", "info", "warning", "error")


class _ScaleCommand(click.Command):
    """Takes `-1` for an argument, not for an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; other words that begin with a dash are unknown options, as everywhere."""
        rest = super().parse_args(ctx, args)
        for word in ctx.params.get("words", ()):
            if word.startswith("-") and not CHANGE.fullmatch(word):
                raise click.NoSuchOption(word, ctx=ctx)
        return rest


def _service() -> click.Argument:
    return click.Argument(["service"], required=False, shell_complete=service_names)


def _json() -> click.Option:
    return click.Option(["--json", "as_json"], is_flag=True, help="Print the answer of the supervisor as JSON.")


def _command(
    name: str,
    callback: Callable[..., int],
    texts: str,
    *parameters: click.Parameter,
    kind: type[click.Command] = click.Command,
    **settings: Any,
) -> click.Command:
    """Return a command. The first line of its help is its line in the list of commands."""
    return kind(
        name,
        callback=callback,
        help=texts,
        short_help=texts.strip().partition("\n")[0],
        params=[*parameters, *([] if name == "ps" else which())],
        context_settings={**_CONTEXT, **settings},
    )


COMMANDS: Final = (
    _command("ps", looking.ps, PS),
    _command(
        "status",
        looking.status,
        STATUS,
        _service(),
        _json(),
        click.Option(["--watch"], type=Duration(), metavar="SECONDS", help="Show it again and again."),
        click.Option(["--blockers"], is_flag=True, help="Show which lines have blocked the loops."),
        click.Option(["--labels"], is_flag=True, help="Show what the requests of each label cost."),
    ),
    _command("top", looking.top, TOP, _service()),
    _command("reload", changing.reload, RELOAD, _service(), waiting("120")),
    _command(
        "scale",
        changing.scale,
        SCALE,
        click.Argument(["words"], nargs=-1, required=True, metavar="[SERVICE] N|+N|-N", shell_complete=service_names),
        waiting("60"),
        kind=_ScaleCommand,
        ignore_unknown_options=True,
    ),
    _command(
        "restart",
        changing.restart,
        RESTART,
        click.Argument(["worker"], metavar="SERVICE/SLOT", shell_complete=worker_names),
        waiting("60"),
    ),
    _command(
        "stop",
        changing.stop,
        STOP,
        _service(),
        click.Option(["--now"], is_flag=True, help="Kill the processes, without a drain."),
        waiting("40"),
    ),
    _command("upgrade", changing.upgrade, UPGRADE, waiting("120")),
    _command(
        "stacks",
        looking.stacks,
        STACKS,
        click.Argument(["worker"], required=False, metavar="[SERVICE[/SLOT]]", shell_complete=worker_names),
        _json(),
    ),
    _command("metrics", looking.metrics, METRICS),
    _command(
        "events",
        looking.events,
        EVENTS,
        click.Option(["--follow"], is_flag=True, help="Go on with what happens from now on, until Ctrl-C."),
    ),
    _command(
        "loglevel",
        changing.loglevel,
        LOGLEVEL,
        click.Argument(["level"], type=click.Choice(_LEVELS, case_sensitive=False)),
        click.Option(
            ["--for", "seconds"],
            type=Duration(),
            metavar="SECONDS",
            help="Return to the level of before after that time.",
        ),
    ),
)
