"""numpy's matrix products in several threads of OpenBLAS: at the import, and in each request."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

ONES = np.ones((300, 300))


def product() -> float:
    return float((ONES @ ONES).sum())


def products(threads: int) -> list[float]:
    """Compute in several threads at once."""
    found: list[float] = []
    made = [threading.Thread(target=lambda: found.append(product())) for _ in range(threads)]
    for one in made:
        one.start()
    for one in made:
        one.join()
    return found


def who() -> bytes:
    """Return the pid, and how many threads the process has."""
    return f"{os.getpid()} {len([*Path('/proc/self/task').iterdir()])}".encode()


product()  # starts the pool


def wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    assert products(2) == [300.0**3] * 2
    body = who()
    start_response("200 OK", [("content-length", str(len(body)))])
    return [body]


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    assert products(2) == [300.0**3] * 2
    body = who()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
