"""Thirteen bytes over WSGI (PEP 3333): what is measured is the server."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

BODY = b"Hello, World!"
_HEADERS = [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))]


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer every request with the greeting."""
    start_response("200 OK", list(_HEADERS))
    return [BODY]
