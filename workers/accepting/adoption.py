"""Adopting the accept queues of other slots: what waits at a worker that is stalled or dead is served by its siblings.

The supervisor names the slots, all of them each time, and tells of listeners that were made after this worker's fork.
Only streams are adopted: a datagram's sender keeps its worker. Sockets that belong to no slot are polled by all anyway.
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

_log = logging.getLogger("hybrid")


class Adoption:
    """The listeners of a worker's siblings. Belongs to the loop's thread."""

    def __init__(self, spec: WorkerSpec, open_acceptor: Callable[[Listener], Acceptor]) -> None:
        self._spec = spec
        self._open_acceptor = open_acceptor
        self._known: dict[int, dict[str, Listener]] = {}  # foreign slot -> address -> its stream listener
        self._acceptors: dict[int, list[Acceptor]] = {}  # foreign slot that was adopted once -> all of its acceptors
        self._wanted: frozenset[int] = frozenset()  # slots that are adopted
        self._is_over = False
        self._learned: list[Any] = []  # sockets of listeners that were made after the fork
        for listener in spec.listeners:
            if listener.slot is not None:
                self._know(listener.slot, listener)

    def _know(self, slot: int, listener: Listener) -> bool:
        """Remember a listener; tell whether it is a new one that may have to be adopted one day."""
        known = self._known.setdefault(slot, {})
        if slot == self._spec.slot or listener.kind is not ListenerKind.STREAM or listener.address in known:
            return False
        known[listener.address] = listener
        return True

    def adopt(self, slots: Collection[int]) -> None:
        """From now on accept at the listeners of these slots, and of no other foreign ones. Unknown ones may follow."""
        if self._is_over:
            return
        before, self._wanted = self._wanted, frozenset(slots)
        for slot in before - self._wanted:
            for acceptor in self._acceptors.get(slot, ()):
                acceptor.pause()
        for slot in self._wanted - before:
            self._start(slot)

    def learn(self, order: Learn, descriptors: Sequence[int]) -> None:
        """Take over the listeners of a slot that was added; close those that are not needed.

        Raises `ValueError` for an order that cannot be, and closes all of them.
        """
        try:
            kinds = [ListenerKind(kind) for kind in order.kinds]
            if not len(kinds) == len(order.addresses) == len(descriptors):  # fewer come where this process has no room
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
        """The worker stops: adopt no more; return the acceptors that were at work, for them to be stopped.

        Connections that wait there now may have no other worker: at the end of the service all siblings stop too.
        """
        ended = [acceptor for slot in self._wanted for acceptor in self._acceptors.get(slot, ())]
        self.adopt(())
        self._is_over = True
        return ended

    def acceptors_at(self, slots: Collection[int]) -> list[Acceptor]:
        """Return acceptors of the queues of these slots, without starting them: for the caller to empty once."""
        for slot in slots:
            self._open(slot)
        return [acceptor for slot in slots for acceptor in self._acceptors.get(slot, ())]

    def forget(self) -> None:
        """Close what was learned: this process is to be a zygote, and is taught all of it anew."""
        for sock in self._learned:
            sock.close()
        self._learned.clear()

    def _start(self, slot: int) -> None:
        """Accept at the listeners of a slot that are known by now."""
        for acceptor in self._open(slot):
            try:
                acceptor.start()
            except (OSError, ValueError) as error:  # ENOSPC, ENOMEM; select(2) and a large descriptor
                acceptor.pause()
                _log.error("cannot accept what waits at slot %d: %s", slot, error)

    def _open(self, slot: int) -> list[Acceptor]:
        acceptors = self._acceptors.setdefault(slot, [])
        for listener in list(self._known.get(slot, {}).values())[len(acceptors) :]:
            acceptors.append(self._open_acceptor(listener))
        return acceptors


def _sockets(descriptors: Sequence[int]) -> list[Any]:
    """Return descriptors as sockets: not as `socket.socket`, which gevent may have replaced by one that has watchers.

    Raises `ValueError` if one of them is none; they stay the caller's then.
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
