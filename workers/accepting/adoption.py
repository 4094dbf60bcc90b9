"""Adopts the accept queues of other slots: siblings serve the connections of a stalled or dead worker.

The supervisor sends the complete set of slots each time, and passes on listeners made after this worker's fork. Only
streams are adopted: a datagram's sender stays with its worker. Sockets that belong to no slot are polled by all workers
anyway. What was passed to a worker that is busy is left to it for a moment (`workers.accepting.passing`).
"""

from __future__ import annotations

import _socket
import contextlib
import logging
import os
from collections.abc import Callable, Collection, Sequence
from typing import Any

from hybrid.workers.accepting.acceptor import Acceptor
from hybrid.workers.contract.messages import Learn
from hybrid.workers.contract.worker_spec import Listener, ListenerKind, WorkerSpec

PASSED = ListenerKind.PASSED.value
"""The address of the queues of passed connections."""
_log = logging.getLogger("hybrid")


class Adoption:
    """The listeners of a worker's siblings. Belongs to the loop's thread."""

    def __init__(self, spec: WorkerSpec, open_acceptor: Callable[[Listener], Acceptor]) -> None:
        self._spec = spec
        self._open_acceptor = open_acceptor
        self._known: dict[int, dict[str, Listener]] = {}  # foreign slot -> address -> its stream listener
        self._acceptors: dict[int, list[Acceptor]] = {}  # foreign slot that was ever adopted -> all of its acceptors
        self._wanted: frozenset[int] = frozenset()  # slots adopted now
        self._is_over = False
        self._learned: list[Any] = []  # sockets of listeners made after the fork
        for listener in spec.listeners:
            if listener.slot is not None:
                self._know(listener.slot, listener)

    def _know(self, slot: int, listener: Listener) -> bool:
        """Remember a listener; return True if it is new and may be adopted."""
        known = self._known.setdefault(slot, {})
        if slot == self._spec.slot or listener.kind is ListenerKind.DATAGRAM or listener.address in known:
            return False
        known[listener.address] = listener
        return True

    def adopt(self, slots: Collection[int]) -> None:
        """Accept at the listeners of exactly these foreign slots from now on. Listeners of unknown slots may follow."""
        if self._is_over:
            return
        before, self._wanted = self._wanted, frozenset(slots)
        for slot in before - self._wanted:
            for acceptor in self._acceptors.get(slot, ()):
                acceptor.pause()
        for slot in self._wanted - before:
            self._start(slot)

    def queue_of(self, slot: int) -> Any:
        """Return the queue for connections that are passed to a foreign slot; None if it is unknown."""
        listener = self._known.get(slot, {}).get(PASSED)
        return None if listener is None else listener.sock

    def learn(self, order: Learn, descriptors: Sequence[int]) -> None:
        """Take over the listeners of a new slot; close those that are not needed.

        Raises `ValueError` for an invalid order, and closes all of them.
        """
        try:
            kinds = [ListenerKind(kind) for kind in order.kinds]
            if (
                not len(kinds) == len(order.addresses) == len(descriptors)
            ):  # fewer arrive if this process is out of descriptors
                raise ValueError(f"{len(descriptors)} descriptors for {len(order.addresses)} listeners")
            socks = _sockets(descriptors)
        except ValueError:
            close_all(descriptors)
            raise
        for address, kind, sock in zip(order.addresses, kinds, socks, strict=True):
            sock.setblocking(False)
            if self._know(order.slot, Listener(address, kind, sock, order.slot)):
                self._learned.append(sock)
            else:
                sock.close()
        if order.slot in self._wanted:
            self._start(order.slot)

    def end(self) -> list[Acceptor]:
        """Stop adopting; return the active acceptors, for the caller to stop.

        The connections that wait there may have no other worker: when the service ends, all siblings stop too.
        """
        ended = [acceptor for slot in self._wanted for acceptor in self._acceptors.get(slot, ())]
        self.adopt(())
        self._is_over = True
        return ended

    def acceptors_at(self, slots: Collection[int]) -> list[Acceptor]:
        """Return acceptors for the queues of these slots without starting them: the caller empties the queues once."""
        for slot in slots:
            self._open(slot)
        return [acceptor for slot in slots for acceptor in self._acceptors.get(slot, ())]

    def forget(self) -> None:
        """Close learned sockets: this process becomes a zygote, which gets all listeners anew."""
        for sock in self._learned:
            sock.close()
        self._learned.clear()

    def _start(self, slot: int) -> None:
        """Accept at the known listeners of a slot."""
        for acceptor in self._open(slot):
            try:
                acceptor.start()
            except (OSError, ValueError) as error:  # ENOSPC, ENOMEM; select(2) and a large descriptor
                acceptor.pause()
                _log.error("cannot accept connections queued at slot %d: %s", slot, error)

    def _open(self, slot: int) -> list[Acceptor]:
        acceptors = self._acceptors.setdefault(slot, [])
        for listener in list(self._known.get(slot, {}).values())[len(acceptors) :]:
            acceptors.append(self._open_acceptor(listener))
        return acceptors


def _sockets(descriptors: Sequence[int]) -> list[Any]:
    """Return descriptors as sockets: not as `socket.socket`, which gevent may have patched to create watchers.

    Raises `ValueError` if one is not a socket; the caller then still owns all of them.
    """
    socks: list[Any] = []
    try:
        for fd in descriptors:
            socks.append(_socket.socket(fileno=fd))
    except OSError as error:  # ENOTSOCK
        for sock in socks:
            sock.detach()
        raise ValueError(str(error)) from error
    return socks


def close_all(descriptors: Sequence[int]) -> None:
    """Close descriptors that are not needed."""
    for fd in descriptors:
        with contextlib.suppress(OSError):
            os.close(fd)
