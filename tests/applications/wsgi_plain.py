"""A WSGI application with a path for each thing that tests ask of it."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import shift_path_info
from wsgiref.validate import validator

import hybrid

BLOCK = bytes(range(256)) * 256  # 64 KiB


def application(environ: dict[str, Any], start_response: Any) -> Any:
    """Do what the path says; below `/validated`, with an eye on whether the server keeps to PEP 3333."""
    if environ["PATH_INFO"].startswith("/validated/"):
        shift_path_info(environ)
        return validated(environ, start_response)
    return _PATHS[environ["PATH_INFO"]](environ, start_response)


def hello(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"hello from {os.getpid()} {threading.current_thread().name}".encode()]


def upload(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Answer with the digest of the body, which is read in blocks."""
    digest = hashlib.sha256()
    while block := environ["wsgi.input"].read(65_536):
        digest.update(block)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [digest.hexdigest().encode()]


def download(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    """Give as many blocks as the query says."""
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    for _ in range(int(environ["QUERY_STRING"])):
        yield BLOCK


def send(environ: dict[str, Any], start_response: Any) -> Any:
    """Send the file that the query names."""
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return environ["wsgi.file_wrapper"](Path(environ["QUERY_STRING"]).open("rb"))


def nap(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Wait for the seconds of the query, or until there is the file that it names."""
    asked = environ["QUERY_STRING"]
    if not asked.startswith("/"):
        rest(float(asked))
    else:
        while not Path(asked).exists():
            rest(0.005)
    return hello(environ, start_response)


def rest(seconds: float) -> None:
    """Wait in the way that the place has."""
    try:
        hybrid.sleep(seconds)
    except RuntimeError:
        time.sleep(seconds)


def events(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    """Send lines forever."""
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    while True:
        yield b"data: tick\n\n"
        rest(0.05)


def fetch(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Ask the server itself, over a connection of hybrid's."""
    host, port = environ["SERVER_NAME"], int(environ["SERVER_PORT"])
    with hybrid.connect((host, port)) as sock:
        sock.sendall(b"GET /hello HTTP/1.0\r\n\r\n")
        parts = []
        while part := sock.recv(65_536):
            parts.append(part)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return parts


def error(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    raise LookupError("a broken page")


_PATHS: dict[str, Callable[..., Any]] = {
    f"/{function.__name__}": function for function in (hello, upload, download, send, nap, events, fetch, error)
}
validated = validator(application)
