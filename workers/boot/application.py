"""The application of a worker, as plain data that is passed from the command line or the embedder to the fork."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from hybrid.workers.contract.records import record
from hybrid.workers.http.settings import HttpSettings


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
    recycle: RecycleLimits = dataclasses.field(default_factory=RecycleLimits)
    """When a worker asks to be replaced."""

    @property
    def name(self) -> str:
        """The name in error messages."""
        if self.title:
            return self.title
        if self.reference is not None:
            return self.reference
        return "the target" if self.factory is None else getattr(self.factory, "__qualname__", repr(self.factory))
