"""A WSGI application whose import starts a process for all workers. The answer: the worker's pid and the helper's."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable
from typing import Any

_helper = multiprocessing.get_context("fork").Process(target=signal.pause, daemon=True)
_helper.start()


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer; with a body that comes later, when that has come."""
    environ["wsgi.input"].read()
    body = f"{os.getpid()} {_helper.pid}".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
