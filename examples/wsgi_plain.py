"""A WSGI application without a framework: a query string, a request body, and a streamed response.

    hybrid run --bind 127.0.0.1:9000 examples.wsgi_plain:app
    curl http://127.0.0.1:9000/hello?name=you
    curl --data-binary @README.md http://127.0.0.1:9000/digest
    curl http://127.0.0.1:9000/count

Each request runs in a greenlet here. `--loop uvloop` or `--threads 8` run it in a thread instead; nothing changes for
the application.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs

StartResponse = Callable[[str, list[tuple[str, str]]], Any]
PIECE = 65_536  # bytes of the body per read


def app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """Answer one request."""
    match environ["PATH_INFO"]:
        case "/hello":
            name = parse_qs(environ["QUERY_STRING"]).get("name", ["world"])[0]
            return text(start_response, f"hello, {name}!\n")
        case "/digest":
            return text(start_response, digest(environ["wsgi.input"]) + "\n")
        case "/count":
            start_response("200 OK", [("Content-Type", "text/plain")])
            return count(5)
        case _:
            return text(start_response, "try /hello?name=you, /digest, /count\n", "404 Not Found")


def text(start_response: StartResponse, words: str, status: str = "200 OK") -> list[bytes]:
    """Return a complete text response."""
    body = words.encode()
    start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))])
    return [body]


def digest(body: Any) -> str:
    """Return the SHA-256 of a body of any length, without keeping it in memory."""
    found = hashlib.sha256()
    while piece := body.read(PIECE):
        found.update(piece)
    return found.hexdigest()


def count(last: int) -> Iterator[bytes]:
    """Yield parts of a response of unknown length; each is sent as soon as it is yielded."""
    for number in range(1, last + 1):
        yield f"{number}\n".encode()
