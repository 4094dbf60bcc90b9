"""The application of a worker, as plain data that is passed from the command line or the embedder to the fork."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from hybrid.workers.contract.records import record
from hybrid.workers.http.settings import HttpSettings
from hybrid.workers.offload.settings import OffloadSettings


@record(frozen=True, slots=True)
class RecycleLimits:
    """Limits after which a worker is replaced; 0 means no limit."""

    max_requests: int = 0
    """Requests; datagrams or connections if the application has no requests."""
    max_lifetime: float = 0.0
    """Seconds."""
    max_memory: int = 0
    """Resident bytes."""
    refork_after: int = 0
    """Requests after which a worker offers to become the next zygote; counted as `max_requests` is, without jitter."""
    jitter: float = 0.1
    """Each worker raises its limits by a random fraction up to this, so that not all are replaced at the same time."""


@record(frozen=True, slots=True)
class LogConfig:
    """The file of `--log-config`."""

    path: str
    text: str
    """What it contains, to find the line of a mistake."""
    content: dict[str, Any]
    """The same as `logging.config.dictConfig` takes it."""


@record(frozen=True, slots=True)
class Companion:
    """A function that runs beside the workers. `factory`, `pickled` or `reference` is set, as in `Application`."""

    called: str
    """The name of the companion, e.g. `mailer`."""
    reference: str | None = None
    """`module:attribute`, dots allowed in both."""
    factory: Callable[..., Any] | None = None
    """The function itself, if the embedding process becomes the supervisor."""
    pickled: bytes | None = None
    """The function as dill bytes, if the supervisor is a child of the embedding process."""
    title: str = ""
    """The name in error messages of a function that was passed as an object; empty: taken from the function."""

    @property
    def name(self) -> str:
        """The name in error messages."""
        return _name_of(self)


@record(frozen=True, slots=True)
class Application:
    """The target and how to run it. `factory`, `pickled` or `reference` is set; they are tried in this order.

    The target is loaded in the worker, after the fork and after the loop has prepared the process: the supervisor
    must not import application code.
    """

    reference: str | None = None
    """`module:attribute`, dots allowed in both."""
    factory: Callable[..., Any] | None = None
    """The handler itself, if the embedding process becomes the supervisor."""
    pickled: bytes | None = None
    """The handler as dill bytes, if the supervisor is a child of the embedding process."""
    title: str = ""
    """The name in error messages of a handler that was passed as an object; empty: taken from the target."""
    directory: str | None = None
    """Absolute working directory, set before the target is loaded; None: the directory of the process."""
    loop: str = "epoll"
    """A name of `hybrid.workers.loops.registry.LOOPS`."""
    interface: str = "auto"
    """A name of `hybrid.workers.apps.detect.INTERFACES`."""
    call_factory: bool = False
    """True to call the target without arguments in the worker, and to serve the result."""
    http: HttpSettings = dataclasses.field(default_factory=HttpSettings)
    """How a WSGI or ASGI application is served."""
    max_connections: int = 0
    """Open connections at which a worker stops accepting; 0: limited by its descriptors."""
    stall_threshold: float = 0.0
    """Seconds in one turn after which siblings adopt what waits for a worker; 0: never."""
    hooks: str | None = None
    """A module with hooks, imported before the target; None: only the target registers hooks."""
    ready_check_interval: float = 5.0
    """Seconds between two ready checks."""
    captured_level: str | None = None
    """The lowest level of its log records that are captured, as `logging` names it; None: no output is captured."""
    log_config: LogConfig | None = None
    """How `logging` is configured before the target is loaded; None: not at all."""
    accounting: bool = False
    """True if the cost of requests is counted by label."""
    recycle: RecycleLimits = dataclasses.field(default_factory=RecycleLimits)
    """When a worker asks to be replaced."""
    companions: tuple[Companion, ...] = ()
    """The functions that run beside the workers."""
    offload: OffloadSettings | None = None
    """How calls are offloaded; None: this service does not offload."""

    @property
    def name(self) -> str:
        """The name in error messages."""
        return _name_of(self)


def _name_of(code: Application | Companion) -> str:
    if code.title:
        return code.title
    if code.reference is not None:
        return code.reference
    return "the target" if code.factory is None else getattr(code.factory, "__qualname__", repr(code.factory))
