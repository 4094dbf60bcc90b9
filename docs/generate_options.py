"""Writes `docs/options.md` from the command's own options: `python docs/generate_options.py`.

A test compares the file with what this would write.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from hybrid.cli.commands import all_commands, command
from hybrid.cli.sections import SectionedCommand

FILE = Path(__file__).with_name("options.md")
_HEAD = """\
<!-- Written by docs/generate_options.py; edit hybrid/config/ and hybrid/cli/help.py instead. -->

# Options

The texts of `hybrid --help` and of `hybrid COMMAND --help` on one page. An option that several commands
have in the same words is described once.
"""


def render() -> str:
    """Return the whole text of the reference."""
    sections = [_HEAD, *_section("hybrid", command)]
    described: set[tuple[str, str | None, object]] = set()
    for name, sub in all_commands().items():
        sections += _section(f"hybrid {name}", sub, described)
    return "\n".join(sections).rstrip("\n") + "\n"


def _section(
    path: str, sub: click.Command, described: set[tuple[str, str | None, object]] | None = None
) -> Iterator[str]:
    """Give the section of a command, without options that a command above has with the same words: `described`."""
    described = set() if described is None else described
    context = click.Context(sub, info_name=path, **sub.context_settings)
    usage = " ".join([path, *sub.collect_usage_pieces(context)])
    yield f"## {path}\n"
    yield f"    {usage}\n"
    yield _prose(sub.help)
    options = [one for one in sub.get_params(context) if isinstance(one, click.Option)]
    fresh = [one for one in options if _words(one) not in described or "--help" in one.opts]
    if isinstance(sub, SectionedCommand) and fresh == options:
        for heading, under in sub.sections(context):
            yield f"### {heading.value}\n"
            for option in under:
                yield from _option(option, context, "####")
    else:
        for option in fresh:
            yield from _option(option, context, "###")
    described.update(map(_words, options))
    if sub.epilog:
        yield _prose(sub.epilog)


def _words(option: click.Option) -> tuple[str, str | None, object]:
    return option.opts[0], option.help, str(option.default)


def _prose(text: str | None) -> str:
    """Return click's help text as Markdown: blocks marked with \\b become preformatted."""
    blocks = re.split(r"\n\s*\n", (text or "").strip("\n"))
    return "\n\n".join(_block(block) for block in blocks) + "\n"


def _block(block: str) -> str:
    first, _, rest = block.strip("\n").partition("\n")
    if first.strip() != "\b":
        return " ".join(block.split()) if "\n" not in block else "\n".join(line.strip() for line in block.splitlines())
    lines = rest.split("\n")
    title = [] if lines[0].startswith(" ") else [lines.pop(0), ""]
    return "\n".join([*title, "```", *(line.removeprefix("  ") for line in lines), "```"])


def _option(option: click.Option, context: click.Context, level: str) -> Iterator[str]:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    value = "" if option.is_flag else f" `{option.make_metavar(context)}`"
    yield f"{level} {names}{value}\n"
    yield (option.help or "").strip() + "\n"
    facts = list(_facts(option, context))
    if facts:
        yield "; ".join(facts) + ".\n"


def _facts(option: click.Option, context: click.Context) -> Iterator[str]:
    extra: dict[str, Any] = dict(option.get_help_extra(context))
    if "default" in extra:
        yield f"Default: `{str(extra['default']).strip('()')}`"
    if variables := extra.get("envvars", ()):
        yield "Environment: " + " or ".join(f"`{name}`" for name in variables)


if __name__ == "__main__":
    FILE.write_text(render(), encoding="utf-8")
