"""Drafts: what is to be written to a `hybrid.toml`, as plain data, and what to tell the user about it."""

from __future__ import annotations

import dataclasses

Value = str | int | float | bool | tuple[str, ...]
"""A value of the file."""


@dataclasses.dataclass(frozen=True)
class Line:
    """A key and its value."""

    key: str
    value: Value
    comment: str = ""
    is_comment: bool = False
    """True for a suggestion: the whole line is a comment."""


@dataclasses.dataclass(frozen=True)
class ServiceDraft:
    """One `[service.NAME]`."""

    name: str
    lines: tuple[Line, ...]
    comments: tuple[str, ...] = ()
    """Lines of comment above it."""


@dataclasses.dataclass(frozen=True)
class Draft:
    """A whole file."""

    title: str
    """The first line, a comment."""
    services: tuple[ServiceDraft, ...]
    remarks: tuple[str, ...] = ()
    """What has no equivalent and what to do instead: for the user, a line each."""
    epilog: tuple[str, ...] = ()
    """Lines of comment at the end of the services."""
    is_with_profile: bool = True
    """True to add a profile for development."""
