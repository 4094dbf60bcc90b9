"""The listeners that a worker reads: its own, those of siblings that it has adopted, and what may break them.

An application can close a listening socket by mistake: a descriptor that is closed twice may be ours the second time.
Or it shuts one down, which all processes feel. Nothing in this process can repair that; its successor has the listener.
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
"""Makes what reads a listener; it calls the second argument where that is broken."""
_log = logging.getLogger("hybrid")


class Listening:
    """The listeners of one worker. Belongs to the loop's thread."""

    def __init__(self, spec: WorkerSpec, open_server: Open, lost: Callable[[str], object]) -> None:
        """`lost` is called once, with which listener it is and why, if it cannot be accepted from any more."""
        self._spec = spec
        self._open = open_server
        self._lost = lost
        self._own = spec.own_listeners
        self._servers: list[Server] = []  # what reads listeners; at the end those of other slots too
        self._is_over = False
        self.is_ending = False
        """Whether the worker is to end: the supervisor shuts listeners down itself then."""
        self.adoption = Adoption(spec, lambda listener: cast(Acceptor, self._server(listener)))

    def _server(self, listener: Listener) -> Server:
        return self._open(listener, functools.partial(self._found_broken, listener))

    def closed_by_now(self) -> str | None:
        """Return which listener of this worker's is closed in this process, for a log line; None: none is."""
        return next((listener.defect() for listener in self._own if not listener.is_open), None)

    def start(self) -> None:
        """Read the worker's own listeners. Raises `OSError` where the loop cannot poll one."""
        self._servers = [self._server(listener) for listener in self._own]
        for server in self._servers:
            server.start()

    def look(self) -> None:
        """Find an own listener that is broken though no event says so: its number may be another file's."""
        for listener in self._own:
            if not self.is_ending and (defect := listener.defect()) is not None:
                self._found_broken(listener, defect)

    def _found_broken(self, listener: Listener, why: str) -> None:
        """End the worker, unless the listener is another slot's and only shut down: the supervisor mends that."""
        if self.is_ending or (listener.is_open and listener not in self._own):
            return
        self.is_ending = True
        self._lost(listener.defect() or f"{listener.address}: {why}")

    # -- the end -----------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Adopt nothing more. `accept_waiting` is to follow."""
        self.is_ending = True
        self._servers += self.adoption.end()

    def accept_waiting(self, slots: Collection[int] = ()) -> None:
        """Accept the connections that the kernel has completed, then stop polling; from now on at these `slots` too.

        Accepted connections start at once, so call this from a callback of the loop, not from a task.
        """
        if not self._is_over:
            self._servers += [one for one in self.adoption.acceptors_at(slots) if one not in self._servers]
            for server in self._servers:
                server.stop()

    async def wait_accepted(self) -> None:
        """Do what `accept_waiting` does, in a callback."""
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
