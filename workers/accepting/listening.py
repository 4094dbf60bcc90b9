"""The listeners that a worker reads: its own, and those adopted from siblings. Detects broken ones.

An application can close a listening socket by mistake: a descriptor closed twice may be ours the second time. Or it
shuts one down, which affects all processes. This process cannot repair either; its successor has the listener.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Collection
from typing import cast

from hybrid.workers.accepting.acceptor import Acceptor
from hybrid.workers.accepting.adoption import Adoption
from hybrid.workers.apps.datagram import Datagrams
from hybrid.workers.contract.worker_spec import Listener, WorkerSpec

Server = Acceptor | Datagrams
Open = Callable[[Listener, Callable[[str], object]], Server]
"""Makes the reader of a listener, which calls the second argument if the listener is broken."""
_log = logging.getLogger("hybrid")


class Listening:
    """The listeners of one worker. Belongs to the loop's thread."""

    def __init__(self, spec: WorkerSpec, open_server: Open, lost: Callable[[str], object]) -> None:
        """`lost` is called once, with the listener and the reason, if the worker can no longer accept from it."""
        self._spec = spec
        self._open = open_server
        self._lost = lost
        self._own = spec.own_listeners
        self._servers: list[Server] = []  # readers of listeners; at the end also those of other slots
        self._is_over = False
        self.is_ending = False
        """True if the worker ends: the supervisor shuts listeners down by itself then."""
        self.adoption = Adoption(spec, lambda listener: cast(Acceptor, self._server(listener)))

    def _server(self, listener: Listener) -> Server:
        return self._open(listener, functools.partial(self._found_broken, listener))

    def closed_by_now(self) -> str | None:
        """Return a log text for an own listener that is closed in this process; None if all are open."""
        return next((listener.defect() for listener in self._own if not listener.is_open), None)

    def start(self) -> None:
        """Read the worker's own listeners. Raises `OSError` if the loop cannot poll one."""
        self._servers = [self._server(listener) for listener in self._own]
        for server in self._servers:
            server.start()

    @property
    def is_exhausted(self) -> bool:
        """True while connections cannot be accepted because descriptors or memory are missing."""
        return any(isinstance(server, Acceptor) and server.is_exhausted for server in self._servers)

    def look(self) -> None:
        """Find a broken own listener without an event: its descriptor number may belong to another file."""
        for listener in self._own:
            if not self.is_ending and (defect := listener.defect()) is not None:
                self._found_broken(listener, defect)

    def _found_broken(self, listener: Listener, why: str) -> None:
        """End the worker, unless another slot's listener was only shut down: the supervisor repairs that."""
        if self.is_ending or (listener.is_open and listener not in self._own):
            return
        self.is_ending = True
        self._lost(listener.defect() or f"{listener.address}: {why}")

    # -- the end -----------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Adopt nothing more. `accept_waiting` must follow."""
        self.is_ending = True
        self._servers += self.adoption.end()

    def accept_waiting(self, slots: Collection[int] = ()) -> None:
        """Accept the connections completed by the kernel, also from these `slots`, then stop polling.

        Accepted connections start at once, so call this from a callback of the loop, not from a task.
        """
        if not self._is_over:
            self._servers += [one for one in self.adoption.acceptors_at(slots) if one not in self._servers]
            for server in self._servers:
                server.stop()

    async def wait_accepted(self) -> None:
        """Call `accept_waiting` in a callback of the loop, and wait for it."""
        loop = asyncio.get_running_loop()
        accepted: asyncio.Future[None] = loop.create_future()
        loop.call_soon(self._accept_for, accepted)
        await accepted

    def _accept_for(self, accepted: asyncio.Future[None]) -> None:
        self.accept_waiting()
        if not accepted.done():
            accepted.set_result(None)

    def close(self) -> None:
        """Accept nothing from now on."""
        self._is_over = True
