"""`hybrid run` of the conformance application: what its referee notes is an error, and its lifespan must end."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.clients import connected
from support.process import HybridProcess
from support.service import eventually, serving
from support.wsgi import Answer, read_answer, send_request

BLOCK = bytes(range(256)) * 256  # as `asgi_pages` has it


@contextmanager
def judged(loop: str, cwd: Path, *arguments: str, **options: Any) -> Iterator[HybridProcess]:
    """Give the process, of one worker; stopped at the end at the latest."""
    arguments = ("--workers", "1", "--loop", loop, "--pathsend", *arguments)
    with serving("asgi_conformance:app", *arguments, cwd=cwd, **options) as process:
        yield process
    faults = cwd / "notes"
    assert not faults.exists(), faults.read_text()
    assert len((cwd / "notes.stopped").read_text().split()) == 1, "the lifespan has ended"


def get(process: HybridProcess, target: str, *fields: str, method: str = "GET", body: bytes = b"") -> Answer:
    """Ask once, on a connection of its own."""
    with connected(process.address) as sock:
        return get_on(sock, target, "connection: close", *fields, method=method, body=body)


def get_on(sock: socket.socket, target: str, *fields: str, method: str = "GET", body: bytes = b"") -> Answer:
    """Ask on an open connection."""
    send_request(sock, target, *fields, method=method, body=body)
    return read_answer(sock, method)


def seen(cwd: Path) -> list[str]:
    """What the pages have seen so far that their clients cannot see."""
    path = cwd / "notes.seen"
    return path.read_text().splitlines() if path.exists() else []


def wait_seen(cwd: Path, *lines: str) -> None:
    """Wait until the pages have seen all of these."""
    eventually(lambda: set(lines) <= set(seen(cwd)), f"{lines} are seen")
