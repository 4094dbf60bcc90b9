"""hybrid runs a Python server on every core: one supervised worker per core, on the event loop of your choice.

It serves web applications (WSGI, ASGI) and handlers of streams, protocols and datagrams, sync or async.

    hybrid run --workers auto myapp:handle

As a library: a `Service` describes a server, a `Supervisor` runs it. `spawn`, `joinall`, `sleep`, `await_`, `green`,
`connect` and `run` are for code inside a worker; `on` registers functions for moments of a worker's life, `label` names
the part of an application that a request belongs to. Names are imported on first use: `import hybrid` loads no event
loop.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybrid.api import Supervisor
    from hybrid.config.companions import Companion
    from hybrid.config.pools import OffloadPool
    from hybrid.config.service import ConfigError, Service
    from hybrid.supervisor.contact.control import StartError
    from hybrid.workers.common.labels import label
    from hybrid.workers.contract.exits import Exit
    from hybrid.workers.green import await_, connect, green, joinall, run, sleep, spawn
    from hybrid.workers.hooks.registry import on
    from hybrid.workers.offload.calling import executor, offload
    from hybrid.workers.offload.errors import (
        OffloadCancelled,
        OffloadDied,
        OffloadError,
        OffloadQueueFull,
        OffloadTimeout,
    )
    from hybrid.workers.offload.job import Job

    __version__: str

_HOME = {
    "Companion": "hybrid.config.companions",
    "OffloadPool": "hybrid.config.pools",
    "ConfigError": "hybrid.config.service",
    "Exit": "hybrid.workers.contract.exits",
    "Service": "hybrid.config.service",
    "StartError": "hybrid.supervisor.contact.control",
    "Supervisor": "hybrid.api",
    "await_": "hybrid.workers.green",
    "connect": "hybrid.workers.green",
    "green": "hybrid.workers.green",
    "joinall": "hybrid.workers.green",
    "label": "hybrid.workers.common.labels",
    "on": "hybrid.workers.hooks.registry",
    "run": "hybrid.workers.green",
    "sleep": "hybrid.workers.green",
    "spawn": "hybrid.workers.green",
    "Job": "hybrid.workers.offload.job",
    "OffloadCancelled": "hybrid.workers.offload.errors",
    "OffloadDied": "hybrid.workers.offload.errors",
    "OffloadError": "hybrid.workers.offload.errors",
    "OffloadQueueFull": "hybrid.workers.offload.errors",
    "OffloadTimeout": "hybrid.workers.offload.errors",
    "executor": "hybrid.workers.offload.calling",
    "offload": "hybrid.workers.offload.calling",
}  # public name -> module that defines it

__all__ = [
    "Companion",
    "ConfigError",
    "Exit",
    "Job",
    "OffloadCancelled",
    "OffloadDied",
    "OffloadError",
    "OffloadPool",
    "OffloadQueueFull",
    "OffloadTimeout",
    "Service",
    "StartError",
    "Supervisor",
    "__version__",
    "await_",
    "connect",
    "executor",
    "green",
    "joinall",
    "label",
    "offload",
    "on",
    "run",
    "sleep",
    "spawn",
]


def __getattr__(name: str) -> Any:
    """Import a public name on its first use (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("hybrid-runtime")
    elif name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
    else:
        raise AttributeError(f"module 'hybrid' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
