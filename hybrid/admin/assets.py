"""The files of the dashboard's page, read once. A browser asks each time whether its copy is the newest (ETag)."""

from __future__ import annotations

import hashlib
import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hybrid.admin.messages import Request, Response

HTML: Final = "text/html; charset=utf-8"
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""The page loads its own files, connects to its own server, and may not be framed (Content Security Policy 3)."""
_SCRIPT, _STYLE = "text/javascript", "text/css"
_KINDS: Final = {
    "app.js": _SCRIPT,
    "overview.js": _SCRIPT,
    "worker.js": _SCRIPT,
    "actions.js": _SCRIPT,
    "charts.js": _SCRIPT,
    "dom.js": _SCRIPT,
    "style.css": _STYLE,
}
_FOLDER: Final = importlib.resources.files("hybrid.admin").joinpath("pages")


@dataclass(frozen=True, slots=True)
class Asset:
    """A file."""

    content_type: str
    body: bytes
    etag: str

    async def answer(self, request: Request) -> Response:
        """Return the file, or that the browser's copy is the same."""
        fields = {"etag": self.etag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == self.etag:
            return Response(304, self.content_type, headers=fields)
        return Response(200, self.content_type, self.body, fields)


def assets() -> Mapping[str, Asset]:
    """Return the files by their paths. Reads them, so call it once."""
    return {f"/assets/{name}": _asset(name, kind) for name, kind in _KINDS.items()}


def page(name: str) -> str:
    """Return the text of an HTML file. Reads it, so call it once."""
    return _FOLDER.joinpath(name).read_text("utf-8")


def as_page(text: str, status: int = 200, **fields: str) -> Response:
    """Return a response of HTML."""
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return Response(status, HTML, text.encode(), {"content-security-policy": POLICY, **named})


def _asset(name: str, kind: str) -> Asset:
    body = _FOLDER.joinpath(name).read_bytes()
    return Asset(f"{kind}; charset=utf-8", body, f'"{hashlib.sha256(body).hexdigest()[:16]}"')
