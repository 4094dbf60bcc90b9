"""hybrid runs a Python server on every core: one supervised worker per core, on the event loop of your choice.

It serves web applications (WSGI, ASGI) and handlers of streams, protocols and datagrams, sync or async.

    hybrid run --workers auto myapp:handle

As a library: a `Service` describes a server, a `Supervisor` runs it. `spawn`, `joinall`, `sleep`, `await_`, `green`,
`connect` and `run` are for code inside a worker. Names are imported on first use: `import hybrid` loads no event loop.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hybrid.api import Supervisor
    from hybrid.config.service import ConfigError, Service
    from hybrid.supervisor.contact.control import StartError
    from hybrid.workers.contract.exits import Exit
    from hybrid.workers.green import await_, connect, green, joinall, run, sleep, spawn

    __version__: str

_HOME = {
    "ConfigError": "hybrid.config.service",
    "Exit": "hybrid.workers.contract.exits",
    "Service": "hybrid.config.service",
    "StartError": "hybrid.supervisor.contact.control",
    "Supervisor": "hybrid.api",
    "await_": "hybrid.workers.green",
    "connect": "hybrid.workers.green",
    "green": "hybrid.workers.green",
    "joinall": "hybrid.workers.green",
    "run": "hybrid.workers.green",
    "sleep": "hybrid.workers.green",
    "spawn": "hybrid.workers.green",
}  # public name -> module that defines it

__all__ = [
    "ConfigError",
    "Exit",
    "Service",
    "StartError",
    "Supervisor",
    "__version__",
    "await_",
    "connect",
    "green",
    "joinall",
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
