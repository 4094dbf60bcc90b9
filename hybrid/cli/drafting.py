"""What `hybrid init` does: makes a draft, writes it to `hybrid.toml`, and says what it wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from hybrid.config import file
from hybrid.init import choosing, searching, sources, writing
from hybrid.init.drafts import Draft


def write_file(directory: Path, source: str | None, *, force: bool) -> Iterator[str]:
    """Write `hybrid.toml` into a directory, and yield lines for the user.

    `source` is what to translate, a file or a command line; None: search the directory. Raises `click.UsageError`, also
    if there is a file already, unless `force`.
    """
    path = directory / file.NAME
    _refuse_existing(directory, force=force)
    draft, remarks = _draft(directory, source)
    try:
        writing.write(path, writing.render(draft), force=force)
    except FileExistsError:
        raise click.UsageError(_exists(file.NAME)) from None
    except UnicodeEncodeError:
        raise click.UsageError("--from has bytes that are no text in UTF-8") from None
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror or error}") from None
    yield from _summary(draft)
    if source is not None and remarks:
        yield "no equivalent, and what to do instead:"
    yield from remarks


def _draft(directory: Path, source: str | None) -> tuple[Draft, list[str]]:
    """Return what to write, and what to tell beside it. Raises `click.UsageError`."""
    if source is not None:
        try:
            draft = sources.draft_from(source, directory)
        except sources.SourceError as error:
            raise click.UsageError(f"--from: {error}") from None
        return draft, [f"  {text}" for text in draft.remarks]
    findings = searching.search(directory)
    remarks = [f"not read: {text}" for text in findings.unreadable]
    if findings.is_cut:
        remarks.append(f"only the first {searching.MAX_FILES} files were read: is this the directory of the project?")
    return choosing.draft_for(findings), remarks


def _refuse_existing(directory: Path, *, force: bool) -> None:
    if force:
        return
    found = file.find(directory)
    if found is not None and found.name == file.PROJECT:
        raise click.UsageError(
            f"{file.PROJECT} has [tool.hybrid], which {file.NAME} would hide: edit that, or use --force"
        )
    if (directory / file.NAME).exists():
        raise click.UsageError(_exists(file.NAME))


def _exists(name: str) -> str:
    return f"{name} exists: edit it, or write it anew with --force"


def _summary(draft: Draft) -> Iterator[str]:
    if not draft.services:
        yield f"wrote {file.NAME}, a sample: no application was found here. Write the name of yours into it."
        return
    yield f"wrote {file.NAME}:"
    for service in draft.services:
        first = service.lines[0]
        comment = f"  ({first.comment})" if first.comment else ""
        yield f"  [service.{service.name}]  {first.key} = {writing.literal(first.value)}{comment}"
    others = sum(text.lstrip().startswith("target = ") for text in draft.epilog)
    if others:
        yield f"  {others} more candidate{'s' * (others != 1)} in its comments"
    yield "next: hybrid check, then hybrid run"
