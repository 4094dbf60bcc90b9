"""Options grouped into sections of `--help`, and the command that shows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click

from hybrid.config.declaring import Section


class SectionOption(click.Option):
    """An option that belongs to a section of the help."""

    def __init__(self, names: Sequence[str], *, section: Section, alone: str | None = None, **details: Any) -> None:
        """`alone`: the value of the option if it is given without one."""
        super().__init__(names, show_envvar=True, **details)
        self.section = section
        self.alone = alone


class SectionedCommand(click.Command):
    """A command whose help lists its options in sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section per section."""
        for section, options in self.sections(ctx):
            with formatter.section(section.value):
                formatter.write_dl([record for option in options if (record := option.get_help_record(ctx))])

    def sections(self, ctx: click.Context) -> Iterator[tuple[Section, list[click.Option]]]:
        """Yield each section that has options, with its options."""
        options = [parameter for parameter in self.get_params(ctx) if isinstance(parameter, click.Option)]
        for section in Section:
            under = [option for option in options if getattr(option, "section", Section.OTHER) is section]
            if under:
                yield section, under

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse. An option with an optional value takes the next word, unless that is an option or a target."""
        alone = {
            name: parameter.alone
            for parameter in self.params
            if isinstance(parameter, SectionOption) and parameter.alone is not None
            for name in parameter.opts
        }
        return super().parse_args(ctx, list(_completed(args, alone)))


def _completed(args: list[str], alone: dict[str, str]) -> Iterator[str]:
    """Yield `args`, with the value added to options that have none. `alone`: option -> that value."""
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
