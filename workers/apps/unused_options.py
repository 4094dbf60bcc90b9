"""Finds options that a kind of target ignores."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from hybrid.workers.apps.detect import DATAGRAM_KINDS, HTTP_KINDS, Kind
from hybrid.workers.boot.application import Application
from hybrid.workers.http.settings import HttpSettings, Limits

ACCOUNTED_KINDS = HTTP_KINDS | {Kind.SYNC_STREAM, Kind.ASYNC_STREAM}
"""Kinds whose requests run in a greenlet, a thread or a task, so that their cost can be measured."""
_NO_OPTIONS = frozenset(
    {"limits", "tls", "access_fd"}
)  # TLS is refused, not ignored, for kinds without TLS: see `check_http`


def unused_options(kind: Kind, application: Application) -> list[str]:
    """Return the options, as typed on the command line, that differ from their default and are ignored by `kind`."""
    http = application.http
    names = [*_changed(http, HttpSettings()), *_changed(http.limits, Limits())]
    options = [_option(name, getattr(http, name, None)) for name in names if not _is_for(name, kind)]
    if application.max_connections and kind in DATAGRAM_KINDS:
        options.append("--max-connections")
    if application.accounting and kind not in ACCOUNTED_KINDS:
        options.append("--accounting")
    return options


def _changed(settings: Any, defaults: Any) -> Iterator[str]:
    for field in dataclasses.fields(settings):
        if field.name not in _NO_OPTIONS and getattr(settings, field.name) != getattr(defaults, field.name):
            yield field.name


def _is_for(name: str, kind: Kind) -> bool:
    match kind:
        case Kind.ASGI:
            return name != "threads"
        case Kind.WSGI:
            return name not in ("lifespan", "pathsend") and not name.startswith("websocket_")
    return kind in HTTP_KINDS


def _option(name: str, value: object) -> str:
    dashed = name.replace("_", "-")
    return f"--no-{dashed}" if value is False else f"--{dashed}"
