"""The draft for the candidates that were found: the best one is a service, the others are comments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hybrid.init.candidates import Form
from hybrid.init.drafts import Draft, Line, ServiceDraft
from hybrid.init.searching import Findings, Found
from hybrid.init.writing import line

TITLE: Final = "Written by hybrid init."
MAX_OTHERS: Final = 10
"""Other candidates that are named in the file."""
FOR_WEB: Final = (
    Line("bind", "0.0.0.0:8000", "default: 127.0.0.1:8000, or 0.0.0.0 with the port in PORT", is_comment=True),
    Line("access_log", "combined", "to stdout; off by default", is_comment=True),
    Line("forwarded_allow_ips", "127.0.0.1", "proxies that may tell the client's address", is_comment=True),
    Line("graceful_timeout", "30s", "for requests in progress at a stop", is_comment=True),
)
"""Suggestions for a web application."""
FOR_STREAMS: Final = (
    Line("bind", "0.0.0.0:9000", "default: 127.0.0.1:8000", is_comment=True),
    Line("max_connections", 1000, "of each worker; others wait", is_comment=True),
    Line("graceful_timeout", "30s", "for open connections at a stop", is_comment=True),
)
"""Suggestions for a connection handler."""


def draft_for(findings: Findings) -> Draft:
    """Return the draft for what was found; without a candidate, a file with a sample in comments."""
    if not findings.found:
        return Draft(TITLE, (), epilog=tuple(_sample()))
    best, *others = findings.found
    return Draft(TITLE, (_service(best),), epilog=tuple(_others(others)))


def _service(found: Found) -> ServiceDraft:
    is_handler = found.form is Form.HANDLER
    lines = (*_lines(found), *(FOR_STREAMS if is_handler else FOR_WEB))
    return ServiceDraft("stream" if is_handler else "web", lines)


def _lines(found: Found) -> Iterator[Line]:
    yield Line("target", found.target, f"{found.kind}, {found.where}")
    if found.form is Form.FACTORY:
        yield Line("factory", True, "call it to get the application")
    if found.chdir:
        yield Line("chdir", found.chdir, "the directory to import it from")


def _others(others: list[Found]) -> Iterator[str]:
    if others:
        yield "Also found:"
    for found in others[:MAX_OTHERS]:
        yield from (f"    {line(one)}" for one in _lines(found))
    if len(others) > MAX_OTHERS:
        yield f"    and {len(others) - MAX_OTHERS} more"


def _sample() -> Iterator[str]:
    yield "No application was found here. Remove the # from these lines, and name yours:"
    yield ""
    yield "[service.web]"
    yield line(Line("target", "myapp:app", "module:attribute"))
    yield line(Line("factory", True, "if it is a function that returns the application"))
    yield from (line(one).removeprefix("# ") for one in FOR_WEB)
