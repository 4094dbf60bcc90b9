"""What a worker is to serve, as plain data that travels from the command line or the embedder to the fork."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from hybrid.workers.contract.records import record
from hybrid.workers.http.settings import HttpSettings


@record(frozen=True, slots=True)
class Wear:
    """After how much a worker is to be replaced; 0 stands for no limit."""

    max_requests: int = 0
    """Requests; datagrams and connections where there are no requests."""
    max_lifetime: float = 0.0
    """Seconds."""
    max_memory: int = 0
    """Resident bytes."""
    refork_after: int = 0
    """Requests after which a worker offers to become the next zygote; counted as `max_requests` is, without jitter."""
    jitter: float = 0.1
    """Each worker draws its own limits, up to this fraction above those here, so that not all are replaced at once."""


@record(frozen=True, slots=True)
class Application:
    """The target and how to run it. `factory` or `pickled` or `reference` is set, and is tried in this order.

    The target is loaded in the worker, after the fork and after the loop has prepared the process: the supervisor
    must not import application code.
    """

    reference: str | None = None
    """`module:attribute`, dots allowed in both."""
    factory: Callable[..., Any] | None = None
    """The handler itself, where the embedding process becomes the supervisor."""
    pickled: bytes | None = None
    """The handler as dill bytes, where the supervisor is a child of the embedding process."""
    title: str = ""
    """The name in error messages of a handler that was given as an object; empty: taken from the target."""
    directory: str | None = None
    """Working directory, from before the target is loaded, absolute; None: that of the process."""
    loop: str = "epoll"
    """A name of `hybrid.workers.loops.registry.LOOPS`."""
    interface: str = "auto"
    """A name of `hybrid.workers.apps.detect.INTERFACES`."""
    call_factory: bool = False
    """Whether the target is called without arguments in the worker, and what it returns is served."""
    http: HttpSettings = dataclasses.field(default_factory=HttpSettings)
    """How a WSGI or ASGI application is served."""
    max_connections: int = 0
    """Connections a worker serves at a time before it stops accepting; 0: as many as it has descriptors for."""
    wear: Wear = dataclasses.field(default_factory=Wear)
    """When a worker asks to be replaced."""

    @property
    def name(self) -> str:
        """What error messages call it."""
        if self.title:
            return self.title
        if self.reference is not None:
            return self.reference
        return "the target" if self.factory is None else getattr(self.factory, "__qualname__", repr(self.factory))
