"""A draft as the text of a `hybrid.toml`, and the file itself.

Plain text, and not tomlkit, which would be one more package in every installation for this command alone: nothing is
edited here, half of the file is comments with keys in them, and only one value of each kind has to be quoted. The text
is read back before it is written.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hybrid.init.drafts import Draft, Line, ServiceDraft, Value

_COLUMN: Final = 40  # where comments begin, if the value leaves room
DEFAULTS: Final = (
    Line("workers", "auto", "one per usable core; or a number", is_comment=True),
    Line("log_format", "json", "text is the default", is_comment=True),
    Line("env_file", ".env", "variables for the application", is_comment=True),
)
"""Suggestions at the top level."""
DEVELOPMENT: Final = (Line("workers", 1), Line("reload", True, "restart when a source file changes"))
"""The profile for development."""


def render(draft: Draft) -> str:
    """Return the text of the file."""
    text = "\n".join(_lines(draft)) + "\n"
    tomllib.loads(text)  # raises for our own mistakes
    return text


def _lines(draft: Draft) -> Iterator[str]:
    yield f"# {_plain(draft.title)}"
    yield "# Next: hybrid check, then hybrid run. Every option is a key: hybrid run --help, with underscores."
    yield ""
    yield "# For every service:"
    yield from map(line, DEFAULTS)
    for service in draft.services:
        yield ""
        yield from _service(service)
    if draft.epilog:
        yield ""
        yield from (f"# {_plain(text)}".rstrip() for text in draft.epilog)
    if draft.is_with_profile:
        yield ""
        yield _aligned("[profile.dev]", "hybrid run --profile dev")
        yield from map(line, DEVELOPMENT)


def _service(service: ServiceDraft) -> Iterator[str]:
    yield from (f"# {_plain(text)}" for text in service.comments)
    yield f"[service.{service.name if _is_bare(service.name) else quoted(service.name)}]"
    yield from map(line, service.lines)


def line(one: Line) -> str:
    """Return a line of the file."""
    text = f"{'# ' if one.is_comment else ''}{one.key} = {literal(one.value)}"
    return _aligned(text, one.comment) if one.comment else text


def _aligned(text: str, comment: str) -> str:
    return f"{text:<{_COLUMN}}  # {_plain(comment)}"


def _plain(text: str) -> str:
    """Return a text that may stand in a comment: the name of a file can have any character."""
    return "".join(character if character.isprintable() else " " for character in text)


def literal(value: Value) -> str:
    """Return a value as TOML."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return quoted(value)
        case tuple():
            return f"[{', '.join(map(quoted, value))}]"
    return str(value)


def quoted(text: str) -> str:
    """Return a text as a basic string of TOML: that of JSON, but for the one control character that JSON allows."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _is_bare(name: str) -> bool:
    return name.isascii() and name.replace("_", "").replace("-", "").isalnum()


def write(path: Path, text: str, *, force: bool) -> None:
    """Write the file whole or not at all. Raises `FileExistsError` if it exists, unless `force`; `OSError`."""
    draft = path.with_name(f".{path.name}.{os.getpid()}") if force else path
    if force:
        draft.unlink(missing_ok=True)  # left by a process that had our pid
    try:
        with draft.open("x", encoding="utf-8") as file:  # follows no link either
            file.write(text)
        if force:
            draft.replace(path)
    except FileExistsError:
        raise
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
