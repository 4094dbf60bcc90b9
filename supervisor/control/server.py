"""All clients of the control line: accepts them, refuses those that may not look, and drops those that do not read.

The owner waits for the descriptors (`Watches`), and calls `take` for each that is ready and `advance` once a turn. Both
return requests; each is answered once by `answer` or `refuse`, now or later. Without clients, nothing is ever due.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, Protocol

from hybrid.supervisor.control import requests as known
from hybrid.supervisor.control.address import ControlSocket
from hybrid.supervisor.control.clients import Client, Request
from hybrid.supervisor.control.lines import Encoded, UnencodableError, encode
from hybrid.supervisor.control.rights import ControlGroup, Peer, Rights, peer_of, rights_of
from hybrid.workers.contract.log import LOGGER_NAME

PROTOCOL: Final = 1
"""The version in the first line."""
MOST_CLIENTS: Final = 16
"""Further ones are refused."""
MOST_LOOKERS: Final = 12
"""Of these, clients that may only look: root and the own account always find a place beside them."""
MOST_UNSENT_OF_ALL: Final = 3 * 1024 * 1024
"""Bytes that wait for all clients; the one for which most wait is dropped when there are more."""
PAUSE: Final = 1.0
"""Seconds without accepting, after the kernel had no descriptor or no memory for a client."""
_MOST_LOGGED: Final = 64  # accounts whose refusal is logged
_TRANSIENT: Final = frozenset((errno.EAGAIN, errno.EWOULDBLOCK, errno.ECONNABORTED, errno.EINTR))

logger = logging.getLogger(LOGGER_NAME)


class Watches(Protocol):
    """The part of the kernel interface that says which descriptors to wait for."""

    def watch(self, fd: int, *, reads: bool = True, writes: bool = False) -> None:
        """Take a descriptor, or change what it is watched for."""

    def unwatch(self, fd: int) -> None:
        """Forget a descriptor."""


class ControlLine:
    """The control line of one supervisor. No method blocks, and none raises because of what a client does."""

    def __init__(
        self,
        address: ControlSocket | None,
        watches: Watches,
        greeting: Mapping[str, object],
        group: ControlGroup | None = None,
        owner: int | None = None,
        recent: Callable[[], Sequence[Mapping[str, object]]] = tuple,
    ) -> None:
        """Begin to listen at `address`; None: not before `listen`.

        `greeting`: the fields of the first line beside `protocol`; `owner`: a uid, None: ours. `recent` returns the
        last events.
        """
        self.address: ControlSocket | None = None
        """Where it listens; None: nowhere yet."""
        self._watches = watches
        self._recent = recent
        self._greeting = {"protocol": PROTOCOL, **greeting}
        self._group = group
        self._owner = os.geteuid() if owner is None else owner
        self._clients: dict[int, Client] = {}  # descriptor -> client
        self._interests: dict[int, tuple[bool, bool]] = {}  # descriptor -> what it is watched for
        self._refused: set[int] = set()  # uids whose refusal is logged
        self._paused_until: float | None = None  # when to accept again
        self._is_scarce = False  # the last accept failed
        self._is_open = True
        if address is not None:
            self.listen(address)

    def listen(self, address: ControlSocket) -> None:
        """Begin to listen."""
        self.address = address
        self._watches.watch(address.sock.fileno())

    def connect(self, rights: Rights) -> socket.socket:
        """Return the other end of a new connection with these rights, for a child. Raises `OSError`.

        It counts towards no limit of clients, and needs no address.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._welcome(Client(ours, peer_of(ours), rights, self._recent))
        except OSError:
            ours.close()
            theirs.close()
            raise
        return theirs

    @property
    def descriptors(self) -> Collection[int]:
        """The descriptors for which `take` is to be called when they are ready."""
        listening = () if self.address is None else (self.address.sock.fileno(),)
        return (*listening, *self._clients) if self._is_open else ()

    @property
    def clients(self) -> int:
        """The number of connected clients."""
        return len(self._clients)

    @property
    def size(self) -> int:
        """The bytes that are kept of all clients and for them."""
        return sum(client.size for client in self._clients.values())

    @property
    def has_subscribers(self) -> bool:
        """True if a client gets events."""
        return any(client.is_subscriber for client in self._clients.values())

    @property
    def due(self) -> float | None:
        """When to call `advance` even if no descriptor is ready, in monotonic seconds; None: never."""
        if not self._clients and self._paused_until is None:
            return None
        due = self._paused_until
        for client in self._clients.values():
            when = 0.0 if client.has_line else client.due
            if when is not None and (due is None or when < due):
                due = when
        return due

    def take(self, fd: int, now: float) -> list[Request]:
        """Handle a ready descriptor; return the requests it brought. No effect if it is none of ours."""
        client = self._clients.get(fd)
        if client is not None:
            client.receive(now)
            return self._take(client)
        if self._is_open and self.address is not None and fd == self.address.sock.fileno():
            self._accept(self.address.sock, now)
        return []

    def advance(self, now: float) -> list[Request]:
        """Handle what is due; return the requests of clients that had sent more than one turn takes."""
        if self._paused_until is not None and self._paused_until <= now:
            self._paused_until = None
            if self.address is not None:
                self._watches.watch(self.address.sock.fileno())
        requests: list[Request] = []
        for client in list(self._clients.values()):
            if client.has_line:
                requests += self._take(client)
            elif client.due is not None and client.due <= now:
                client.expire()
                self._settle(client)
        return requests

    def answer(self, request: Request, result: Mapping[str, object] | Encoded | None = None) -> None:
        """Answer a request with a JSON object; no effect if it was answered, or its client is gone."""
        request.client.answer(request, result or {})
        self._settle(request.client)

    def refuse(self, request: Request, code: str, reason: str) -> None:
        """Answer a request with an error; `code` is one of `requests.CODES`."""
        request.client.refuse(request, code, reason)
        self._settle(request.client)

    def progress(self, request: Request, fields: Mapping[str, object]) -> None:
        """Report how far a request is, any number of times before its answer."""
        request.client.progress(request, fields)
        self._settle(request.client)

    def publish(self, event: Mapping[str, object]) -> None:
        """Send an event, a JSON object with the field `event`, to all subscribers. Logs nothing above DEBUG."""
        subscribers = [client for client in self._clients.values() if client.is_subscriber]
        if not subscribers:
            return
        try:
            line = encode(event)
        except UnencodableError as error:
            logger.debug("control: an event cannot be encoded: %s", error)
            return
        for client in subscribers:
            client.send(line)
            self._settle(client)

    def flush(self) -> None:
        """Send what there is room for, without waiting. `take` does so by itself when there is room again."""
        for client in list(self._clients.values()):
            client.flush()
            self._settle(client)

    def close(self) -> None:
        """End: refuse the open requests, close all connections, remove the file. May be called twice."""
        if not self._is_open:
            return
        self._is_open = False
        self._paused_until = None
        if self.address is not None:
            self._watches.unwatch(self.address.sock.fileno())
            self.address.close()
        for client in list(self._clients.values()):
            for request in list(client.open):
                client.refuse(request, known.STOPPING, "the supervisor ends")
            client.drop()
            self._settle(client)

    def close_in_child(self) -> None:
        """Close the descriptors in a child, and change nothing for the supervisor and its clients."""
        self._is_open = False
        if self.address is not None:
            self.address.close_in_child()
        for client in self._clients.values():
            client.sock.close()
        self._clients.clear()

    # --- clients

    def _accept(self, listening: socket.socket, now: float) -> None:
        try:
            sock, _ = listening.accept()
        except OSError as error:
            if error.errno not in _TRANSIENT:
                self._watches.unwatch(listening.fileno())
                self._pause(now, error)
            return
        self._is_scarce = False
        try:
            peer = peer_of(sock)
        except OSError as error:
            logger.debug("control: cannot ask for the account of a client: %s", error)
            sock.close()
            return
        client = Client(sock, peer, rights_of(peer, self._owner, self._group), self._recent)
        if (refusal := self._why_not(client)) is not None:
            code, reason = refusal
            client.greet({"error": {"code": code, "reason": reason}})
            client.close()
            return
        self._welcome(client)

    def _welcome(self, client: Client) -> None:
        self._clients[client.sock.fileno()] = client
        client.greet(self._greeting)
        self._settle(client)

    def _pause(self, now: float, error: OSError) -> None:
        """Stop accepting for a while: the listening socket stays readable, and would keep the supervisor busy."""
        self._paused_until = now + PAUSE
        if not self._is_scarce:
            self._is_scarce = True
            logger.warning("control: cannot accept: %s; trying again", (error.strerror or str(error)).lower())

    def _why_not(self, client: Client) -> tuple[str, str] | None:
        """Return code and reason of the refusal of a new client, or None."""
        if client.rights is Rights.NONE:
            self._log_refusal(client.peer)
            return known.REFUSED, f"uid {client.peer.uid} is neither the supervisor's account nor in its control group"
        if len(self._clients) >= MOST_CLIENTS:
            return known.BUSY, f"{MOST_CLIENTS} clients are connected"
        lookers = sum(other.rights is Rights.LOOK for other in self._clients.values())
        if client.rights is Rights.LOOK and lookers >= MOST_LOOKERS:
            return known.BUSY, f"{MOST_LOOKERS} clients of the control group are connected"
        return None

    def _log_refusal(self, peer: Peer) -> None:
        """Log the first refusal of each account."""
        if peer.uid not in self._refused and len(self._refused) < _MOST_LOGGED:
            self._refused.add(peer.uid)
            logger.warning("control: refused uid %d (pid %d); further attempts are not logged", peer.uid, peer.pid)

    def _take(self, client: Client) -> list[Request]:
        requests = client.take()
        self._settle(client)
        return requests

    def _settle(self, client: Client) -> None:
        """After each change of a client: close it, or tell the kernel what to wait for."""
        if not client.is_over and client.unsent and self._unsent() > MOST_UNSENT_OF_ALL:
            worst = max(self._clients.values(), key=lambda other: other.unsent)
            worst.drop()
            if worst is not client:
                self._settle(worst)
        fd = client.sock.fileno()
        if self._clients.get(fd) is not client:
            return
        if client.is_over:
            self._watches.unwatch(fd)
            del self._clients[fd]
            self._interests.pop(fd, None)
            client.close()
        elif self._interests.get(fd) != client.interest:
            self._interests[fd] = client.interest
            reads, writes = client.interest
            self._watches.watch(fd, reads=reads, writes=writes)

    def _unsent(self) -> int:
        return sum(client.unsent for client in self._clients.values())
