"""Options that stand under headings in `--help`, and a command that shows them so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click

from hybrid.config.declaring import Heading


class HeadedOption(click.Option):
    """An option under a heading."""

    def __init__(self, names: Sequence[str], *, heading: Heading, alone: str | None = None, **details: Any) -> None:
        """`alone`: the value that is meant where the option is given without one."""
        super().__init__(names, show_envvar=True, **details)
        self.heading = heading
        self.alone = alone


class HeadedCommand(click.Command):
    """A command whose help lists its options under their headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section per heading."""
        for heading, options in self.headed(ctx):
            with formatter.section(heading.value):
                formatter.write_dl([record for option in options if (record := option.get_help_record(ctx))])

    def headed(self, ctx: click.Context) -> Iterator[tuple[Heading, list[click.Option]]]:
        """Give the headings that have options, and these."""
        options = [parameter for parameter in self.get_params(ctx) if isinstance(parameter, click.Option)]
        for heading in Heading:
            under = [option for option in options if getattr(option, "heading", Heading.OTHER) is heading]
            if under:
                yield heading, under

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; an option that may stand alone takes the next word, unless that is an option or a target."""
        alone = {
            name: parameter.alone
            for parameter in self.params
            if isinstance(parameter, HeadedOption) and parameter.alone is not None
            for name in parameter.opts
        }
        return super().parse_args(ctx, list(_completed(args, alone)))


def _completed(args: list[str], alone: dict[str, str]) -> Iterator[str]:
    """Give `args`; those that stand alone get their value: `alone` is option -> value."""
    for place, word in enumerate(args):
        if word == "--":
            yield from args[place:]
            return
        following = args[place + 1] if place + 1 < len(args) else "--"
        if word in alone and (following.startswith("-") or _is_like_a_target(following)):
            yield f"{word}={alone[word]}"
        else:
            yield word


def _is_like_a_target(word: str) -> bool:
    return ":" in word and "%" not in word
