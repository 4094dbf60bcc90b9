"""bjoern's `listen` and `run`: a WSGI server in C over libev."""

from __future__ import annotations

import importlib

import bjoern  # type: ignore[import-untyped]

from benchmarks.peers import BACKLOG, HOST, announce


def serve(target: str) -> None:
    """Serve the WSGI application `module:attribute` for ever."""
    module, attribute = target.split(":")
    application = getattr(importlib.import_module(module), attribute)
    listener = bjoern.listen(application, HOST, 0, listen_backlog=BACKLOG)
    announce(listener.getsockname()[1])
    bjoern.run()
